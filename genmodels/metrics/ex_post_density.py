"""Densities fitted to a trained model's latents, which take the place of its prior."""

import logging
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from genmodels.data.images import ImageData, ImageSet
from genmodels.errors import require
from genmodels.metrics.aggregated_posterior import posteriors
from genmodels.models.generative import GenerativeModel
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.priors import Prior
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, derive_seed, generator
from genmodels.registry import Spec

log = logging.getLogger(__name__)

SEED = derive_seed(CONSTANT_SEED, "mixture")


@dataclass(frozen=True)
class Latents:
    """One z ~ q(z|x) for each of N images."""

    z: Tensor  # (N, D) float64
    labels: Tensor  # (N,) int64


def prior(model: GenerativeModel, data: ImageData | None, components: int) -> Prior:
    """The one that the model was trained with."""
    return model.prior


def gmm(model: VAE, data: ImageData, components: int) -> GaussianMixture:
    """A Gaussian mixture fitted to z ~ q(z|x) of the training images; of each class in a
    conditional model, whose decoder is told the class that z belongs to.

    Seeds are constant. Logs the log density of latents of test images, which were not fitted: by as
    much as it exceeds that under the prior, the ELBO gains with the mixture as prior. Warns where
    it is lower: the mixture has then overfitted.

    Arguments:
    model: which was trained.
    data: on which.
    components: of the mixture; of a conditional model they are divided among the classes.

    Raises ValueError for more components than images.
    """
    start = time.perf_counter()
    fitted = latents(model, data.train)
    if model.num_classes:
        mixture = _fit_classes(fitted, model.num_classes, components)
    else:
        mixture = _fit(fitted.z, components)
    held_out = latents(model, data.test)
    log_density = _mean_log_prob(mixture, held_out)
    under_prior = _mean_log_prob(model.prior, held_out)
    log.info(
        "z ~ %s: %s images, %.1f s; log density of test latents %.2f nats (of training latents "
        "%.2f), under %s %.2f",
        mixture.formula(),
        f"{len(fitted.z):,}",
        time.perf_counter() - start,
        log_density,
        _mean_log_prob(mixture, fitted),
        model.prior.formula(),
        under_prior,
    )
    if log_density < under_prior:
        log.warning(
            "components=%d: new latents are less probable under the mixture than under the prior; "
            "%s latents of %d dimensions are not enough for so many components. Try fewer, or "
            "density=prior",
            components,
            f"{len(fitted.z):,}",
            model.latent_dim,
        )
    return mixture


def latents(model: VAE, split: ImageSet) -> Latents:
    """z ~ q(z|x) of the images of a split, drawn with a constant seed."""
    q = posteriors(model, split)
    return Latents(q.sample(generator(CONSTANT_SEED, "codes")), q.labels)


def _fit_classes(fitted: Latents, num_classes: int, components: int) -> GaussianMixture:
    of_class = max(components // num_classes, 1)
    mixtures = []
    for label in range(num_classes):
        mixtures.append(_fit(fitted.z[fitted.labels == label], of_class))
    return GaussianMixture.of_classes(mixtures)


def _fit(z: Tensor, components: int) -> GaussianMixture:
    legal = f"at most {len(z)}, the number of training images"
    require(components <= len(z), "components", components, legal)
    return GaussianMixture.fit(z, components, SEED)


@torch.no_grad()
def _mean_log_prob(density: Prior, latents: Latents) -> float:
    z, labels = latents.z.to(density.device), latents.labels.to(density.device)
    return density.log_prob(z, labels).mean().item()


DENSITIES = {
    "prior": Spec(prior),
    "gmm": Spec(gmm, data=True),
}
