"""What KL weight the data can pay for: how much they vary in directions that share one latent dimension.

A direction of the images whose variance, in units of the likelihood's own variance (of p (1 - p) for Bernoulli
pixels), is above the KL weight saves more distortion than it costs KL; below, the best use of it is none. For linear
decoders and Gaussian pixels this is exact (Lucas et al. 2019, "Don't blame the ELBO!", section 4: such a VAE is
probabilistic PCA); for others it says where the empty code begins to be stable, for near it they are linear.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.image_distributions import ImageDistribution
from genmodels.likelihoods import Likelihood
from genmodels.metrics.likelihood import observed
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

EXACT = 1024  # pixel values of an image, up to which all eigenvalues are computed
IMAGES = 60_000  # training images that are looked at, drawn at random
VALUES = 40_000_000  # pixel values that are held at once, where it takes that
LEADING = 50  # eigenvalues that are computed of larger images
QUIETEST = 0.03  # of the largest variance, which the others are given at least: else the few images in which a pixel
#                     is ever lit look like directions of their own
EDGE = 1e-4  # a mean image's distance from black and white at least


@dataclass(frozen=True)
class WhitenedSpectrum:
    """Of the training images around the best image that a decoder can make without z."""

    eigenvalues: Tensor  # float64, falling; of large images the first LEADING
    means: Tensor  # (1 or classes + 1, C, H, W): the mean image, and of each class if the model is told it

    def paying(self, weight: float) -> int:
        """How many directions pay at a KL weight."""
        return int((self.eigenvalues > weight).sum())

    def linear_rate(self, weight: float) -> float:
        """Nats that the best linear decoder's code carries: sum of log(eigenvalue / weight) / 2 over those that pay."""
        return 0.5 * (self.eigenvalues[self.eigenvalues > weight] / weight).log().sum().item()

    @torch.no_grad()
    def distortion(self, model: VAE, part: ImageSet) -> float | None:
        """Of the mean image, in nats per image of this part: the best that a collapsed model can do.

        In expectation over the binarisation, if there is one. None for densities: a few per cent of one mean nothing.
        """
        if not model.likelihood.binary:
            return None
        total = 0.0
        for images, labels in part.batches(500):
            likelihood = around(model.likelihood, self.means.to(images)[group(labels, self.means)])
            assert likelihood is not None
            total -= likelihood.log_prob(images).double().sum().item()
        return total / len(part)


@torch.no_grad()
def whitened_spectrum(model: VAE, train: ImageSet) -> WhitenedSpectrum | None:
    """The spectrum of training images as this model sees them. None where its likelihood has no variance to measure by.

    A conditional model is told the class, so what varies is what differs from the class's mean. Binarising adds
    x (1 - x) to each pixel's variance, exactly, and nothing to the covariances: no draws are needed.
    """
    size = math.prod(model.image_shape)
    count = IMAGES if size <= EXACT else VALUES // size
    part = train.subset(count, generator(CONSTANT_SEED, "spectrum"), in_order=True)
    means, shares = mean_images(part, getattr(model, "num_classes", 0))
    likelihood = around(model.likelihood, means.to(next(model.parameters())))
    if likelihood is None:
        return None
    variance = shares @ flat_variance(likelihood, means).cpu().double()  # (C H W,)
    scale, noise, centred = whitening(variance).float(), torch.zeros(size), []
    for images, labels in part.batches(2000):
        images, labels = images.cpu(), labels.cpu()
        noise += (images * (1 - images)).flatten(1).sum(dim=0) / len(part)
        centred.append((images - means[group(labels, means)]).flatten(1) * scale)
    extra = (noise * scale.square()).double() if model.binary else torch.zeros(size).double()
    if size > EXACT:
        reseed(CONSTANT_SEED, "spectrum")
        values = (
            torch.svd_lowrank(torch.cat(centred), q=min(LEADING, len(part)), niter=4)[1]
            .double()
            .square()
        )
        return WhitenedSpectrum(values / len(part) + extra.mean(), means)
    covariance = torch.diag(extra)
    for rows in centred:
        covariance += (rows.T @ rows).double() / len(part)
    return WhitenedSpectrum(torch.linalg.eigvalsh(covariance).flip(0), means)


