"""The convolutional VAE 32-64-128 in this project and in the usual tutorial loop.

Both train the same network, model=vae of 28x28 without skips, with the same loss. The loops are
those of mlp_vae.py.
"""

from measure import Measurement
from mlp_vae import measure_tutorial_loop, measure_vae
from torch import Tensor, nn

from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.vae import elbo_terms
from genmodels.models.vae import ConvVAE


def make_model() -> ConvVAE:
    """The network."""
    return ConvVAE(
        image_shape=(1, 28, 28),
        latent_dim=32,
        widths=[32, 64, 128],
        hidden=256,
        skips=False,
        likelihood=BernoulliLikelihood(),
    )


class TutorialVAE(nn.Module):
    """The network with its loss, as a tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = make_model()

    def forward(self, images: Tensor) -> Tensor:
        """Minus the ELBO of images (B, 1, 28, 28), summed over the batch."""
        return -elbo_terms(self.model, images).elbo.sum()


def measure_tutorial(steps: int) -> Measurement:
    """The tutorial loop, in float32."""
    return measure_tutorial_loop(TutorialVAE(), steps)


def measure_ours(binarise: bool, precision: str, steps: int) -> Measurement:
    """`fit` with the same network."""
    return measure_vae(make_model(), binarise, precision, steps)
