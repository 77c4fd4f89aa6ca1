"""What an encoder network ends in: a distribution over latents, whose terms stay per dimension.

torch.distributions.Independent would sum dimensions away, which diagnostics need. Parameters are
float32, also under autocast.
"""

import math

import torch
from torch import Tensor

LOG_VARIANCE_RANGE = (-14.0, 10.0)  # standard deviations from 0.001 to 148


def kl_to_standard_normal(mean: Tensor, variance: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, elementwise, in closed form.

    1/2 (mean^2 + variance - 1 - log variance): Kingma & Welling 2014, appendix B; their sum over
    dimensions is left to the caller.
    """
    return 0.5 * (mean.square() + variance - 1 - log_variance)


class DiagonalGaussian:
    """q(z|x) = N(mean, diag(exp(log_variance))), both (B, D).

    The log-variance is clamped to LOG_VARIANCE_RANGE, so that neither the standard deviation nor
    the KL can overflow.
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean = mean.float()  # (B, D)
        self.log_variance = log_variance.float().clamp(*LOG_VARIANCE_RANGE)  # (B, D)

    @property
    def stddev(self) -> Tensor:
        """(B, D)."""
        return torch.exp(0.5 * self.log_variance)

    def rsample(self, noise: Tensor | None = None) -> Tensor:
        """z = mean + stddev * noise, (B, D): the reparameterisation trick.

        Kingma & Welling 2014, section 2.4. noise: standard normal (B, D); None draws it.
        """
        if noise is None:
            noise = torch.randn_like(self.mean)
        return self.mean + self.stddev * noise

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z_d|x) in nats of each dimension of z (B, D), (B, D)."""
        scaled = (z - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (scaled + self.log_variance + math.log(2 * math.pi))


def gaussian_log_probs(z: Tensor, means: Tensor, stddevs: Tensor) -> Tensor:
    """log N(z_b; mean_m, diag(stddev_m^2)) in nats of z (B, D) under M Gaussians (M, D), (B, M).

    By matrix products of squares, which need `exact_dtype`.
    """
    dtype = exact_dtype(z.device)
    z, means, stddevs = z.to(dtype), means.to(dtype), stddevs.to(dtype)
    precisions = stddevs.square().reciprocal()  # (M, D)
    scaled_means = means * precisions
    squares = z.square() @ precisions.T  # (B, M)
    squares = squares - 2 * z @ scaled_means.T
    squares = squares + (means * scaled_means).sum(dim=1)
    log_scales = stddevs.log() + 0.5 * math.log(2 * math.pi)
    return -0.5 * squares - log_scales.sum(dim=1)


def exact_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices without it."""
    return torch.float32 if device.type == "mps" else torch.float64
