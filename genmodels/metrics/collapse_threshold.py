"""What KL weight the data can pay for: how much they vary in directions that z could tell.

A direction of the images whose variance, in units of the likelihood's own variance (of p (1 - p)
for Bernoulli pixels), is above the KL weight saves more distortion than it costs KL; below, it is
best left out of z. For linear decoders and Gaussian pixels this is exact (Lucas et al. 2019, "Don't
blame the ELBO!", section 4: such a VAE is probabilistic PCA). For others it says where a collapsed
model becomes stable, for near collapse they are linear. Nothing is known for other priors than
N(0, I).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from genmodels.data.images import EVALUATION_BATCH, ImageSet
from genmodels.image_distributions import ImageDistribution
from genmodels.likelihoods import Likelihood
from genmodels.metrics.likelihood import binarise_for
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

MAX_EXACT = 1024  # pixel values of an image, up to which all eigenvalues are computed
MAX_IMAGES = 60_000  # training images, drawn at random, for all eigenvalues
MAX_VALUES = 40_000_000  # pixel values that are held at once for the largest ones
LEADING = 50  # eigenvalues that are computed of larger images
UNEXPLAINED_IMAGES = 10_000  # training images whose residuals are looked at
READ_BATCH = 2000  # images that are read at once where no network sees them
# The least variance of a pixel, as a share of the largest one: else the few images in which a pixel
# is ever lit would look like directions of their own.
MIN_VARIANCE = 0.03
SATURATED = 1e-6  # variance of pixels that a model takes for certain, where all are
MIN_MEAN = 1e-4  # a mean image's distance from black and white at least


@runtime_checkable
class HasVariance(ImageDistribution, Protocol):
    """A distribution over images that knows its variance."""

    @property
    def variance(self) -> Tensor:
        """Of each value, broadcastable to (B, C, H, W)."""
        ...


@dataclass(frozen=True)
class WhitenedSpectrum:
    """Of training images around the best image that a decoder can make without z."""

    eigenvalues: Tensor  # float64, falling; of large images the first LEADING
    means: Tensor  # the mean image (1, C, H, W), followed by those of a conditional model's classes

    def count_above(self, weight: float) -> int:
        """How many directions pay at a KL weight."""
        return int((self.eigenvalues > weight).sum())

    def linear_kl(self, weight: float) -> float:
        """Nats in the latents of the best linear decoder at a KL weight.

        The sum of log(eigenvalue / weight) / 2 over the directions that pay.
        """
        above = self.eigenvalues[self.eigenvalues > weight]
        return 0.5 * (above / weight).log().sum().item()

    @torch.no_grad()
    def distortion(self, model: VAE, split: ImageSet) -> float | None:
        """That of the mean image, in nats per image of a split: the best of a collapsed model.

        In expectation over the binarisation, if there is one. None for densities, of which a few
        per cent mean nothing.
        """
        if not model.likelihood.binary:
            return None
        total = 0.0
        for images, labels in split.batches(EVALUATION_BATCH):
            means = self.means.to(images)[_mean_index(labels, self.means)]
            likelihood = _with_mean(model.likelihood, means)
            assert likelihood is not None
            total -= likelihood.log_prob(images).double().sum().item()
        return total / len(split)


def has_kl_threshold(model: VAE) -> bool:
    """Whether these eigenvalues are thresholds of the model's KL weight: its prior is N(0, I)."""
    return isinstance(model.prior, StandardNormal)


