"""The generative adversarial network (Goodfellow et al. 2014): a generator G and a discriminator D.

Convolutions double and halve the side, as in DCGAN (Radford et al. 2016, "Unsupervised
representation learning with deep convolutional generative adversarial networks").

With classes, both networks are given the label: a learned embedding shifts every hidden layer of
the generator, and the discriminator has a direction among its features for each class (Miyato &
Koyama 2018, "cGANs with projection discriminator"). The losses are in genmodels.losses.adversarial.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from genmodels.errors import require, require_choice
from genmodels.models.blocks import (
    ResidualBlock,
    Size,
    activated,
    halved_sizes,
    hidden_layer,
    kernel_size,
    network,
    upsampling_layers,
)
from genmodels.models.generative import GenerativeModel, label_units

MIN_SIDE = 4  # pixels: feature maps are halved until their shorter side has at most so many
LEAKY_SLOPE = 0.2  # of the discriminator's LeakyReLU below 0
GENERATOR_NORMS = ("none", "batch")
DISCRIMINATOR_NORMS = ("none", "batch", "spectral")


class Generator(GenerativeModel):
    """G(z): a linear layer, transposed convolutions that double the side, ReLU; tanh to [0, 1].

    Residual blocks may follow each of them but the last (He et al. 2016, "Deep residual learning
    for image recognition", fig. 2).

    Arguments:
    image_shape: (C, H, W), with sides of more than MIN_SIDE.
    latent_dim: D.
    generator_width: channels before the last layer; each layer towards z has twice as many.
    generator_norm: of hidden layers, "none" or "batch".
    generator_blocks: residual blocks at each size of the hidden feature maps.
    num_classes: 0 for a model without classes.
    label_dropout: share of labels that training hides.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_dim: int,
        generator_width: int,
        generator_norm: str,
        generator_blocks: int,
        num_classes: int = 0,
        label_dropout: float = 0.0,
    ) -> None:
        super().__init__(image_shape, latent_dim, num_classes, label_dropout)
        require(latent_dim >= 1, "latent_dim", latent_dim, "an integer >= 1")
        require_choice("generator_norm", generator_norm, GENERATOR_NORMS)
        require(generator_blocks >= 0, "generator_blocks", generator_blocks, "an integer >= 0")
        smallest, *larger = reversed(feature_map_sizes(image_shape))
        widths = _widths("generator_width", generator_width, len(larger))[::-1]
        units = label_units(num_classes)

        def blocks(channels: int) -> list[nn.Module]:
            return [ResidualBlock(channels, generator_norm, units) for _ in range(generator_blocks)]

        # shapes are those of generator_width=64 at 64x64
        first_maps = (widths[0], *smallest)
        layers = [
            nn.Linear(latent_dim, math.prod(first_maps)),  # (B, 8192)
            nn.Unflatten(1, first_maps),  # (B, 512, 4, 4)
            *activated(widths[0], units, generator_norm, nn.ReLU),
            *blocks(widths[0]),
        ]
        *hidden, last = upsampling_layers([*widths, image_shape[0]], larger)
        for layer in hidden:
            layers += hidden_layer(layer, units, generator_norm, "relu")
            layers += blocks(layer.out_channels)  # (B, 256, 8, 8) after the first
        layers.append(last)  # (B, C, 64, 64)
        self.body = network(layers, units)
        initialise(self.body, generator_norm)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] for latents (B, D) or (B, D, 1, 1)."""
        z = z.flatten(1)
        output = self.body(z, *self.condition(labels, z.shape[0]))
        return 0.5 + 0.5 * torch.tanh(output.float())

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] for latents (B, D): the same as `forward`."""
        return self(z, labels)


