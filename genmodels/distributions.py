"""Distributions over latents and over images that torch.distributions lacks, and the likelihoods that decoders end in.

torch.distributions.Bernoulli refuses gray values under validation, and Independent sums away the dimensions that the
diagnostics need; here terms stay per image (likelihoods) and per latent dimension (posteriors). Parameters are float32,
also under autocast: sums over hundreds of pixels stall in bfloat16.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_VARIANCE_RANGE = (-14.0, 10.0)  # standard deviations from 0.001 to 148


class DiagonalGaussian:
    """q(z|x) = N(mean, diag(exp(log_variance))), both (B, D).

    The log-variance is clamped to LOG_VARIANCE_RANGE, so that neither the standard deviation nor the KL can overflow.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean = mean.float()                                                # (B, D)
        self.log_variance = log_variance.float().clamp(*LOG_VARIANCE_RANGE)     # (B, D)

    @property
    def stddev(self) -> Tensor:
        """(B, D)."""
        return torch.exp(0.5 * self.log_variance)

    def rsample(self) -> Tensor:
        """z = mean + stddev * noise, (B, D): the reparameterisation trick (Kingma & Welling 2014, section 2.4)."""
        return self.mean + self.stddev * torch.randn_like(self.mean)

    def kl_to_standard_normal(self) -> Tensor:
        """KL(q(z|x) || N(0, I)) in nats, (B, D), in closed form: 1/2 (mean^2 + variance - 1 - log variance).

        Kingma & Welling 2014, appendix B; their sum over dimensions is left to the caller.
        """
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1 - self.log_variance)


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
        self.logits = logits.float()    # (B, C, H, W)

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
        """sum over pixels of x log p + (1 - x) log(1 - p), (B,), nats. A batch of one broadcasts, of z or of images."""
        logits, images = torch.broadcast_tensors(self.logits, images)
        return -F.binary_cross_entropy_with_logits(logits, images, reduction="none").flatten(1).sum(dim=1)


class Likelihood(nn.Module):
    """Reads a decoder's output as a distribution over images; a module, since some have parameters of their own."""

    parameters_per_value: int   # decoder channels for each image channel
    binary: bool                # of black and white images: training and evaluation binarise gray ones

    def forward(self, output: Tensor) -> ImageDistribution:
        """(B, parameters_per_value * C, H, W), unbounded -> a distribution over images (B, C, H, W)."""
        raise NotImplementedError


class BernoulliLikelihood(Likelihood):
    """The decoder's output is the logits of Bernoulli pixels: black and white images, or gray values as means."""

    parameters_per_value = 1
    binary = True

    def forward(self, output: Tensor) -> Bernoulli:
        """(B, C, H, W) -> Bernoulli over (B, C, H, W)."""
        return Bernoulli(output)
