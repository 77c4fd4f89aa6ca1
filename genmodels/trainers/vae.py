"""The update of a variational autoencoder, conditional or not, under any objective."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor

from genmodels.data.images import Batch, ImageSet, binarise, drop_labels
from genmodels.errors import require
from genmodels.losses.objectives import ELBO, Objective
from genmodels.losses.vae import elbo_terms
from genmodels.metrics import collapse
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.vae_diagnosis import Verdict, examine, judge
from genmodels.models.vae import VAE
from genmodels.schedules import Schedule, constant
from genmodels.trainers.updater import Updater


class VAETrainer:
    """Trains encoder and decoder together on a stochastic estimate of the objective."""

    def __init__(
        self,
        model: VAE,
        *,
        updater: Callable[..., Updater],
        objective: Objective,
        kl_weight: float | None,
        kl_schedule: Schedule | None,
        binarise: bool | None,
    ) -> None:
        """updater: called with the model. kl_weight: 1 is the ELBO; None, as its schedule, where the objective finds
        it. binarise: draw each training image black and white anew at every step, which a Bernoulli likelihood needs
        for an honest ELBO; None: if they are gray, and the likelihood is such."""
        if objective.finds_weight:
            require(
                kl_weight is None,
                "kl_weight",
                kl_weight,
                f"left out (~kl_weight) with {type(objective).__name__}, which finds it itself",
            )
        else:
            require(
                kl_weight is not None and 0 <= kl_weight < float("inf"),
                "kl_weight",
                kl_weight,
                "a finite number >= 0 (1 is the ELBO)",
            )
        require(
            model.likelihood.binary or not binarise,
            "binarise",
            binarise,
            f"false for {type(model.likelihood).__name__}, which is not for black and white images",
        )
        require(
            model.image_shape[0] == 1 or not model.likelihood.binary,
            "likelihood",
            type(model.likelihood).__name__,
            "one for colours, such as discretised_logistic or gaussian_optimal: this one is for black and white",
        )
        self.model = model
        self.kl_weight = kl_weight
        self.kl_schedule = kl_schedule or constant
        self.kl_schedule(0.0)  # refuses its illegal parameters here, not when training has begun
        self.binarise = model.binary if binarise is None else binarise
        self.updater = updater(model=model)
        self.objective = objective.to(self.updater.device)

    @property
    def inference_model(self) -> VAE:
        """The model with averaged weights."""
        return cast(VAE, self.updater.average)

    def plan(self, step: int, total: int) -> dict[str, float]:
        """What changes over time by plan: what the objective plans and the learning rate at a step of `total`."""
        progress = step / total
        weight = (
            {}
            if self.kl_weight is None
            else {"kl_weight": self.kl_weight * self.kl_schedule(progress)}
        )
        return (
            weight | self.objective.plan(progress) | {"lr": self.updater.learning_rate(step, total)}
        )

    def inputs(self, batch: Batch) -> Tensor:
        """The images (B, C, H, W) as the model sees them: drawn black and white, if `binarise`."""
        return binarise(batch.images) if self.binarise else batch.images

    def update(self, batch: Batch, step: int, total: int) -> dict[str, Tensor]:
        """One step on a batch; returns the batch means of the terms, in nats per image, the multipliers that the
        objective applied, and the gradient's norm."""
        images = self.inputs(batch)
        labels = drop_labels(batch.labels, self.model.label_dropout)
        with self.updater.autocast():
            terms = elbo_terms(self.model, images, labels)
        weight, progress = self.plan(step, total).get("kl_weight"), step / total
        loss = self.objective(terms.distortion, terms.kl, weight, progress).mean()
        distortion, kl = terms.distortion.detach().mean(), terms.kl.detach().sum() / len(images)
        means = {
            "loss": loss.detach(),
            "elbo": -distortion - kl,
            "distortion": distortion,
            "kl": kl,
        }
        means |= self.objective.multipliers()
        means["gradient_norm"] = self.updater.update(loss, means, step, total)
        self.objective.observe(distortion, kl, progress)
        return means

    def evaluate(self, part: ImageSet) -> dict[str, Any]:
        """The ELBO of the averaged model at KL weight 1, its terms, and how it uses its latent space."""
        return collapse.glance(self.inference_model, part)

    def verdict(self, evaluation: Evaluation) -> Verdict:
        """What has become of the averaged model. The KL weight is its price of information under the plain objective
        only: the others make their own."""
        price = self.kl_weight if isinstance(self.objective, ELBO) else None
        return judge(examine(self.inference_model, evaluation.data, price))

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs and that is not a function of the step."""
        return {"updater": self.updater.state_dict(), "objective": self.objective.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; under another objective (init_from) the multipliers begin anew."""
        self.updater.load_state_dict(state["updater"])
        if state["objective"].keys() == self.objective.state_dict().keys():
            self.objective.load_state_dict(state["objective"])
