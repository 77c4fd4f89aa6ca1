"""What latents are drawn from: the prior that a model was trained with, or a density fitted to its codes afterwards."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal


class Density(Protocol):
    """A distribution of z, on the CPU: the same draws on any device."""

    def formula(self, temperature: float | str = 1.0) -> str:
        """What z is drawn from, as titles say it; the temperature may be a symbol such as T."""
        ...

    def sample(
        self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """(n, D) float32. The temperature multiplies variances."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """log density in nats of z (N, D) at temperature 1, (N,) float64."""
        ...

    def marginal(self, dimension: int) -> "Density":
        """The distribution of this one dimension of z."""
        ...


@dataclass(frozen=True)
class StandardNormal:
    """N(0, I): the prior of every model here."""

    dimensions: int

    def formula(self, temperature: float | str = 1.0) -> str:
        """N(0, I), or N(0, 0.5 I)."""
        return f"N(0, {'' if temperature == 1 else f'{_shown(temperature)} '}I)"

    def sample(
        self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """z ~ N(0, temperature I), (n, D)."""
        return math.sqrt(temperature) * torch.randn(n, self.dimensions, generator=generator)

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) float64 nats."""
        return Normal(0, 1).log_prob(z.double()).sum(dim=1)

    def marginal(self, dimension: int) -> "StandardNormal":
        """N(0, 1), whichever dimension."""
        return StandardNormal(1)


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of K Gaussians with full covariances, fitted to codes of training images; float64.

    As a sampler for a trained autoencoder ("ex-post density estimation"): Ghosh et al. 2020, "From variational to
    deterministic autoencoders", section 4.
    """

    weights: Tensor  # (K,), sum 1
    means: Tensor  # (K, D)
    covariances: Tensor  # (K, D, D)

    @classmethod
    def fit(cls, z: Tensor, components: int, seed: int) -> "GaussianMixture":
        """By expectation maximisation from a k-means start, to codes (N, D), N >= components."""
        from sklearn.mixture import GaussianMixture as Fit  # slow to import, and rarely needed

        found = Fit(components, covariance_type="full", max_iter=1000, random_state=seed).fit(
            z.double().numpy()
        )
        return cls(
            *(
                torch.from_numpy(values)
                for values in (found.weights_, found.means_, found.covariances_)
            )
        )

    def formula(self, temperature: float | str = 1.0) -> str:
        """A mixture of so many Gaussians, and where they are from."""
        scaled = "" if temperature == 1 else f", covariances times {_shown(temperature)}"
        count = f"mixture of {len(self.weights)} Gaussians" if len(self.weights) > 1 else "Gaussian"
        return f"{count} fitted to the training posteriors{scaled}"

    def sample(
        self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """z ~ sum_k weight_k N(mean_k, temperature covariance_k), (n, D). The temperature leaves weights and means."""
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)  # (n,)
        z = torch.empty_like(noise)
        for index, root in enumerate(torch.linalg.cholesky(self.covariances)):
            rows = chosen == index
            z[rows] = self.means[index] + math.sqrt(temperature) * noise[rows] @ root.T
        return z.float()

    def log_prob(self, z: Tensor) -> Tensor:
        """(N, D) -> (N,) float64 nats."""
        mixture = MixtureSameFamily(
            Categorical(self.weights), MultivariateNormal(self.means, self.covariances)
        )
        return torch.cat([mixture.log_prob(some) for some in z.double().split(1000)])

    def marginal(self, dimension: int) -> "GaussianMixture":
        """The mixture of its components' own marginals."""
        return GaussianMixture(
            self.weights,
            self.means[:, [dimension]],
            self.covariances[:, [dimension]][:, :, [dimension]],
        )


def _shown(temperature: float | str) -> str:
    return temperature if isinstance(temperature, str) else f"{temperature:g}"
