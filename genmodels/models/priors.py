"""Priors: what latents are drawn from.

A model is trained with one; another may be fitted to its latents afterwards. A prior is a
module, so its parameters are in the state, the optimizer and the moving average of its model. To
add one, write a subclass and a file in conf/prior.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from genmodels.distributions import DiagonalGaussian, kl_to_standard_normal
from genmodels.errors import require


class Prior(nn.Module):
    """p(z) over latents z (B, D), on any device.

    Arguments:
    latent_dim: D.
    """

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
        """Draw latents (n, D), float32 on the module's device.

        Arguments:
        n: number of latents.
        temperature: a factor of variances.
        generator: on the CPU, so that draws are the same on any device; None: torch's own.

        Raises ValueError for a negative temperature.
        """
        raise NotImplementedError

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats of z (B, D) at temperature 1, (B,); differentiable."""
        raise NotImplementedError

    def marginal(self, dimension: int) -> "Prior":
        """p(z_d), the distribution of one dimension d of z."""
        raise NotImplementedError

    def formula(self, temperature: float | str = 1.0) -> str:
        """The distribution's name in titles, such as "N(0, I)"; the temperature may be a symbol."""
        raise NotImplementedError

    def kl(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """KL(q(z|x) || p(z)) in nats: (B, D) where it is known per dimension, else (B, 1).

        log q(z|x) - log p(z) at one draw of z is unbiased for any prior, and differentiable.

        Arguments:
        posterior: q(z|x).
        z: (B, D), a draw from it.
        """
        log_posterior = posterior.log_prob(z).sum(dim=1)  # (B,)
        return (log_posterior - self.log_prob(z).to(z))[:, None]

    def kl_per_dimension(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """KL(q(z_d|x) || p(z_d)) in nats of each dimension's marginal, (B, D), for diagnostics.

        Estimated as in `kl`, with the same arguments.
        """
        log_prior = torch.empty_like(z)
        for dimension in range(self.latent_dim):
            log_prior[:, dimension] = self.marginal(dimension).log_prob(z[:, [dimension]])
        return posterior.log_prob(z) - log_prior


class StandardNormal(Prior):
    """N(0, I), with the KL in closed form."""

    def sample(
        self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """z ~ N(0, temperature I), (n, D)."""
        noise = torch.randn(n, self.latent_dim, generator=generator)
        return (_stddev(temperature) * noise).to(self.device)

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
        variance = posterior.log_variance.exp()
        return kl_to_standard_normal(posterior.mean, variance, posterior.log_variance)

    def kl_per_dimension(self, posterior: DiagonalGaussian, z: Tensor) -> Tensor:
        """The same as `kl`."""
        return self.kl(posterior, z)


class GaussianMixture(Prior):
    """sum over k of weight_k N(mean_k, covariance_k), in float64.

    As a sampler for a trained autoencoder ("ex-post density estimation") it is fitted to latents of
    training images: Ghosh et al. 2020, "From variational to deterministic autoencoders", section 4.

    Arguments:
    weights: (K,), of sum 1.
    means: (K, D).
    covariances: (K, D, D).
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
        """Fit by expectation maximisation from a k-means start.

        Arguments:
        z: latents (N, D), N >= components.
        components: K.
        seed: of the start.
        """
        from sklearn import mixture  # slow to import, and rarely needed

        fitted = mixture.GaussianMixture(components, max_iter=1000, random_state=seed)
        fitted.fit(z.double().numpy())
        parameters = (fitted.weights_, fitted.means_, fitted.covariances_)
        return cls(*(torch.from_numpy(values) for values in parameters))

    def sample(
        self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """z ~ sum over k of weight_k N(mean_k, temperature covariance_k), (n, D)."""
        stddev = _stddev(temperature)
        noise = torch.randn(n, self.latent_dim, generator=generator, dtype=torch.float64)
        component = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        means = self.means.cpu()
        roots = torch.linalg.cholesky(self.covariances.cpu())  # (K, D, D)
        z = torch.empty_like(noise)
        for index, root in enumerate(roots):
            rows = component == index
            z[rows] = means[index] + stddev * noise[rows] @ root.T
        return z.float().to(self.device)

    def log_prob(self, z: Tensor) -> Tensor:
        """(B, D) -> (B,) float64 nats."""
        components = MultivariateNormal(self.means, self.covariances)
        mixture = MixtureSameFamily(Categorical(self.weights), components)
        return torch.cat([mixture.log_prob(rows) for rows in z.double().split(1000)])

    def marginal(self, dimension: int) -> "GaussianMixture":
        """The mixture of the components' own marginals."""
        variances = self.covariances[:, dimension, dimension]
        return GaussianMixture(self.weights, self.means[:, [dimension]], variances[:, None, None])

    def formula(self, temperature: float | str = 1.0) -> str:
        """How many Gaussians, and what they are fitted to."""
        count = len(self.weights)
        kind = f"mixture of {count} Gaussians" if count > 1 else "Gaussian"
        text = f"{kind} fitted to the training posteriors"
        if temperature != 1:
            text += f", covariances times {_format_temperature(temperature)}"
        return text


def _stddev(temperature: float) -> float:
    """The temperature's factor of standard deviations."""
    require(temperature >= 0, "temperature", temperature, "a number >= 0 (it is a variance)")
    return math.sqrt(temperature)


def _format_temperature(temperature: float | str) -> str:
    return temperature if isinstance(temperature, str) else f"{temperature:g}"
