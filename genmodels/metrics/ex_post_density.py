"""Densities fitted to a trained model's latents, to draw samples from instead of its prior."""

import logging
import time

import torch
from torch import Tensor

from genmodels.data.images import ImageData, ImageSet
from genmodels.errors import require
from genmodels.metrics.aggregated_posterior import posteriors
from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import GaussianMixture, Prior
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, derive_seed, generator
from genmodels.registry import Spec

log = logging.getLogger(__name__)

MAX_FITTED = 20_000  # training images whose latents are fitted; more take longer


def prior(model: GenerativeModel, data: ImageData | None, components: int) -> Prior:
    """The one that the model was trained with."""
    return model.prior


def gmm(model: VAE, data: ImageData, components: int) -> GaussianMixture:
    """A Gaussian mixture fitted to z ~ q(z|x) of up to MAX_FITTED random training images.

    Of a conditional model too: its prior over z knows no labels. Seeds are constant. Logs the
    log density of latents of test images, which were not fitted: by as much as it exceeds that
    under the prior, the ELBO gains with the mixture as prior. Warns where it is lower: the mixture
    has then overfitted. Raises ValueError for more components than images.
    """
    start = time.perf_counter()
    count = min(len(data.train), MAX_FITTED)
    legal = f"at most {count}, the number of training images"
    require(components <= count, "components", components, legal)
    fitted = latents(model, data.train, count)
    held_out = latents(model, data.test, len(data.test))
    mixture = GaussianMixture.fit(fitted, components, derive_seed(CONSTANT_SEED, "mixture"))
    log_density = _mean_log_prob(mixture, held_out)
    under_prior = _mean_log_prob(model.prior, held_out)
    log.info(
        "z ~ %s: %s images, %.1f s; log density of test latents %.2f nats (of training latents "
        "%.2f), under %s %.2f",
        mixture.formula(),
        f"{count:,}",
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
            f"{count:,}",
            model.latent_dim,
        )
    return mixture


def latents(model: VAE, split: ImageSet, count: int) -> Tensor:
    """z ~ q(z|x) of `count` images of a split, drawn with a constant seed, (count, D) float64."""
    noise = generator(CONSTANT_SEED, "codes")
    q = posteriors(model, split.subset(count, noise))
    return q.sample(noise)


@torch.no_grad()
def _mean_log_prob(density: Prior, z: Tensor) -> float:
    log_prob = density.log_prob(z.to(density.device))
    return log_prob.mean().item()


DENSITIES = {
    "prior": Spec(prior),
    "gmm": Spec(gmm, data=True),
}