@torch.no_grad()
def unexplained(model: VAE, train: ImageSet) -> float | None:
    """The largest such eigenvalue of what the model leaves unexplained, x - E[x|z]: would one more dimension pay?

    It would at KL weights below, whatever the network: near its empty code, a new dimension is linear. The direction is
    found on one half of the images and measured on the other, so that chance directions do not count. Reseeds torch's
    global generators. None where the likelihood has no variance.
    """
    count = min(10_000, VALUES // math.prod(model.image_shape))
    part = train.subset(count, generator(CONSTANT_SEED, "spectrum"), in_order=True)
    reseed(CONSTANT_SEED, "spectrum")
    rests, variances = [], []
    for images, labels in part.batches(500):
        images = observed(model, images)
        likelihood = model.decode(model.encode(images, labels).rsample(), labels)
        if not hasattr(likelihood, "variance"):
            return None
        rests.append((images - likelihood.mean).flatten(1).cpu())
        variances.append(flat_variance(likelihood, images).cpu().double().mean(dim=0))
    rest = torch.cat(rests) * whitening(torch.stack(variances).mean(dim=0)).float()
    rest -= rest.mean(dim=0)
    halves = rest[0::2], rest[1::2]
    return sum(
        (other @ torch.svd_lowrank(half, q=8, niter=8)[2][:, 0]).square().mean().item() / 2
        for half, other in (halves, halves[::-1])
    )


def around(likelihood: Likelihood, mean: Tensor) -> ImageDistribution | None:
    """The likelihood's distribution with this mean (B, C, H, W), or None if it has none that is known, or no variance.

    Where a decoder's output is one number a pixel, and the mean is its logistic function.
    """
    if likelihood.parameters_per_value != 1:
        return None
    mean = mean.clamp(EDGE, 1 - EDGE)
    found = likelihood(torch.logit(mean))
    return (
        found
        if hasattr(found, "variance") and torch.allclose(found.mean, mean, atol=1e-3)
        else None
    )


def mean_images(part: ImageSet, classes: int) -> tuple[Tensor, Tensor]:
    """The mean image, and then that of each class, (classes + 1, C, H, W); and the share of the images for which each
    stands, float64: for those without a label the first, for all if `classes` is 0."""
    total = torch.zeros(classes + 1, *part.images.shape[1:], dtype=torch.float64)
    counts = torch.zeros(classes + 1, dtype=torch.float64)
    for images, labels in part.batches(2000):
        groups = group(labels.cpu(), total)
        total.index_add_(0, groups, images.cpu().double())
        counts += torch.bincount(groups, minlength=classes + 1)
    overall = total.sum(dim=0, keepdim=True) / len(part)
    means = torch.where(
        counts.view(-1, 1, 1, 1) > 0, total / counts.clamp(min=1).view(-1, 1, 1, 1), overall
    )
    means[:1] = overall
    return means.float(), counts / len(part)


def group(labels: Tensor, means: Tensor) -> Tensor:
    """Which of `mean_images` belongs to each label (B,)."""
    return (labels + 1 if len(means) > 1 else torch.zeros_like(labels)).to(means.device)


def flat_variance(likelihood: ImageDistribution, images: Tensor) -> Tensor:
    """A likelihood's variance for each value of these images, (B, C H W)."""
    variance: Tensor = likelihood.variance  # type: ignore[attr-defined]
    return variance.expand_as(images).flatten(1)


def whitening(variance: Tensor) -> Tensor:
    """What to multiply pixels by, so that their noise has variance 1."""
    return variance.clamp(min=QUIETEST * variance.max().item()).rsqrt()
