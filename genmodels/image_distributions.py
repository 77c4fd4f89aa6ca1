"""Distributions over images (B, C, H, W) in [0, 1] with independent pixels.

A density is one with respect to the scale [0, 1]: on that of 0 to 255 it is log 255 = 5.54 nats per
value lower. torch.distributions.Bernoulli refuses gray values under validation, and Independent
sums over images too. Parameters are float32, also under autocast: sums over hundreds of pixels
stall in bfloat16. A batch of one broadcasts, of parameters or of images.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from genmodels import parallel

STDDEV_FLOOR = 1 / 256  # about a gray level: densities of finitely many values have no maximum


class ImageDistribution(Protocol):
    """What a likelihood gives: p(x|z) over images (B, C, H, W) in [0, 1]."""

    @property
    def mean(self) -> Tensor:
        """The expected image, (B, C, H, W) in [0, 1]."""
        ...

    def sample(self) -> Tensor:
        """Images drawn pixel by pixel, (B, C, H, W) in [0, 1]."""
        ...

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(images|z) in nats, summed over pixels and channels, (B,)."""
        ...


class Bernoulli:
    """p(x) = product over pixels of p^x (1 - p)^(1 - x), p = sigmoid(logits).

    Gray values are taken as probabilities: log_prob is the expectation over their binarisation.

    Arguments:
    logits: (B, C, H, W).
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.float()

    @property
    def mean(self) -> Tensor:
        """The probability of white, (B, C, H, W)."""
        return torch.sigmoid(self.logits)

    @property
    def variance(self) -> Tensor:
        """p (1 - p) of each pixel, (B, C, H, W)."""
        return self.mean * (1 - self.mean)

    def sample(self) -> Tensor:
        """Black and white images, (B, C, H, W)."""
        return torch.bernoulli(self.mean)

    def log_prob(self, images: Tensor) -> Tensor:
        """sum over pixels of x log p + (1 - x) log(1 - p), (B,), nats."""
        logits, images = torch.broadcast_tensors(self.logits, images)
        negative = F.binary_cross_entropy_with_logits(logits, images, reduction="none")
        return -negative.flatten(1).sum(dim=1)


class Gaussian:
    """N(mean, variance) in each pixel, with one variance for all.

    A density over all real numbers: some of it lies outside of [0, 1].

    Arguments:
    mean: (B, C, H, W) in [0, 1].
    variance: ().
    """

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        self.mean = mean.float()
        self.variance = variance.float()

    def sample(self) -> Tensor:
        """Images with their noise, (B, C, H, W), clamped to [0, 1]."""
        noise = self.variance.sqrt() * torch.randn_like(self.mean)
        return (self.mean + noise).clamp(0, 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """-1/2 sum of (x - mean)^2 / variance + log(2 pi variance) over pixels, (B,), nats."""
        squares = (images - self.mean).square()
        terms = squares / self.variance + torch.log(2 * math.pi * self.variance)
        return -0.5 * terms.flatten(1).sum(dim=1)


class FittedGaussian(Gaussian):
    """A Gaussian whose variance log_prob sets, in place, to the likeliest one for its images.

    Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders", eq. 6: the
    mean squared error of the batch. It is taken as a constant: at the likeliest variance its
    derivative is 0 anyway.
    """

    def log_prob(self, images: Tensor) -> Tensor:
        """As `Gaussian.log_prob`, at the variance of these images."""
        error = (images - self.mean.detach()).square().mean()
        parallel.average([error])
        fitted = error.clamp(min=STDDEV_FLOOR**2)
        self.variance.copy_(fitted)
        return Gaussian(self.mean, fitted).log_prob(images)


class ContinuousBernoulli:
    """Pixels with density proportional to exp(logit * x) on [0, 1].

    Loaiza-Ganem & Cunningham 2019, "The continuous Bernoulli", eq. 3, whose lambda is
    sigmoid(logit), which is not the mean. With h = logit / 2 the normaliser is exp(h) sinh(h) / h.
    Near h = 0, where the closed forms cancel, Taylor series take their place.

    Arguments:
    logits: (B, C, H, W).
    """

    SERIES = 0.25  # |h| below which the series are used; they are then exact to 1e-8

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.float()

    @property
    def mean(self) -> Tensor:
        """(1 + coth(h) - 1 / h) / 2, (B, C, H, W): between sigmoid(logit) and 1/2."""
        half, small, safe = self._halves()
        squared = half.square()
        series = 2 / 945 - squared / 4725
        series = 1 / 45 - squared * series
        series = half * (1 / 3 - squared * series)
        closed_form = 1 / torch.tanh(safe) - 1 / safe
        return 0.5 + 0.5 * torch.where(small, series, closed_form)

    def sample(self) -> Tensor:
        """log(1 + u (exp(logit) - 1)) / logit for u uniform in [0, 1), (B, C, H, W).

        This is the inverse of the distribution function. Positive logits mirror negative ones, so
        nothing overflows.
        """
        negative = -self.logits.abs().clamp(min=1e-6)
        uniform = torch.rand_like(negative)
        x = torch.log1p(uniform * torch.expm1(negative)) / negative
        return torch.where(self.logits > 0, 1 - x, x).clamp(0, 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """sum over pixels of logit * (x - 1/2) - log(sinh(h) / h), (B,), nats of density."""
        half, small, safe = self._halves()
        squared = half.square()
        series = 1 / 2835 - squared / 37800
        series = 1 / 180 - squared * series
        series = squared * (1 / 6 - squared * series)
        size = safe.abs()
        closed_form = size + torch.log(-torch.expm1(-2 * size) / (2 * size))
        log_normaliser = torch.where(small, series, closed_form)
        return (self.logits * (images - 0.5) - log_normaliser).flatten(1).sum(dim=1)

    def _halves(self) -> tuple[Tensor, Tensor, Tensor]:
        """h, where it is small, and h with 1 there: `where` would let a gradient of NaN through."""
        half = 0.5 * self.logits
        small = half.abs() < self.SERIES
        return half, small, torch.where(small, 1.0, half)