@torch.no_grad()
def whitened_spectrum(model: VAE, train: ImageSet) -> WhitenedSpectrum | None:
    """The spectrum of training images in units of the variance of a model's likelihood.

    A conditional model is told the class, so what varies is what differs from the class's mean.
    Binarisation adds x (1 - x) to each pixel's variance, exactly, and nothing to the covariances:
    no draws are needed. None where the likelihood has no variance.
    """
    size = math.prod(model.image_shape)
    exact = size <= MAX_EXACT
    split = _subset(train, MAX_IMAGES if exact else MAX_VALUES // size)
    means, shares = _mean_images(split, model.num_classes)
    likelihood = _with_mean(model.likelihood, means.to(model.device))
    if likelihood is None:
        return None
    variance = shares @ _flat_variance(likelihood, means).cpu().double()  # (C H W,)
    scale = _whitening(variance).float()
    centered, noise = [], torch.zeros(size)
    for images, labels in split.batches(READ_BATCH):
        images = images.cpu()
        noise += (images * (1 - images)).flatten(1).sum(dim=0) / len(split)
        residuals = images - means[_mean_index(labels.cpu(), means)]
        centered.append(residuals.flatten(1) * scale)
    extra = (noise * scale.square()).double() if model.binary else torch.zeros(size).double()
    eigenvalues = _eigenvalues(centered, extra) if exact else _leading_eigenvalues(centered, extra)
    return WhitenedSpectrum(eigenvalues, means)


@torch.no_grad()
def unexplained(model: VAE, train: ImageSet) -> float | None:
    """The largest such eigenvalue of what the model leaves unexplained, x - E[x|z].

    One more dimension would pay at KL weights below it, whatever the network, since a new dimension
    is linear as long as it is nearly empty. The direction is found on one half of the images and
    measured on the other, so that chance directions do not count. Reseeds torch's global
    generators. None where the likelihood has no variance.
    """
    fitting = MAX_VALUES // math.prod(model.image_shape)
    split = _subset(train, min(UNEXPLAINED_IMAGES, fitting))
    reseed(CONSTANT_SEED, "spectrum")
    residuals, variances = [], []
    for images, labels in split.batches(EVALUATION_BATCH):
        images = binarise_for(model, images)
        likelihood = model.decode(model.encode(images, labels).rsample(), labels)
        if not isinstance(likelihood, HasVariance):
            return None
        residuals.append((images - likelihood.mean).flatten(1).cpu())
        variance = _flat_variance(likelihood, images)
        variances.append(variance.cpu().double().mean(dim=0))
    variance = torch.stack(variances).mean(dim=0)  # (C H W,)
    whitened = torch.cat(residuals) * _whitening(variance).float()
    whitened -= whitened.mean(dim=0)
    even, odd = whitened[0::2], whitened[1::2]
    return _variance_along_first(even, odd) / 2 + _variance_along_first(odd, even) / 2


def _subset(train: ImageSet, count: int) -> ImageSet:
    return train.subset(count, generator(CONSTANT_SEED, "spectrum"), in_order=True)


def _with_mean(likelihood: Likelihood, mean: Tensor) -> HasVariance | None:
    """A likelihood's distribution with this mean (B, C, H, W), where that can be asked for.

    It can where a decoder's output is one number a pixel, whose logistic function is the mean. None
    also where the distribution has no variance.
    """
    image_shape = mean.shape[1:]
    if likelihood.output_shape(image_shape) != image_shape:
        return None
    mean = mean.clamp(MIN_MEAN, 1 - MIN_MEAN)
    distribution = likelihood(torch.logit(mean))
    if not isinstance(distribution, HasVariance):
        return None
    return distribution if torch.allclose(distribution.mean, mean, atol=1e-3) else None


def _mean_images(split: ImageSet, classes: int) -> tuple[Tensor, Tensor]:
    """The mean image, followed by that of each class, (classes + 1, C, H, W).

    And the share of the images that each is the best mean for, float64: the first is for those
    without a label, and for all if `classes` is 0.
    """
    total = torch.zeros(classes + 1, *split.images.shape[1:], dtype=torch.float64)
    counts = torch.zeros(classes + 1, dtype=torch.float64)
    for images, labels in split.batches(READ_BATCH):
        index = _mean_index(labels.cpu(), total)
        total.index_add_(0, index, images.cpu().double())
        counts += torch.bincount(index, minlength=classes + 1)
    overall = total.sum(dim=0, keepdim=True) / len(split)
    size = counts.view(-1, 1, 1, 1)
    means = torch.where(size > 0, total / size.clamp(min=1), overall)
    means[:1] = overall
    return means.float(), counts / len(split)


def _mean_index(labels: Tensor, means: Tensor) -> Tensor:
    """Which of `_mean_images` belongs to each label (B,)."""
    index = labels + 1 if len(means) > 1 else torch.zeros_like(labels)
    return index.to(means.device)


def _flat_variance(likelihood: HasVariance, images: Tensor) -> Tensor:
    """A likelihood's variance for each value of these images, (B, C H W)."""
    return likelihood.variance.expand_as(images).flatten(1)


def _whitening(variance: Tensor) -> Tensor:
    """What to multiply pixels by, so that their noise has variance 1."""
    smallest = MIN_VARIANCE * max(variance.max().item(), SATURATED)
    return variance.clamp(min=smallest).rsqrt()


def _eigenvalues(centered: Sequence[Tensor], extra: Tensor) -> Tensor:
    """Of the covariance of rows (B, P), with extra variances (P,): all, falling."""
    count = sum(map(len, centered))
    covariance = torch.diag(extra)
    for rows in centered:
        covariance += (rows.T @ rows).double() / count
    return torch.linalg.eigvalsh(covariance).flip(0)


def _leading_eigenvalues(centered: Sequence[Tensor], extra: Tensor) -> Tensor:
    """The first LEADING of them, for images of many values."""
    rows = torch.cat(list(centered))
    reseed(CONSTANT_SEED, "spectrum")
    count = min(LEADING, len(rows))
    _, values, _ = torch.svd_lowrank(rows, q=count, niter=4)
    return values.double().square() / len(rows) + extra.mean()


def _variance_along_first(half: Tensor, other: Tensor) -> float:
    """The variance of one half of the images along the first singular vector of the other."""
    _, _, directions = torch.svd_lowrank(half, q=8, niter=8)
    coordinates = other @ directions[:, 0]
    return coordinates.square().mean().item()
