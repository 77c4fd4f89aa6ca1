"""A small VQ-VAE (van den Oord et al. 2017, "Neural discrete representation learning")."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import Prior


class CodePrior(Prior):
    """Each group of latents is a code of the codebook, all equally probable."""

    codebook: Tensor  # (K, E)

    def __init__(self, codebook: Tensor, groups: int) -> None:
        super().__init__(groups * codebook.shape[1])
        self.groups = groups
        self.register_buffer("codebook", codebook)

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """(n, groups * E); a temperature of 0 gives the first code everywhere."""
        codes = torch.randint(len(self.codebook), (n, self.groups), generator=generator)
        if temperature == 0:
            codes.zero_()
        return self.codebook[codes.to(self.device)].flatten(1)

    def formula(self, temperature: float | str = 1.0) -> str:
        """The uniform distribution of codes."""
        return f"{self.groups} of {len(self.codebook)} codes"


class Quantised(NamedTuple):
    """Latents before and after quantisation, and which codes they became."""

    latents: Tensor  # (B, D)
    z: Tensor  # (B, D), with the gradient of `latents`
    codes: Tensor  # (B, groups) int64


class VQVAE(GenerativeModel):
    """Latents are replaced by the nearest codes of a codebook."""

    def __init__(
        self, *, image_shape: Sequence[int], groups: int, codes: int, code_dim: int, width: int
    ) -> None:
        """Arguments:
        image_shape: (C, H, W).
        groups: codes of an image.
        codes: in the codebook.
        code_dim: of each code.
        width: of the hidden layers.
        """
        codebook = torch.randn(codes, code_dim)
        super().__init__(image_shape, groups * code_dim, prior=CodePrior(codebook, groups))
        values = math.prod(image_shape)
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(values, width), nn.ReLU(), nn.Linear(width, self.latent_dim)
        )
        self.decoder = nn.Sequential(
            nn.Linear(self.latent_dim, width),
            nn.ReLU(),
            nn.Linear(width, values),
            nn.Unflatten(1, tuple(image_shape)),
        )

    def encode(self, images: Tensor) -> Quantised:
        """No posterior: codes. So nothing that asks for a VAE's posterior is offered to it."""
        latents = self.encoder(images)
        codebook = self.prior.codebook
        groups = latents.view(len(images), -1, codebook.shape[1])  # (B, G, E)
        codes = torch.cdist(groups, codebook[None]).argmin(dim=2)  # (B, G)
        nearest = codebook[codes].flatten(1)
        return Quantised(latents, latents + (nearest - latents).detach(), codes)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] for latents (B, D)."""
        return torch.sigmoid(self.decoder(z))
