"""What a latent-variable model minimises: (distortion (B,), kl (B, D), weight, progress) -> loss (B,), in nats.

Distortion and KL are summed over pixels and latent dimensions; the trainer averages the losses over the batch. So a KL
weight means the same for every image size, and weight 1 is the ELBO.
"""

from torch import Tensor, nn


class ELBO(nn.Module):
    """distortion + weight * KL: minus the evidence lower bound at weight 1, the beta-VAE otherwise.

    Kingma & Welling 2014, eq. 3; Higgins et al. 2017, eq. 4, where the weight is called beta.
    """

    def forward(self, distortion: Tensor, kl: Tensor, weight: float, progress: float) -> Tensor:
        """distortion (B,), kl (B, D) -> loss (B,). The progress through the run makes no difference here."""
        return distortion + weight * kl.sum(dim=1)