class Discriminator(nn.Module):
    """D(x): convolutions that halve the side, LeakyReLU; a logit, > 0 for "real".

    Residual blocks may follow each of them, as in `Generator`.

    Arguments:
    image_shape: (C, H, W), with sides of more than MIN_SIDE.
    discriminator_width: channels of the first layer; each later layer has twice as many.
    discriminator_norm: "none"; "batch", in all layers but the first; "spectral", of all weights
        (Miyato et al. 2018, "Spectral normalization for generative adversarial networks").
    discriminator_blocks: residual blocks at each size of the feature maps.
    num_classes: 0 for a discriminator without classes.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        discriminator_width: int,
        discriminator_norm: str,
        discriminator_blocks: int,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        require_choice("discriminator_norm", discriminator_norm, DISCRIMINATOR_NORMS)
        require(
            discriminator_blocks >= 0,
            "discriminator_blocks",
            discriminator_blocks,
            "an integer >= 0",
        )
        *sizes, smallest = feature_map_sizes(image_shape)
        widths = _widths("discriminator_width", discriminator_width, len(sizes))
        self.num_classes = num_classes
        # whether a logit depends on the other images of the batch too
        self.uses_batch_statistics = discriminator_norm == "batch"

        leaky_relu = partial(nn.LeakyReLU, LEAKY_SLOPE)
        norm = "batch" if self.uses_batch_statistics else "none"

        # shapes are those of discriminator_width=64 at 64x64
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for stage, (width, size) in enumerate(zip(widths, sizes, strict=True)):
            layers.append(nn.Conv2d(channels, width, kernel_size(size), stride=2, padding=1))
            # (B, 64, 32, 32) after the first
            layers += activated(width, 0, norm if stage > 0 else "none", leaky_relu)
            for _ in range(discriminator_blocks):
                layers.append(ResidualBlock(width, norm, activation=leaky_relu))
            channels = width
        self.body = nn.Sequential(*layers, nn.Flatten())  # (B, F), F = 512 * 4 * 4
        features = channels * math.prod(smallest)
        self.head = nn.Linear(features, 1)  # (B, 1)
        initialise(self, discriminator_norm)
        if num_classes:
            # the first row is that of no label
            self.class_directions = nn.Embedding(num_classes + 1, features)
            nn.init.normal_(self.class_directions.weight, std=1 / features)
        if discriminator_norm == "spectral":
            for layer in list(self.modules()):
                if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
                    spectral_norm(layer)

    def features(self, images: Tensor) -> Tensor:
        """What the logit is linear in, (B, F), for images (B, C, H, W) in [0, 1]."""
        return self.body(2 * images - 1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B,) float32.

        Arguments:
        images: (B, C, H, W) in [0, 1].
        labels: (B,) int64 that the images are said to have, -1 for no label; None: -1 for all.
            Without classes they are ignored.
        """
        features = self.features(images)
        logits = self.head(features).squeeze(1).float()
        if not self.num_classes:
            return logits
        if labels is None:
            labels = torch.full((len(images),), -1, device=images.device)
        directions = self.class_directions(labels + 1)  # (B, F)
        return logits + (features * directions).sum(dim=1, dtype=torch.float32)


class GAN(nn.Module):
    """Generator and discriminator. Inference uses the generator only.

    Arguments: those of `Generator` and `Discriminator`.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_dim: int,
        generator_width: int,
        discriminator_width: int,
        generator_norm: str,
        generator_blocks: int,
        discriminator_norm: str,
        discriminator_blocks: int,
        num_classes: int = 0,
        label_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.generator = Generator(
            image_shape=image_shape,
            latent_dim=latent_dim,
            generator_width=generator_width,
            generator_norm=generator_norm,
            generator_blocks=generator_blocks,
            num_classes=num_classes,
            label_dropout=label_dropout,
        )
        self.discriminator = Discriminator(
            image_shape=image_shape,
            discriminator_width=discriminator_width,
            discriminator_norm=discriminator_norm,
            discriminator_blocks=discriminator_blocks,
            num_classes=num_classes,
        )


def feature_map_sizes(image_shape: Sequence[int]) -> list[Size]:
    """(H, W) of an image and of its feature maps, until the shorter side is at most MIN_SIDE.

    Raises ValueError for an image that is not larger than that.
    """
    shorter = min(image_shape[1:])
    require(
        shorter > MIN_SIDE, "image_shape", list(image_shape), f"of sides over {MIN_SIDE} pixels"
    )
    return halved_sizes(image_shape, math.ceil(math.log2(shorter / MIN_SIDE)))


@torch.no_grad()
def initialise(network: nn.Module, norm: str) -> None:
    """Draw the weights of a GAN's network anew, and set its biases to 0.

    With BatchNorm weights are N(0, 0.02^2) (Radford et al. 2016, section 3). Otherwise activations
    keep their size from layer to layer (He et al. 2015, eq. 10), and without any normalisation
    residual blocks begin by adding nothing (Zhang et al. 2019, "Fixup initialization", section 3).
    Layers without a bias are those of labels, and stay as they are.

    Arguments:
    network: changed in place.
    norm: "none", "batch" or "spectral".
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
            stddev = 0.02 if norm == "batch" else math.sqrt(2 / fan_in(layer))
            nn.init.normal_(layer.weight, std=stddev)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    if norm != "none":
        return
    for layer in network.modules():
        if isinstance(layer, ResidualBlock):
            nn.init.zeros_(layer.second.weight)


def fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Inputs that each output sums; of a transposed convolution their mean, away from edges."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.in_channels * math.prod(layer.kernel_size) / math.prod(layer.stride)
    return layer.weight[0].numel()


def _widths(name: str, width: int, stages: int) -> list[int]:
    """Channels of the feature maps from the largest, twice as many at each halving."""
    require(width >= 1, name, width, "an integer >= 1")
    return [width * 2**stage for stage in range(stages)]
