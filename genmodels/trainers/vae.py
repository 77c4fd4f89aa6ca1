"""The update of a variational autoencoder, conditional or not, under any objective."""

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from genmodels.data.images import Batch, ImageSet, binarise, drop_labels
from genmodels.errors import require
from genmodels.losses.objectives import Objective
from genmodels.losses.vae import VAELoss
from genmodels.metrics import collapse
from genmodels.metrics.diagnosis import diagnose
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import Verdict
from genmodels.models.batch_norm_statistics import recompute_statistics
from genmodels.models.vae import VAE
from genmodels.randomness import normal
from genmodels.schedules import Schedule
from genmodels.tensor_checks import check_tensors
from genmodels.trainers.updater import Updater

log = logging.getLogger(__name__)

# Values of an image for which clip_norm is chosen. The loss is a sum over them: n times as many
# give a gradient sqrt(n) times as large where their gradients are independent, up to n times where
# they are alike (on MNIST resized to sides of 14, 28 and 56 its median norm is 56, 307 and 2,052).
CLIP_NORM_VALUES = 28 * 28


class VAETrainer:
    """Trains encoder and decoder together on a stochastic estimate of the objective."""

    evaluates = ("elbo", "bits_per_dimension")  # quantities that `evaluate` gives, to select by

    def __init__(
        self,
        model: VAE,
        *,
        updater: Callable[..., Updater[VAE]],
        objective: Objective,
        kl_weight: float | None,
        kl_schedule: Schedule | None,
        binarise: bool,
    ) -> None:
        """Arguments:
        model: which is trained.
        updater: called with the model.
        objective: what is minimised.
        kl_weight: 1 is the ELBO; None, like its schedule, where the objective learns it.
        kl_schedule: progress in [0, 1] -> multiplier of the KL weight.
        binarise: draw each training image black and white anew at every step, which a Bernoulli
            likelihood needs for an honest ELBO. Evaluations do so for such a likelihood in any
            case.
        """
        likelihood = model.likelihood
        if objective.learns_weight:
            require(
                kl_weight is None,
                "kl_weight",
                kl_weight,
                f"left out (~kl_weight) with {type(objective).__name__}, which learns it",
            )
        else:
            require(
                kl_weight is not None and 0 <= kl_weight < float("inf"),
                "kl_weight",
                kl_weight,
                "a finite number >= 0 (1 is the ELBO)",
            )
        require(
            likelihood.binary or not binarise,
            "binarise",
            binarise,
            f"false for {type(likelihood).__name__}, which is not for black and white images",
        )
        require(
            model.image_shape[0] == 1 or not likelihood.binary,
            "likelihood",
            type(likelihood).__name__,
            "one for colours, such as discretised_logistic or gaussian_optimal: this one is for "
            "black and white",
        )
        require(
            likelihood.binary or likelihood.quantised or not objective.limits_share,
            "distortion",
            "null",
            f"a limit in nats per image with {type(likelihood).__name__}, whose log_prob is of a "
            "density: a share of it would depend on the unit of brightness",
        )
        self.trains_on_gray = model.binary and not binarise
        if self.trains_on_gray:
            log.warning(
                "trainer.binarise=false: training sees gray values; evaluations draw them black "
                "and white all the same, so that the ELBO compares with other models' of this "
                "likelihood"
            )
        self.model = model
        self.kl_weight = kl_weight
        self.kl_schedule = kl_schedule
        self.binarise = binarise
        clip_scale = math.sqrt(math.prod(model.image_shape) / CLIP_NORM_VALUES)
        self.updater = updater(model=model, clip_scale=clip_scale)
        self.objective = objective.to(self.updater.device)
        self.loss = VAELoss(model, self.objective)

    @property
    def inference_model(self) -> VAE:
        """The model with averaged weights."""
        return self.updater.average

    def plan(self, step: int, total: int) -> dict[str, float]:
        """What changes over time by plan: KL weight, the objective's own, learning rate."""
        progress = step / total
        planned = self.objective.plan(progress) | {"lr": self.updater.learning_rate(step, total)}
        weight = self.scheduled_kl_weight(progress)
        return planned if weight is None else {"kl_weight": weight} | planned

    def scheduled_kl_weight(self, progress: float) -> float | None:
        """The KL weight at a progress in [0, 1]; None where the objective learns it."""
        if self.kl_weight is None or self.kl_schedule is None:
            return self.kl_weight
        return self.kl_weight * self.kl_schedule(progress)

    def inputs(self, batch: Batch) -> Tensor:
        """The images (B, C, H, W) as the model sees them: drawn black and white, if `binarise`."""
        return binarise(batch.images) if self.binarise else batch.images

    def noise(self, images: Tensor, progress: float) -> Tensor:
        """Standard normal, of which z is made: (B, D), or (k, B, D) for k > 1 samples of z."""
        shape: tuple[int, ...] = (len(images), self.model.latent_dim)
        samples = self.objective.samples(progress)
        if samples > 1:
            shape = (samples, *shape)
        return normal(shape, dim=-2, device=images.device)

    def update(self, batch: Batch, step: int, total: int) -> dict[str, Tensor]:
        """One step on a batch.

        Returns the batch means of the terms, in nats per image, the multipliers that the objective
        applied, the gradient's norm and whether it was clipped.
        """
        progress = step / total
        images = self.inputs(batch)
        labels = drop_labels(batch.labels, self.model.label_dropout)
        noise = self.noise(images, progress)
        weight = self.scheduled_kl_weight(progress)
        with self.updater.autocast():
            terms = self.loss(images, labels, noise, weight, progress)
        loss = terms.loss.mean()
        distortion = terms.distortion.detach().mean()
        kl = terms.kl.detach().sum() / len(images)
        means = {"loss": loss.detach(), "elbo": -distortion - kl, "distortion": distortion}
        means |= {"kl": kl} | self.objective.multipliers()
        means |= self.updater.update(loss, means, step, total)
        self.objective.update_multipliers(means["distortion"], means["kl"], progress)
        return means

    def recompute_statistics(self, batches: Iterable[Batch]) -> None:
        """BatchNorm's statistics of the averaged encoder and decoder."""
        model = self.inference_model

        def forward(batch: Batch) -> None:
            labels = drop_labels(batch.labels, model.label_dropout)
            posterior = model.encode(self.inputs(batch), labels)
            noise = normal(posterior.mean.shape, device=posterior.mean.device)
            model.decode(posterior.rsample(noise), labels)

        recompute_statistics((model,), batches, forward)

    def evaluate(self, split: ImageSet) -> dict[str, Any]:
        """The ELBO of the averaged model at KL weight 1, its terms, and its latents' use.

        `trained_on_gray` is true, and else left out, where training does not binarise gray images,
        as this evaluation does.
        """
        metrics = collapse.quick_metrics(self.inference_model, split)
        return metrics | {"trained_on_gray": True} if self.trains_on_gray else metrics

    def diagnose(self, evaluation: Evaluation) -> Verdict:
        """The verdict on the averaged model."""
        return diagnose(self.inference_model, evaluation)

    def facts(self) -> dict[str, Any]:
        """What a nat of KL costs in training; None where the objective has no such price."""
        return {"kl_price": self.objective.kl_price(self.kl_weight)}

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs and that is not a function of the step."""
        return {"updater": self.updater.state_dict(), "objective": self.objective.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; under another objective (init_from) its state is new."""
        self.updater.load_state_dict(state["updater"])
        own = self.objective.state_dict()
        if state["objective"].keys() == own.keys():
            check_tensors(state["objective"], own)
            self.objective.load_state_dict(state["objective"])
