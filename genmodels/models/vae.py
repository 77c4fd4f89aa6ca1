"""The variational autoencoder (Kingma & Welling 2014, "Auto-encoding variational Bayes").

A vector z (B, D) is drawn from a prior, N(0, I) or another of genmodels.models.priors, and an image
from the likelihood p(x|z) that the decoder gives. The encoder gives q(z|x), which approximates the
posterior. Both return distributions; the loss is in genmodels.losses.vae.

With classes it is the conditional VAE (Sohn et al. 2015, "Learning structured output representation
using deep conditional generative models"): it bounds log p(x|y), and its prior may be one for each
label y.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from genmodels.distributions import DiagonalGaussian
from genmodels.errors import require
from genmodels.image_distributions import ImageDistribution
from genmodels.likelihoods import Likelihood
from genmodels.models import vae_networks
from genmodels.models.blocks import check_widths
from genmodels.models.fixed_scale_batch_norm import FixedScaleBatchNorm
from genmodels.models.generative import GenerativeModel, label_units
from genmodels.models.priors import Prior

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, FixedScaleBatchNorm)


class VAE(GenerativeModel):
    """An encoder network, a decoder network, and the likelihood that reads the decoder's output.

    Networks of a conditional model take the labels' embedding (B, E) as a second argument.

    Arguments:
    encoder: images (B, C, H, W) -> (B, 2 D), mean and log-variance.
    decoder: latents (B, D) -> what the likelihood reads.
    likelihood: of images, from the decoder's output.
    image_shape: (C, H, W).
    latent_dim: D.
    num_classes: 0 for a model without classes.
    label_dropout: share of labels that training hides.
    mean_batch_norm: standard deviation over a batch at which each dimension of the posterior mean
        is held, against collapse (see `FixedScaleBatchNorm`); None leaves it free.
    prior: p(z); None for N(0, I).
    """

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
        super().__init__(image_shape, latent_dim, num_classes, label_dropout, prior)
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.mean_norm: nn.Module = nn.Identity()
        if mean_batch_norm is not None:
            require(
                0 < mean_batch_norm < math.inf,
                "mean_batch_norm",
                mean_batch_norm,
                "a finite number > 0, or null",
            )
            self.mean_norm = FixedScaleBatchNorm(latent_dim, mean_batch_norm)
        if self.prior.uses_encoder:
            require(
                not any(isinstance(layer, BATCH_NORMS) for layer in self.modules()),
                "prior",
                type(self.prior).__name__,
                "another one for an encoder with batch normalisation (norm=batch, "
                "mean_batch_norm), whose statistics its pseudo-inputs would change",
            )
            self.prior.use_encoder(self.encode)

    @property
    def binary(self) -> bool:
        """Whether its images are black and white, so that gray data are binarised."""
        return self.likelihood.binary and self.image_shape[0] == 1

    def encode(self, images: Tensor, labels: Tensor | None = None) -> DiagonalGaussian:
        """q(z|x), or q(z|x, y) given labels (B,), over latents (B, D).

        Arguments:
        images: (B, C, H, W) in [0, 1].
        labels: (B,) int64 for a conditional model, -1 for no label.
        """
        output = self.encoder(images, *self.condition(labels, len(images)))
        mean, log_variance = output.chunk(2, dim=1)  # (B, D) each
        return DiagonalGaussian(self.mean_norm(mean), log_variance)

    def decode(self, z: Tensor, labels: Tensor | None = None) -> ImageDistribution:
        """p(x|z), or p(x|z, y) given labels (B,), over images (B, C, H, W); z (B, D)."""
        output = self.decoder(z, *self.condition(labels, z.shape[0]))
        return self.likelihood(output)

    def reconstruct(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of p(x|z) at the mean of q(z|x): (B, C, H, W) in [0, 1], as the images are."""
        return self.generate(self.encode(images, labels).mean, labels)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of p(x|z) for latents (B, D): (B, C, H, W) in [0, 1]."""
        return self.decode(z, labels).mean


class ConvVAE(VAE):
    """Convolutions that halve the side; the decoder mirrors the encoder.

    Arguments:
    widths: channels of the encoder's stages, each of which halves the side (28 -> 14 -> 7 -> 4).
    hidden: units of the decoder's first layer.
    norm: of all hidden layers, one of `blocks.NORMS`.
    activation: of all hidden layers, one of `blocks.ACTIVATIONS`.
    skips: whether z shifts every hidden layer of the decoder.
    others: as `VAE`.
    """

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
        activation: str = "leaky_relu",
        skips: bool = True,
        mean_batch_norm: float | None = None,
        prior: Prior | None = None,
    ) -> None:
        _check_sizes(latent_dim, widths)
        require(hidden >= 1, "hidden", hidden, "an integer >= 1")
        units = label_units(num_classes)
        output = likelihood.output_shape(image_shape)
        super().__init__(
            vae_networks.conv_encoder(image_shape, widths, 2 * latent_dim, units, norm, activation),
            vae_networks.conv_decoder(
                latent_dim, hidden, widths[::-1], output, units, norm, activation, skips
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
    """Fully connected layers; the decoder mirrors the encoder.

    Arguments:
    widths: units of the encoder's hidden layers.
    norm: of all hidden layers, one of `blocks.NORMS`.
    activation: of all hidden layers, one of `blocks.ACTIVATIONS`.
    skips: whether z shifts every hidden layer of the decoder.
    others: as `VAE`.
    """

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
        activation: str = "leaky_relu",
        skips: bool = True,
        mean_batch_norm: float | None = None,
        prior: Prior | None = None,
    ) -> None:
        _check_sizes(latent_dim, widths)
        units = label_units(num_classes)
        output = likelihood.output_shape(image_shape)
        super().__init__(
            vae_networks.mlp_encoder(image_shape, widths, 2 * latent_dim, units, norm, activation),
            vae_networks.mlp_decoder(
                latent_dim, widths[::-1], output, units, norm, activation, skips
            ),
            likelihood,
            image_shape=image_shape,
            latent_dim=latent_dim,
            num_classes=num_classes,
            label_dropout=label_dropout,
            mean_batch_norm=mean_batch_norm,
            prior=prior,
        )


def _check_sizes(latent_dim: int, widths: Sequence[int]) -> None:
    require(latent_dim >= 1, "latent_dim", latent_dim, "an integer >= 1")
    check_widths(widths)
