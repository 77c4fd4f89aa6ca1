"""The updates of a generative adversarial network, conditional or not, under any adversarial loss."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor

from genmodels.data.images import Batch, DiffAugment, ImageSet, drop_labels
from genmodels.errors import require
from genmodels.losses.adversarial import AdversarialLoss, Penalty, between, squared_gradient
from genmodels.metrics import gan_diagnosis
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.vae_diagnosis import Verdict
from genmodels.models.gan import GAN, Discriminator, Generator
from genmodels.schedules import falling
from genmodels.trainers.updater import Updater

COLOUR_PACE = (
    0.2  # of the generator's learning rate: at the same one D wins on colour images of 64x64
)


class GANTrainer:
    """Trains the discriminator D on every batch, and the generator G after every `n_critic` of them."""

    def __init__(
        self,
        model: GAN,
        *,
        generator: Callable[..., Updater],
        discriminator: Callable[..., Updater],
        discriminator_lr: float | None,
        adversarial_loss: AdversarialLoss,
        penalty: Penalty,
        diff_augment: DiffAugment,
        n_critic: int,
        instance_noise: float,
    ) -> None:
        """generator, discriminator: what makes each player's updater, called with its network, and the second with its
        learning rate too; discriminator_lr None: the generator's, of colour images COLOUR_PACE of it. instance_noise:
        the standard deviation of noise on all images that D sees, in images of the range [0, 1]; falls to 0 as half a
        cosine (Sonderby et al. 2017, "Amortised MAP inference for image super-resolution", section 3.3)."""
        require(n_critic >= 1, "n_critic", n_critic, "an integer >= 1")
        require(
            discriminator_lr is None or discriminator_lr > 0,
            "discriminator_lr",
            discriminator_lr,
            "a number > 0, or null",
        )
        require(instance_noise >= 0, "instance_noise", instance_noise, "a number >= 0")
        require(
            not (penalty.active and model.discriminator.sees_batch),
            "discriminator_norm",
            "batch",
            "none or spectral with a penalty (r1, r2, gradient), which is on gradients of each image alone",
        )
        self.model = model
        self.adversarial_loss = adversarial_loss
        self.penalty = penalty
        self.diff_augment = diff_augment
        self.n_critic = n_critic
        self.instance_noise = instance_noise
        self.generator = generator(model=model.generator)
        pace = COLOUR_PACE if model.generator.image_shape[0] == 3 else 1.0
        self.discriminator = discriminator(
            model=model.discriminator, lr=discriminator_lr or pace * self.generator.lr
        )
        self.pixels = model.generator.image_shape[1] * model.generator.image_shape[2]

    @property
    def inference_model(self) -> Generator:
        """The generator with averaged weights."""
        return cast(Generator, self.generator.average)

    def plan(self, step: int, total: int) -> dict[str, float]:
        """What changes over time by plan, at a step of `total`."""
        r1, r2 = self.penalty.weights(self.pixels, step / total)
        return {
            "generator_lr": self.generator.learning_rate(step, total),
            "discriminator_lr": self.discriminator.learning_rate(step, total),
            **({"r1": r1} if r1 else {}),
            **({"r2": r2} if r2 else {}),
            **({"instance_noise": self._noise(step / total)} if self.instance_noise else {}),
        }

    def inputs(self, batch: Batch) -> Tensor:
        """The images (B, C, H, W) as D sees them, before any instance noise."""
        return self.diff_augment(batch.images)

    def update(self, batch: Batch, step: int, total: int) -> dict[str, Tensor]:
        """One step of D on a batch, and one of G where its turn has come, on the same generated images."""
        labels = drop_labels(batch.labels, self.model.generator.label_dropout)
        turn = (step + 1) % self.n_critic == 0
        z = self.model.generator.prior.sample(len(batch.images))
        with torch.set_grad_enabled(turn), self.generator.autocast():
            fake = self.model.generator.generate(z, labels)
        terms = self.update_discriminator(batch.images, fake.detach(), labels, step, total)
        return (
            terms | self.update_generator(fake, batch.images, labels, step, total)
            if turn
            else terms
        )

    def update_discriminator(
        self, real: Tensor, fake: Tensor, labels: Tensor, step: int, total: int
    ) -> dict[str, Tensor]:
        """D's half of the game: down E L_D(D(x), D(G(z))) + penalties, with G as it is.

        real, fake: (B, C, H, W) in [0, 1] of these labels (B,). Returns the terms, batch means.
        """
        discriminator, progress, steep = (
            self.model.discriminator,
            step / total,
            self.penalty.due(step),
        )
        real, fake = (
            self._shown(images, progress).detach().requires_grad_(steep) for images in (real, fake)
        )
        with (
            nullcontext() if steep else self.discriminator.autocast()
        ):  # gradients of gradients in float32
            real_logits, fake_logits = discriminator(real, labels), discriminator(fake, labels)
        loss = self.adversarial_loss.discriminator(real_logits, fake_logits).mean()
        terms = {
            "discriminator_loss": loss.detach(),
            "real_logit": real_logits.detach().mean(),
            "fake_logit": fake_logits.detach().mean(),
            "real_above_fake": (real_logits > fake_logits).float().mean(),
        }
        if steep:
            penalty = self._penalty(
                discriminator, (real, real_logits), (fake, fake_logits), labels, progress
            ).mean()
            loss, terms["penalty"] = loss + self.penalty.every * penalty, penalty.detach()
        norm = self.discriminator.update(loss, terms, step, total)
        return terms | {"discriminator_gradient_norm": norm}

    def update_generator(
        self, fake: Tensor, real: Tensor, labels: Tensor, step: int, total: int
    ) -> dict[str, Tensor]:
        """G's half of the game: down E L_G(D(G(z)), D(x)), with D as it is.

        fake: images that still lead back to G's weights; real: those that a relative loss compares them with.
        """
        discriminator, progress = self.model.discriminator, step / total
        with self.discriminator.autocast():
            fake_logits = discriminator(self._shown(fake, progress), labels)
            real_logits = fake_logits
            if self.adversarial_loss.relative:
                with torch.no_grad():
                    real_logits = discriminator(self._shown(real, progress), labels)
        loss = self.adversarial_loss.generator(fake_logits, real_logits).mean()
        terms = {"generator_loss": loss.detach()}
        return terms | {"generator_gradient_norm": self.generator.update(loss, terms, step, total)}

    def evaluate(self, part: ImageSet) -> dict[str, Any]:
        """What can be told of both averaged players from images that were not trained on."""
        return gan_diagnosis.glance(
            self.inference_model, part, cast(Discriminator, self.discriminator.average)
        )

    def verdict(self, evaluation: Evaluation) -> Verdict:
        """What has become of the averaged players."""
        return gan_diagnosis.judge(
            gan_diagnosis.examine(
                self.inference_model, evaluation, cast(Discriminator, self.discriminator.average)
            )
        )

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs and that is not a function of the step."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])

    def _penalty(
        self,
        discriminator: Discriminator,
        real: tuple[Tensor, Tensor],
        fake: tuple[Tensor, Tensor],
        labels: Tensor,
        progress: float,
    ) -> Tensor:
        """Of images with their logits, (B,)."""
        r1, r2 = self.penalty.weights(self.pixels, progress)
        total = torch.zeros_like(real[1])
        for weight, (images, logits) in ((r1, real), (r2, fake)):
            if weight:
                total = total + 0.5 * weight * squared_gradient(logits, images)
        if self.penalty.gradient:
            images = between(real[0].detach(), fake[0].detach()).requires_grad_()
            steepness = (
                squared_gradient(discriminator(images, labels), images) + 1e-12
            ).sqrt()  # no slope at 0
            total = total + self.penalty.gradient * (steepness - 1).square()
        return total

    def _shown(self, images: Tensor, progress: float) -> Tensor:
        images = self.diff_augment(images)
        noise = self._noise(progress)
        return images + noise * torch.randn_like(images) if noise else images

    def _noise(self, progress: float) -> float:
        return self.instance_noise * falling(progress, 0.0)
