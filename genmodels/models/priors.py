"""Priors: what latents are drawn from.

A model is trained with one; another may be fitted to its latents afterwards. A prior is a
module, so its parameters are in the state, the optimizer and the moving average of its model. To
add one, write a subclass and a file in conf/prior.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from genmodels.distributions import DiagonalGaussian, kl_to_standard_normal
from genmodels.errors import require

Encode = Callable[[Tensor, Tensor | None], DiagonalGaussian]  # (images, labels) -> q(z|x)

MOMENT_DRAWS = 20_000  # from which the moments of a prior are estimated


class Prior(nn.Module):
    """p(z) over latents z (B, D), or p(z|y) given labels, on any device.

    A prior that knows no classes ignores labels. Of one that does, p(z) without a label is the mean
    over all classes.

    Arguments:
    latent_dim: D.
    """

    uses_encoder = False  # whether it is made of the encoder of its model

    _device: Tensor  # empty; it is where the module is

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("_device", torch.empty(0, dtype=torch.bool), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return self._device.device

    def use_encoder(self, encode: Encode) -> None:
        """Receive the encoder of the model, where `uses_encoder`."""
        raise NotImplementedError

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Draw latents (n, D), float32 on the module's device.

        Arguments:
        n: number of latents.
        temperature: a factor of variances.
        generator: on the CPU, so that draws are the same on any device; None: torch's own.
        labels: (n,) int64, -1 for no label; None: -1 for all.

        Raises ValueError for a negative temperature.
        """
        raise NotImplementedError

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """log p(z) in nats of z (B, D) at temperature 1, (B,); differentiable.

        labels: (B,) int64, -1 for no label; None: -1 for all.
        """
        raise NotImplementedError

    def marginals(self) -> Sequence["Prior"]:
        """p(z_d) of each dimension d of z.

        Where no subclass knows better, normal distributions with the moments of MOMENT_DRAWS draws.
        """
        z = self.sample(MOMENT_DRAWS, generator=torch.Generator().manual_seed(0))
        means, stddevs = z.mean(dim=0).tolist(), z.std(dim=0).tolist()
        return [NormalMarginal(*moments) for moments in zip(means, stddevs, strict=True)]

    def formula(self, temperature: float | str = 1.0) -> str:
        """The distribution's name in titles, such as "N(0, I)"; the temperature may be a symbol."""
        raise NotImplementedError

    def kl(self, posterior: DiagonalGaussian, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """KL(q(z|x) || p(z)) in nats: (B, D) where it is known per dimension, else (B, 1).

        log q(z|x) - log p(z) at one draw of z is unbiased for any prior, and differentiable.

        Arguments:
        posterior: q(z|x).
        z: (B, D), a draw from it.
        labels: (B,) int64, as in `log_prob`.
        """
        log_posterior = posterior.log_prob(z).sum(dim=1)  # (B,)
        # densities need more digits than bfloat16 has
        with torch.autocast(z.device.type, enabled=False):
            log_prior = self.log_prob(z, labels)
        return (log_posterior - log_prior.to(z))[:, None]

    def kl_per_dimension(
        self, posterior: DiagonalGaussian, z: Tensor, marginals: Sequence["Prior"]
    ) -> Tensor:
        """KL(q(z_d|x) || p(z_d)) in nats of each dimension's marginal, (B, D), for diagnostics.

        Estimated as in `kl`, whatever the labels.

        Arguments:
        posterior, z: as in `kl`.
        marginals: of this prior.
        """
        log_prior = torch.empty_like(z)
        for dimension, marginal in enumerate(marginals):
            log_prior[:, dimension] = marginal.log_prob(z[:, [dimension]])
        return posterior.log_prob(z) - log_prior


class StandardNormal(Prior):
    """N(0, I), with the KL in closed form."""

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """z ~ N(0, temperature I), (n, D)."""
        return (stddev_of(temperature) * draw_noise(n, self.latent_dim, generator)).to(self.device)

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D) -> (B,) nats."""
        return Normal(0, 1).log_prob(z).sum(dim=1)

    def marginals(self) -> Sequence[Prior]:
        """N(0, 1), whichever dimension."""
        return [StandardNormal(1)] * self.latent_dim

    def formula(self, temperature: float | str = 1.0) -> str:
        """N(0, I), or N(0, 0.5 I)."""
        scale = "" if temperature == 1 else f"{format_temperature(temperature)} "
        return f"N(0, {scale}I)"

    def kl(self, posterior: DiagonalGaussian, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """KL(q(z_d|x) || N(0, 1)) in nats, (B, D)."""
        variance = posterior.log_variance.exp()
        return kl_to_standard_normal(posterior.mean, variance, posterior.log_variance)

    def kl_per_dimension(
        self, posterior: DiagonalGaussian, z: Tensor, marginals: Sequence[Prior]
    ) -> Tensor:
        """The same as `kl`."""
        return self.kl(posterior, z)


class NormalMarginal(Prior):
    """N(mean, stddev^2) of one dimension, with which another prior's is approximated."""

    def __init__(self, mean: float, stddev: float) -> None:
        super().__init__(1)
        self.normal = Normal(mean, stddev)

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, 1) -> (B,) nats."""
        return self.normal.log_prob(z[:, 0])


def draw_noise(n: int, latent_dim: int, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise (n, latent_dim), on the CPU."""
    return torch.randn(n, latent_dim, generator=generator)


def stddev_of(temperature: float) -> float:
    """The temperature's factor of standard deviations. Raises ValueError where it is negative."""
    require(temperature >= 0, "temperature", temperature, "a number >= 0 (it is a variance)")
    return math.sqrt(temperature)


def format_temperature(temperature: float | str) -> str:
    """The temperature, or its symbol, in titles."""
    return temperature if isinstance(temperature, str) else f"{temperature:g}"
