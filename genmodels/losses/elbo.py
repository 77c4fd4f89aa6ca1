"""The evidence lower bound, term by term, in nats."""

from typing import NamedTuple

from torch import Tensor

from genmodels.distributions import DiagonalGaussian
from genmodels.models.vae import VAE


class ELBOTerms(NamedTuple):
    """The two terms of the bound, still per image and per latent dimension, and what they were computed from."""

    distortion: Tensor  # (B,) -log p(x|z) in nats, z ~ q(z|x), summed over pixels
    kl: Tensor  # (B, D) KL(q(z_d|x) || p(z_d)) in nats
    posterior: DiagonalGaussian  # q(z|x)
    z: Tensor  # (B, D)

    @property
    def elbo(self) -> Tensor:
        """log p(x) >= -distortion - KL, (B,) nats: the bound at KL weight 1, whatever the model trains with.

        Kingma & Welling 2014, eq. 3 with one sample of z. Of a conditional model, and given labels y, it bounds
        log p(x|y) (Sohn et al. 2015, eq. 4).
        """
        return -self.distortion - self.kl.sum(dim=1)


def elbo_terms(model: VAE, images: Tensor, labels: Tensor | None = None) -> ELBOTerms:
    """One reparameterised sample of z for each image (B, C, H, W) in [0, 1], and the terms that it gives."""
    posterior = model.encode(images, labels)
    z = posterior.rsample()
    return ELBOTerms(
        -model.decode(z, labels).log_prob(images), posterior.kl_to_standard_normal(), posterior, z
    )
