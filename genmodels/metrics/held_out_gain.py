"""How far q(z) lies from the prior: by how much a density fitted to latents explains others better.

For any density r, E_q [log r(z) - log p(z)] = KL(q(z) || p(z)) - KL(q(z) || r(z)). On latents that
r was not fitted to, the mean of log r(z) - log p(z) is therefore, in expectation, a lower bound of
KL(q(z) || p(z)), for any prior p, in nats.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from genmodels.data.images import ImageSet
from genmodels.metrics.aggregated_posterior import posteriors
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.priors import Prior
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, derive_seed, generator

MAX_LATENTS = 10_000  # training images whose latents are looked at
FITTED = 0.75  # share of them that the density is fitted to; the others are held out
MAX_COMPONENTS = 10
# Fitted latents for each component, in units of D: with half as many a mixture overfits on MNIST.
LATENTS_PER_DIMENSION = 20
MIN_LATENTS = 50  # fewer say nothing
# A single Gaussian's covariance is shrunk as if so many more latents, in units of D, had been seen.
SHRINKAGE = 3
MIN_VARIANCE = 1e-6  # of a fitted Gaussian, as in GaussianMixture.fit


class Latents(NamedTuple):
    """z ~ q(z|x) (N, D) float64 of N images, with their labels (N,)."""

    z: Tensor
    labels: Tensor

    def of_class(self, label: int) -> "Latents":
        """Those of one class."""
        rows = self.labels == label
        return Latents(self.z[rows], self.labels[rows])


@dataclass(frozen=True)
class HeldOutGain:
    """By how much a fitted density explains held-out latents better than the prior does."""

    nats: float  # mean of log r(z) - log p(z)
    standard_error: float
    count: int  # of held-out latents
    components: int  # Gaussians of the fitted density; of a conditional model, for each class
    conditional: bool  # whether q(z|y) was compared class by class
    prior: str  # what p is, such as "N(0, I)"


@torch.no_grad()
def held_out_gain(model: VAE, train: ImageSet) -> HeldOutGain | None:
    """The gain on latents of training images; None where there are fewer than MIN_LATENTS.

    The fitted density is a mixture of up to MAX_COMPONENTS Gaussians with full covariances, so many
    as the latents suffice for, or one Gaussian with shrunk covariance. Samples of a conditional
    model combine a chosen y with z from the prior, so that q(z|y) must match it: there each class
    has one Gaussian, and the gain is the mean over held-out latents of all classes. Seeds are
    constant. Reseeds torch's global generators.
    """
    noise = generator(CONSTANT_SEED, "held-out gain")
    seen = posteriors(model, train.subset(MAX_LATENTS, noise))
    if len(seen.mean) < MIN_LATENTS:
        return None
    z = seen.sample(noise)
    count = int(FITTED * len(z))
    fitted = Latents(z[:count], seen.labels[:count])
    held_out = Latents(z[count:], seen.labels[count:])
    prior, conditional = model.prior, model.num_classes > 0
    components = 1 if conditional else _affordable_components(fitted.z)
    if conditional:
        gains = _gains_by_class(prior, fitted, held_out)
    else:
        density = _fit(fitted.z, components)
        gains = density.log_prob(held_out.z).double() - _log_prior(prior, held_out)
    return HeldOutGain(
        nats=gains.mean().item(),
        standard_error=gains.std().item() / len(gains) ** 0.5,
        count=len(gains),
        components=components,
        conditional=conditional,
        prior=prior.formula(),
    )


def _log_prior(prior: Prior, latents: Latents) -> Tensor:
    """log p(z) of latents, (N,) float64 on the CPU."""
    z, labels = latents.z.float().to(prior.device), latents.labels.to(prior.device)
    return prior.log_prob(z, labels).cpu().double()


def _affordable_components(z: Tensor) -> int:
    count, dimensions = z.shape
    affordable = count // (LATENTS_PER_DIMENSION * dimensions)
    return max(1, min(affordable, MAX_COMPONENTS))


def _fit(z: Tensor, components: int) -> GaussianMixture | MultivariateNormal:
    if components > 1:
        return GaussianMixture.fit(z, components, derive_seed(CONSTANT_SEED, "mixture"))
    variances = z.var(dim=0, correction=0)
    return _shrunk_gaussian(z, torch.diag(variances))


def _gains_by_class(prior: Prior, fitted: Latents, held_out: Latents) -> Tensor:
    """log r(z|y) - log p(z) of the held-out latents (N,) whose classes were fitted."""
    classes = fitted.labels.unique().tolist()
    pooled = _within_class_covariance(fitted, classes)
    gains = []
    for label in classes:
        density = _shrunk_gaussian(fitted.of_class(label).z, pooled)
        others = held_out.of_class(label)
        gains.append(density.log_prob(others.z) - _log_prior(prior, others))
    return torch.cat(gains)


def _within_class_covariance(latents: Latents, classes: list[int]) -> Tensor:
    """(D, D) of latents around the mean of their class."""
    dimensions = latents.z.shape[1]
    total = torch.zeros(dimensions, dimensions, dtype=torch.float64)
    for label in classes:
        z = latents.of_class(label).z
        total += len(z) * torch.cov(z.T, correction=0).view(dimensions, dimensions)
    return total / len(latents.z)


def _shrunk_gaussian(z: Tensor, target: Tensor) -> MultivariateNormal:
    """A Gaussian with the mean of z (N, D), and a covariance between theirs and a target (D, D)."""
    count, dimensions = z.shape
    covariance = torch.cov(z.T, correction=0).view(dimensions, dimensions)
    weight = SHRINKAGE * dimensions
    shrunk = (count * covariance + weight * target) / (count + weight)
    smallest = MIN_VARIANCE * torch.eye(dimensions, dtype=torch.float64)
    return MultivariateNormal(z.mean(dim=0), shrunk + smallest)
