"""What every generative model can do, whatever it is made of: noise to images, in two steps that can be taken apart."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodels.errors import require
from genmodels.models.densities import Density, StandardNormal


class GenerativeModel(nn.Module):
    """Images from noise. `prior` and `generate` are apart, so that the same noise can be shown across temperatures,
    classes, epochs and runs; `sample` composes them."""

    def __init__(self, image_shape: Sequence[int], latent_dim: int) -> None:
        """image_shape: (C, H, W)."""
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.latent_dim = latent_dim
        self.density: Density = StandardNormal(latent_dim)      # what z is drawn from

    def prior(self, n: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """z ~ N(0, temperature I), (n, D): the temperature is a variance. Drawn on the CPU, the same on any device.

        From another density where one was fitted to the codes: the one place where figures and metrics draw z.
        """
        require(temperature >= 0, "temperature", temperature, "a number >= 0 (it is a variance)")
        return self.density.sample(n, temperature, generator).to(next(self.parameters()).device)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] for latents (B, D)."""
        raise NotImplementedError

    @torch.no_grad()
    def sample(self, n: int, labels: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """n images of the model's own making, (n, C, H, W) in [0, 1]."""
        return self.generate(self.prior(n, temperature), labels)
