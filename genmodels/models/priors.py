"""What latents are drawn from: the prior that a model is trained with, or a density fitted to its latents afterwards.

A prior is a module, so that what it learns is in the state, the optimizer and the moving average
of its model. To add one, write a subclass and a file in conf/prior.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from genmodels.distributions import DiagonalGaussian, kl_to_standard_normal


class Prior(nn.Module):
    """p(z) over latents z (B, D). The methods' random numbers are drawn on the CPU: the same on any device."""

    _device: Tensor  # empty; it is where the module is

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("_device", torch.empty(0, dtype=torch.bool), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return self._device.device

    def sample(
        self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """(n, D) float32 on the module's device. The temperature multiplies variances."""
        raise NotImplementedError

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats of z (B, D) at temperature 1, (B,); differentiable."""
        raise NotImplementedError

    def marginal(self, dimension: int) -> "Prior":
        """p(z_d), the distribution of one dimension of z."""
        raise NotImplementedError

    def formula(self, temperature: float | str = 1.0) -> str:
        """What z is drawn from, for titles, such as "N(0, I)"; the temperature may be a symbol."""
        raise NotImplementedError

    def kl(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats: (B, D) where it is known per dimension, else (B, 1).

        This estimate from the one draw z ~ q(z|x), (B, D), is unbiased for any prior, and
        differentiable.
        """
        return (posterior.log_prob(z).sum(dim=1) - self.log_prob(z))[:, None]

    def kl_per_dimension(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """KL(q(z_d|x) || p(z_d)) in nats of each dimension's marginal, (B, D), for diagnostics."""
        log_prior = [
            self.marginal(index).log_prob(z[:, [index]]).to(z) for index in range(self.latent_dim)
        ]
        return posterior.log_prob(z) - torch.stack(log_prior, dim=1)


class StandardNormal(Prior):
    """N(0, I), with the KL in closed form."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__(latent_dim)

    def sample(
        self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """z ~ N(0, temperature I), (n, D)."""
        noise = torch.randn(n, self.latent_dim, generator=generator)
        return (math.sqrt(temperature) * noise).to(self.device)

    def log_prob(self, z: Tensor) -> Tensor:
        """(B, D) -> (B,) nats."""
        return Normal(0, 1).log_prob(z).sum(dim=1)

    def marginal(self, dimension: int) -> "StandardNormal":
        """N(0, 1), whichever dimension."""
        return StandardNormal(1)

    def formula(self, temperature: float | str = 1.0) -> str:
        """N(0, I), or N(0, 0.5 I)."""
        scale = "" if temperature == 1 else f"{_format_temperature(temperature)} "
        return f"N(0, {scale}I)"

    def kl(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """KL(q(z_d|x) || N(0, 1)) in nats, (B, D)."""
        return kl_to_standard_normal(
            posterior.mean, posterior.log_variance.exp(), posterior.log_variance
        )

    def kl_per_dimension(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """The same as `kl`."""
        return self.kl(posterior, z)


class GaussianMixture(Prior):
    """A mixture of K Gaussians with full covariances; float64.

    As a sampler for a trained autoencoder ("ex-post density estimation") it is fitted to latents of
    training images: Ghosh et al. 2020, "From variational to deterministic autoencoders", section 4.
    """

    weights: Tensor  # (K,), sum 1
    means: Tensor  # (K, D)
    covariances: Tensor  # (K, D, D)

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        super().__init__(means.shape[1])
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        self.register_buffer("covariances", covariances)

    @classmethod
    def fit(cls, z: Tensor, components: int, seed: int) -> "GaussianMixture":
        """By expectation maximisation from a k-means start, to latents (N, D), N >= components."""
        from sklearn import mixture  # slow to import, and rarely needed

        fitted = mixture.GaussianMixture(
            components, covariance_type="full", max_iter=1000, random_state=seed
        ).fit(z.double().numpy())
        return cls(
            torch.from_numpy(fitted.weights_),
            torch.from_numpy(fitted.means_),
            torch.from_numpy(fitted.covariances_),
        )

    def sample(
        self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """z ~ sum_k weight_k N(mean_k, temperature covariance_k), (n, D).

        The temperature leaves weights and means as they are.
        """
        noise = torch.randn(n, self.latent_dim, generator=generator, dtype=torch.float64)
        component = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        means, roots = self.means.cpu(), torch.linalg.cholesky(self.covariances.cpu())
        z = torch.empty_like(noise)
        for index, root in enumerate(roots):
            rows = component == index
            z[rows] = means[index] + math.sqrt(temperature) * noise[rows] @ root.T
        return z.float().to(self.device)

    def log_prob(self, z: Tensor) -> Tensor:
        """(B, D) -> (B,) float64 nats."""
        mixture = MixtureSameFamily(
            Categorical(self.weights), MultivariateNormal(self.means, self.covariances)
        )
        return torch.cat([mixture.log_prob(rows) for rows in z.double().split(1000)])

    def marginal(self, dimension: int) -> "GaussianMixture":
        """The mixture of the components' own marginals."""
        variances = self.covariances[:, dimension, dimension]
        return GaussianMixture(self.weights, self.means[:, [dimension]], variances[:, None, None])

    def formula(self, temperature: float | str = 1.0) -> str:
        """How many Gaussians, and what they are fitted to."""
        count = len(self.weights)
        kind = f"mixture of {count} Gaussians" if count > 1 else "Gaussian"
        scaled = (
            "" if temperature == 1 else f", covariances times {_format_temperature(temperature)}"
        )
        return f"{kind} fitted to the training posteriors{scaled}"


def _format_temperature(temperature: float | str) -> str:
    return temperature if isinstance(temperature, str) else f"{temperature:g}"
