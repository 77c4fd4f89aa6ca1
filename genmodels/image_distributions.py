"""Distributions over images whose pixels are independent given z: what a decoder's output stands for.

Images are (B, C, H, W) in [0, 1]. A density is one with respect to that scale: on that of 0 to 255 it would be
log 255 = 5.54 nats per value lower. torch.distributions.Bernoulli refuses gray values under validation, and Independent
sums away dimensions; here terms stay per image. Parameters are float32, also under autocast: sums over hundreds of
pixels stall in bfloat16. A batch of one broadcasts, of z or of images.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

STDDEV_FLOOR = (
    1 / 256
)  # about a gray level: the density of finitely many values has no highest point
LEVELS = 256  # values of a pixel: 0, 1/255, ..., 1
LOG_SCALE_RANGE = (
    -8.0,
    3.0,
)  # of a discretised logistic: from a tenth of a gray level to 20 times the whole range


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
    """Independent Bernoulli pixels with the given logits, (B, C, H, W).

    Gray values are taken as probabilities: log_prob is then the expectation over their binarisation.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.float()  # (B, C, H, W)

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
        return (
            -F.binary_cross_entropy_with_logits(logits, images, reduction="none")
            .flatten(1)
            .sum(dim=1)
        )


class Gaussian:
    """Independent Gaussian pixels: N(mean, variance), with means (B, C, H, W) in [0, 1] and one variance () for all.

    A density over all real numbers: what it puts outside of [0, 1] is wasted, as the price of its simplicity.
    """

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        self.mean = mean.float()  # (B, C, H, W)
        self.variance = variance.float()  # ()

    def sample(self) -> Tensor:
        """Images with their noise, (B, C, H, W), clamped to [0, 1]."""
        return (self.mean + self.variance.sqrt() * torch.randn_like(self.mean)).clamp(0, 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """sum over pixels of -((x - mean)^2 / variance + log(2 pi variance)) / 2, (B,), nats of density."""
        squares = (images - self.mean).square()
        return -0.5 * (squares / self.variance + torch.log(2 * math.pi * self.variance)).flatten(
            1
        ).sum(dim=1)


class FittedGaussian(Gaussian):
    """A Gaussian whose variance becomes, in place, that of the images that it is asked about: the likeliest one.

    Rybkin et al. 2021, "Simple and effective VAE training with calibrated decoders", eq. 6: the mean squared error of
    the batch. It is taken as a constant: at the likeliest variance its derivative is 0 anyway.
    """

    def log_prob(self, images: Tensor) -> Tensor:
        """As that of a Gaussian, at the variance of these images."""
        fitted = (images - self.mean.detach()).square().mean().clamp(min=STDDEV_FLOOR**2)
        self.variance.copy_(fitted)
        return Gaussian(self.mean, fitted).log_prob(images)


class ContinuousBernoulli:
    """Independent pixels with density proportional to exp(logit * x) on [0, 1]; logits (B, C, H, W).

    Loaiza-Ganem & Cunningham 2019, "The continuous Bernoulli", eq. 3, whose lambda is sigmoid(logit), and is not its
    mean. With h = logit / 2, in which all is odd or even, the normaliser is exp(h) sinh(h) / h; near h = 0, where the
    closed forms cancel, their series stand in.
    """

    SERIES = 0.25  # |h| below which the series are used; they are then exact to 1e-8

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.float()  # (B, C, H, W)

    @property
    def mean(self) -> Tensor:
        """(1 + coth(h) - 1 / h) / 2, (B, C, H, W): from 0 to 1, but nearer to 1/2 than the sigmoid of the logits."""
        half, small, safe = self._halves()
        squared = half.square()
        series = half * (1 / 3 - squared * (1 / 45 - squared * (2 / 945 - squared / 4725)))
        langevin = torch.where(small, series, 1 / torch.tanh(safe) - 1 / safe)
        return 0.5 + 0.5 * langevin

    def sample(self) -> Tensor:
        """log(1 + u (exp(logit) - 1)) / logit for u uniform in [0, 1): the inverse of the distribution function.

        (B, C, H, W). Positive logits mirror negative ones, so that nothing overflows.
        """
        steep = -self.logits.abs().clamp(min=1e-6)
        x = torch.log1p(torch.rand_like(steep) * torch.expm1(steep)) / steep
        return torch.where(self.logits > 0, 1 - x, x).clamp(0, 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """sum over pixels of logit * (x - 1/2) - log(sinh(h) / h), (B,), nats of density."""
        half, small, safe = self._halves()
        squared = half.square()
        series = squared * (1 / 6 - squared * (1 / 180 - squared * (1 / 2835 - squared / 37800)))
        size = safe.abs()
        normaliser = torch.where(
            small, series, size + torch.log(-torch.expm1(-2 * size) / (2 * size))
        )
        return (self.logits * (images - 0.5) - normaliser).flatten(1).sum(dim=1)

    def _halves(self) -> tuple[Tensor, Tensor, Tensor]:
        """h, where it is small, and h with 1 in those places: a gradient of NaN would come through `where`."""
        half = 0.5 * self.logits
        small = half.abs() < self.SERIES
        return half, small, torch.where(small, 1.0, half)


class DiscretisedLogistic:
    """Pixels of 256 levels: a logistic distribution, cut into one bin for each; the bins at the edges are open.

    Locations and logs of scales are (B, C, H, W), on the scale of [0, 1]. Kingma et al. 2016, "Improved variational
    inference with inverse autoregressive flow", eq. 10; open edges as in Salimans et al. 2017 (PixelCNN++), eq. 2.
    Log-scales are clamped to LOG_SCALE_RANGE, so that nothing overflows.
    """

    def __init__(self, location: Tensor, log_scale: Tensor) -> None:
        self.location = location.float()  # (B, C, H, W)
        self.scale = log_scale.float().clamp(*LOG_SCALE_RANGE).exp()  # (B, C, H, W)

    @property
    def mean(self) -> Tensor:
        """The mean of the logistic distribution clamped to [0, 1], (B, C, H, W): the integral of 1 - CDF.

        That of its 256 levels is at most half a level away.
        """
        upper, lower = self.location / self.scale, (self.location - 1) / self.scale
        return (self.scale * (F.softplus(upper) - F.softplus(lower))).clamp(0, 1)

    def sample(self) -> Tensor:
        """Images of 256 levels, (B, C, H, W): location + scale * logit(u), rounded and clamped."""
        noise = torch.logit(torch.rand_like(self.location), eps=1e-7)
        return ((LEVELS - 1) * (self.location + self.scale * noise)).round().clamp(
            0, LEVELS - 1
        ) / (LEVELS - 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """sum over pixels of the log of a bin's probability, (B,), nats. Images are rounded to their level.

        With u and l the bin's upper and lower edge in units of the scale, as seen from the location:
        sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)), which has a safe logarithm in all tails; an
        open edge only lacks its factor.
        """
        levels = ((LEVELS - 1) * images).round()
        upper = ((levels + 0.5) / (LEVELS - 1) - self.location) / self.scale
        lower = ((levels - 0.5) / (LEVELS - 1) - self.location) / self.scale
        width = 1 / ((LEVELS - 1) * self.scale)
        black, white = levels <= 0, levels >= LEVELS - 1
        log_mass = (
            torch.where(white, 0.0, F.logsigmoid(upper))
            + torch.where(black, 0.0, F.logsigmoid(-lower))
            + torch.where(black | white, 0.0, torch.log(-torch.expm1(-width)))
        )
        return log_mass.flatten(1).sum(dim=1)
