"""A density fitted to a trained model's codes, to draw samples from: what its prior leaves on the table."""

import logging
import time

import torch

from genmodels.data.images import ImageData, ImageSet
from genmodels.errors import require
from genmodels.metrics.aggregated_posterior import posteriors
from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import GaussianMixture, Prior, StandardNormal
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, derive_seed, generator
from genmodels.registry import Spec

log = logging.getLogger(__name__)

MOST = 20_000  # training images whose codes are fitted; more take longer


def prior(model: GenerativeModel, data: ImageData | None, components: int) -> Prior:
    """The one that the model was trained with."""
    return model.prior


def gmm(model: VAE, data: ImageData, components: int) -> GaussianMixture:
    """A Gaussian mixture fitted to z ~ q(z|x), one for each of up to MOST training images drawn at random.

    Of a conditional model too: its prior over z knows no labels. Seeds are constant. Logs the density of codes of test
    images, which were not fitted: by what it exceeds that under N(0, I), the ELBO gains with the mixture as prior.
    Warns where it falls short: the mixture has then learnt its codes by heart.
    """
    start = time.perf_counter()
    count = min(len(data.train), MOST)
    require(
        components <= count,
        "components",
        components,
        f"at most {count}, the number of training images",
    )
    fitted, held_out = codes(model, data.train, count), codes(model, data.test, len(data.test))
    mixture = GaussianMixture.fit(fitted, components, derive_seed(CONSTANT_SEED, "mixture"))
    normal = StandardNormal(model.latent_dim)
    density, before = (of_z.log_prob(held_out).mean().item() for of_z in (mixture, normal))
    log.info(
        "z ~ %s: %s images, %.1f s; log density of test codes %.2f nats (of training codes %.2f), under %s %.2f",
        mixture.formula(),
        f"{count:,}",
        time.perf_counter() - start,
        density,
        mixture.log_prob(fitted).mean(),
        normal.formula(),
        before,
    )
    if density < before:
        log.warning(
            "components=%d: new codes are less probable under the mixture than under the prior; %s codes of %d "
            "dimensions are not enough for so many. Try fewer, or density=prior",
            components,
            f"{count:,}",
            model.latent_dim,
        )
    return mixture


def codes(model: VAE, part: ImageSet, count: int) -> torch.Tensor:
    """z ~ q(z|x) of `count` images of a part, drawn at random with a constant seed, (count, D) float64."""
    noise = generator(CONSTANT_SEED, "codes")
    return posteriors(model, part.subset(count, noise)).sample(noise)


DENSITIES = {
    "prior": Spec(prior),
    "gmm": Spec(gmm, data=True),
}
