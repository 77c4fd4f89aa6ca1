"""The variational autoencoder (Kingma & Welling 2014, "Auto-encoding variational Bayes"): what it is, and two networks.

Given the number of classes, each is the conditional one (Sohn et al. 2015, "Learning structured output representation
using deep conditional generative models"): its bound is one on log p(x|y), its prior N(0, I) whatever the label y.

A vector z (B, D) is drawn from the prior N(0, I), and an image from the likelihood p(x|z) that the decoder gives; the
encoder gives q(z|x), which approximates the posterior. Both return distributions: what to ask of them is the caller's
business. The losses are in genmodels.losses.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from genmodels.distributions import DiagonalGaussian
from genmodels.errors import require
from genmodels.image_distributions import ImageDistribution
from genmodels.likelihoods import Likelihood
from genmodels.models import blocks
from genmodels.models.generative import GenerativeModel, label_units
from genmodels.models.priors import Prior


class VAE(GenerativeModel):
    """Any encoder network, any decoder network, and the likelihood that reads the decoder's output."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        *,
        image_shape: Sequence[int],
        latent_dim: int,
        num_classes: int = 0,
        label_dropout: float = 0.0,
        mean_batch_norm: float | None = None,
        prior: Prior | None = None,
    ) -> None:
        """encoder: (B, C, H, W) -> (B, 2 latent_dim); decoder: (B, latent_dim) -> what `likelihood` reads.

        Those of a conditional model (num_classes > 0) take the labels' embedding (B, E) too. mean_batch_norm: the
        standard deviation over a batch that each dimension of the posterior mean is held at, a cure for collapse (see
        `FixedScaleBatchNorm`); None leaves it free.
        """
        super().__init__(image_shape, latent_dim, num_classes, label_dropout, prior)
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        require(
            mean_batch_norm is None or 0 < mean_batch_norm < math.inf,
            "mean_batch_norm",
            mean_batch_norm,
            "a finite number > 0, or null",
        )
        self.mean_norm = (
            nn.Identity()
            if mean_batch_norm is None
            else blocks.FixedScaleBatchNorm(latent_dim, mean_batch_norm)
        )

    @property
    def binary(self) -> bool:
        """Whether its images are black and white: gray data are binarised for a likelihood of those."""
        return self.likelihood.binary and self.image_shape[0] == 1

    def encode(self, images: Tensor, labels: Tensor | None = None) -> DiagonalGaussian:
        """q(z|x), or q(z|x, y) given labels (B,), for images (B, C, H, W) in [0, 1]: mean and log-variance (B, D)."""
        output = self.encoder(images, *self.condition(labels, len(images)))
        mean, log_variance = output.chunk(2, dim=1)  # (B, D) each
        return DiagonalGaussian(self.mean_norm(mean), log_variance)

    def decode(self, z: Tensor, labels: Tensor | None = None) -> ImageDistribution:
        """p(x|z), or p(x|z, y) given labels (B,), for latents (B, D): a distribution over images (B, C, H, W)."""
        return self.likelihood(self.decoder(z, *self.condition(labels, len(z))))

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean images of p(x|z) at the mean of q(z|x), for images (B, C, H, W): (B, C, H, W) in [0, 1]."""
        return self.generate(self.encode(images, labels).mean, labels)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean images of p(x|z) for latents (B, D): (B, C, H, W) in [0, 1]."""
        return self.decode(z, labels).mean


class ConvVAE(VAE):
    """Convolutions that halve the side, and ReLU; the decoder goes the same way back."""

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_dim: int,
        widths: Sequence[int],
        hidden: int,
        likelihood: Likelihood,
        num_classes: int = 0,
        label_dropout: float = 0.0,
        norm: str = "none",
        mean_batch_norm: float | None = None,
        prior: Prior | None = None,
    ) -> None:
        """widths: channels of the encoder's stages, each of which halves the side (28 -> 14 -> 7 -> 4).

        hidden: units of the decoder's first layer, from which it makes its smallest feature maps. norm: of all hidden
        layers, one of `blocks.NORMS`.
        """
        _check(latent_dim, widths)
        require(hidden >= 1, "hidden", hidden, "an integer >= 1")
        units = label_units(num_classes)
        super().__init__(
            blocks.conv_encoder(image_shape, widths, 2 * latent_dim, units, norm),
            blocks.conv_decoder(
                latent_dim,
                hidden,
                widths[::-1],
                _decoder_shape(image_shape, likelihood),
                units,
                norm,
            ),
            likelihood,
            image_shape=image_shape,
            latent_dim=latent_dim,
            num_classes=num_classes,
            label_dropout=label_dropout,
            mean_batch_norm=mean_batch_norm,
            prior=prior,
        )


class MLPVAE(VAE):
    """Fully connected layers and ReLU; the decoder mirrors the encoder."""

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_dim: int,
        widths: Sequence[int],
        likelihood: Likelihood,
        num_classes: int = 0,
        label_dropout: float = 0.0,
        norm: str = "none",
        mean_batch_norm: float | None = None,
        prior: Prior | None = None,
    ) -> None:
        """widths: units of the encoder's hidden layers. norm: of all hidden layers, one of `blocks.NORMS`."""
        _check(latent_dim, widths)
        units = label_units(num_classes)
        super().__init__(
            blocks.mlp_encoder(image_shape, widths, 2 * latent_dim, units, norm),
            blocks.mlp_decoder(
                latent_dim, widths[::-1], _decoder_shape(image_shape, likelihood), units, norm
            ),
            likelihood,
            image_shape=image_shape,
            latent_dim=latent_dim,
            num_classes=num_classes,
            label_dropout=label_dropout,
            mean_batch_norm=mean_batch_norm,
            prior=prior,
        )


def _decoder_shape(image_shape: Sequence[int], likelihood: Likelihood) -> tuple[int, int, int]:
    channels, height, width = image_shape
    return channels * likelihood.parameters_per_value, height, width


def _check(latent_dim: int, widths: Sequence[int]) -> None:
    require(latent_dim >= 1, "latent_dim", latent_dim, "an integer >= 1")
    require(
        bool(widths) and min(widths) >= 1,
        "widths",
        list(widths),
        "a list of at least one integer >= 1",
    )
