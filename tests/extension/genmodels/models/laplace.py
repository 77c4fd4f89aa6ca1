"""The Laplace prior: heavier tails than N(0, I); its KL is estimated from the one draw of z."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Laplace

from genmodels.models.priors import Prior


class LaplacePrior(Prior):
    """Independent Laplace distributions of mean 0 and variance 1."""

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """(n, D), with the temperature as the variance."""
        uniform = torch.rand(n, self.latent_dim, generator=generator) - 0.5
        noise = -uniform.sign() * torch.log1p(-2 * uniform.abs())
        return ((temperature / 2) ** 0.5 * noise).to(self.device)

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, D) -> (B,) nats."""
        return Laplace(0.0, 0.5**0.5).log_prob(z).sum(dim=1)

    def marginals(self) -> Sequence[Prior]:
        """The same of one dimension each."""
        return [LaplacePrior(1)] * self.latent_dim

    def formula(self, temperature: float | str = 1.0) -> str:
        """Laplace(0, I)."""
        return f"Laplace of variance {temperature}"
