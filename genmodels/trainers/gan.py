"""The updates of a generative adversarial network, conditional or not, under any loss."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genmodels import parallel
from genmodels.data.augmentation import DiffAugment
from genmodels.data.images import Batch, ImageSet, drop_labels
from genmodels.errors import require
from genmodels.losses.adversarial import (
    AdversarialLoss,
    Penalty,
    interpolate,
    squared_gradient,
)
from genmodels.metrics import gan_diagnosis
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import Verdict
from genmodels.models.batch_norm_statistics import recompute_statistics
from genmodels.models.gan import GAN, Discriminator, Generator
from genmodels.randomness import normal
from genmodels.schedules import cosine_decay
from genmodels.trainers.updater import Updater


class Scored(NamedTuple):
    """Images (B, C, H, W) as D saw them, and its logits (B,)."""

    images: Tensor
    logits: Tensor


class GANTrainer:
    """Trains the discriminator D on every batch, the generator G on every `n_critic`-th."""

    evaluates = ()  # quantities that `evaluate` gives, to select by: none that compares models

    def __init__(
        self,
        model: GAN,
        *,
        generator: Callable[..., Updater[Generator]],
        discriminator: Callable[..., Updater[Discriminator]],
        adversarial_loss: AdversarialLoss,
        penalty: Penalty,
        diff_augment: DiffAugment,
        n_critic: int,
        instance_noise: float,
    ) -> None:
        """Arguments:
        model: both networks.
        generator: makes G's updater, called with G.
        discriminator: makes D's updater, called with D.
        adversarial_loss: of D and of G.
        penalty: on the gradients of D.
        diff_augment: of real and generated images, before D sees them.
        n_critic: steps of D for one of G. Steps of the run are D's.
        instance_noise: standard deviation of noise on all images that D sees, in images of the
            range [0, 1]; falls to 0 as half a cosine (Sonderby et al. 2017, "Amortised MAP
            inference for image super-resolution", section 3.3).
        """
        require(n_critic >= 1, "n_critic", n_critic, "an integer >= 1")
        require(instance_noise >= 0, "instance_noise", instance_noise, "a number >= 0")
        require(
            not (penalty.active and model.discriminator.uses_batch_statistics),
            "discriminator_norm",
            "batch",
            "none or spectral with a penalty (r1, r2, gradient), which is on gradients of each "
            "image alone",
        )
        self.model = model
        self.adversarial_loss = adversarial_loss
        self.penalty = penalty
        self.diff_augment = diff_augment
        self.n_critic = n_critic
        self.instance_noise = instance_noise
        self.generator = generator(model=model.generator, steps_per_update=n_critic)
        self.discriminator = discriminator(model=model.discriminator)

    @property
    def inference_model(self) -> Generator:
        """The generator with averaged weights."""
        return self.generator.average

    def plan(self, step: int, total: int) -> dict[str, float]:
        """What changes over time by plan: learning rates, penalties, instance noise."""
        progress = step / total
        planned = {
            "generator_lr": self.generator.learning_rate(step, total),
            "discriminator_lr": self.discriminator.learning_rate(step, total),
        }
        r1, r2 = self.penalty.weights(progress)
        optional = {"r1": r1, "r2": r2, "instance_noise": self._noise(progress)}
        used = {"r1": r1 > 0, "r2": r2 > 0, "instance_noise": self.instance_noise > 0}
        return planned | {name: optional[name] for name in optional if used[name]}

    def inputs(self, batch: Batch) -> Tensor:
        """The images (B, C, H, W) as D sees them, before any instance noise."""
        return self.diff_augment(batch.images)

    def update(self, batch: Batch, step: int, total: int) -> dict[str, Tensor]:
        """One step of D on a batch, then one of G on the same generated images, where it is due."""
        real = batch.images
        generator = self.model.generator
        labels = drop_labels(batch.labels, generator.label_dropout)
        generator_is_due = (step + 1) % self.n_critic == 0
        z = _sample_latents(generator, labels)
        with torch.set_grad_enabled(generator_is_due), self.generator.autocast():
            fake = generator.generate(z, labels)
        terms = self.update_discriminator(real, fake.detach(), labels, step, total)
        if generator_is_due:
            terms |= self.update_generator(fake, real, labels, step, total)
        return terms

    def update_discriminator(
        self, real: Tensor, fake: Tensor, labels: Tensor, step: int, total: int
    ) -> dict[str, Tensor]:
        """Minimise E L_D(D(x), D(G(z))) + penalties over D, with G as it is.

        Arguments:
        real, fake: images (B, C, H, W) in [0, 1].
        labels: of both, (B,).
        step, total: of the run.

        Returns the batch means of the terms.
        """
        progress = step / total
        penalised = self.penalty.due(step)
        real = self._augment(real, progress).detach().requires_grad_(penalised)
        fake = self._augment(fake, progress).detach().requires_grad_(penalised)

        discriminator = self.model.discriminator
        # gradients of gradients are computed in float32
        with nullcontext() if penalised else self.discriminator.autocast():
            real_logits = discriminator(real, labels)
            fake_logits = discriminator(fake, labels)
        loss = self.adversarial_loss.discriminator(real_logits, fake_logits).mean()
        terms = {
            "discriminator_loss": loss.detach(),
            "real_logit": real_logits.detach().mean(),
            "fake_logit": fake_logits.detach().mean(),
            "real_above_fake": (real_logits > fake_logits).float().mean(),
        }
        if penalised:
            scored = Scored(real, real_logits), Scored(fake, fake_logits)
            penalty = self._penalty(*scored, labels, progress).mean()
            loss = loss + self.penalty.every * penalty
            terms["penalty"] = penalty.detach()
        return self.discriminator.update(loss, terms, step, total, prefix="discriminator_")

    def update_generator(
        self, fake: Tensor, real: Tensor, labels: Tensor, step: int, total: int
    ) -> dict[str, Tensor]:
        """Minimise E L_G(D(G(z)), D(x)) over G, with D as it is.

        Arguments:
        fake: generated images (B, C, H, W), still connected to G's weights.
        real: images with which a relative loss compares them.
        labels: of both, (B,).
        step, total: of the run.

        Returns the batch means of the terms.
        """
        progress = step / total
        discriminator = self.model.discriminator
        with self.discriminator.autocast():
            fake_logits = discriminator(self._augment(fake, progress), labels)
            real_logits = fake_logits
            if self.adversarial_loss.relative:
                with torch.no_grad():
                    real_logits = discriminator(self._augment(real, progress), labels)
        loss = self.adversarial_loss.generator(fake_logits, real_logits).mean()
        terms = {"generator_loss": loss.detach()}
        return self.generator.update(loss, terms, step, total, prefix="generator_")

    def recompute_statistics(self, batches: Iterable[Batch]) -> None:
        """BatchNorm's statistics of both averaged networks, each on what it sees in training."""
        generator, discriminator = self.generator.average, self.discriminator.average

        def forward(batch: Batch) -> None:
            labels = drop_labels(batch.labels, generator.label_dropout)
            fake = generator.generate(_sample_latents(generator, labels), labels)
            if discriminator.uses_batch_statistics:
                discriminator(self.diff_augment(batch.images), labels)
                discriminator(self.diff_augment(fake), labels)

        recompute_statistics((generator, discriminator), batches, forward)

    def evaluate(self, split: ImageSet) -> dict[str, Any]:
        """What images that were not trained on tell of both averaged networks."""
        return gan_diagnosis.quick_metrics(self.inference_model, split, self.discriminator.average)

    def diagnose(self, evaluation: Evaluation) -> Verdict:
        """The verdict on both averaged networks."""
        diagnosis = gan_diagnosis.diagnose(
            self.inference_model,
            evaluation,
            self.discriminator.average,
            saturates=self.adversarial_loss.saturates,
        )
        return gan_diagnosis.verdict_on(diagnosis)

    def facts(self) -> dict[str, Any]:
        """Nothing besides the settings."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs and that is not a function of the step."""
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])

    def _penalty(self, real: Scored, fake: Scored, labels: Tensor, progress: float) -> Tensor:
        """Of each pair of a real and a generated image, (B,)."""
        r1, r2 = self.penalty.weights(progress)
        penalty = torch.zeros_like(real.logits)
        if r1:
            penalty = penalty + 0.5 * r1 * squared_gradient(real.logits, real.images)
        if r2:
            penalty = penalty + 0.5 * r2 * squared_gradient(fake.logits, fake.images)
        if self.penalty.gradient:
            between = interpolate(real.images.detach(), fake.images.detach()).requires_grad_()
            logits = self.model.discriminator(between, labels)
            norm = (squared_gradient(logits, between) + 1e-12).sqrt()  # has no slope at 0
            penalty = penalty + self.penalty.gradient * (norm - 1).square()
        return penalty

    def _augment(self, images: Tensor, progress: float) -> Tensor:
        images = self.diff_augment(images)
        noise = self._noise(progress)
        if not noise:
            return images
        return images + noise * normal(images.shape, device=images.device)

    def _noise(self, progress: float) -> float:
        return self.instance_noise * cosine_decay(progress, 0.0)


def _sample_latents(generator: Generator, labels: Tensor) -> Tensor:
    """z (B, D) for a batch with these labels: this process's share of those for the whole batch."""
    labels = labels.repeat(parallel.count())
    return parallel.share(generator.prior.sample(len(labels), labels=labels))
