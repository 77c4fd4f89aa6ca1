"""The generative adversarial network (Goodfellow et al. 2014): a generator of images from noise, and a discriminator of
real images from generated ones; convolutions that double and halve the side (DCGAN: Radford et al. 2016, "Unsupervised
representation learning with deep convolutional generative adversarial networks").

Given the number of classes, both are told the label: a learned embedding shifts every hidden layer of the generator,
and the discriminator has a direction among its features for each class (Miyato & Koyama 2018, "cGANs with projection
discriminator"). The losses are in genmodels.losses.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from genmodels.errors import require
from genmodels.models.blocks import ConditionalBias, halvings, kernel_size, network
from genmodels.models.generative import GenerativeModel, label_units

SMALLEST = 4  # pixels: the side is halved until it has at most so many
LEAK = 0.2  # slope of the discriminator's LeakyReLU below 0
GENERATOR_NORMS = ("none", "batch")
DISCRIMINATOR_NORMS = ("none", "batch", "spectral")


class Generator(GenerativeModel):
    """G(z): a linear layer, then transposed convolutions that double the side, ReLU, a tanh brought to [0, 1]."""

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_dim: int,
        generator_width: int,
        generator_norm: str,
        num_classes: int = 0,
        label_dropout: float = 0.0,
    ) -> None:
        """generator_width: channels before the last layer, of which each layer towards the latents has twice as many.
        generator_norm: "none" or "batch" after each hidden layer."""
        super().__init__(image_shape, latent_dim, num_classes, label_dropout)
        require(latent_dim >= 1, "latent_dim", latent_dim, "an integer >= 1")
        require(
            generator_norm in GENERATOR_NORMS,
            "generator_norm",
            generator_norm,
            _any_of(GENERATOR_NORMS),
        )
        sides = sides_of(image_shape)[::-1]  # from the smallest
        widths = _widths("generator_width", generator_width, sides)[::-1]

        def follows(channels: int) -> list[nn.Module]:
            return [
                *([nn.BatchNorm2d(channels)] if generator_norm == "batch" else []),
                *([ConditionalBias(label_units(num_classes), channels)] if num_classes else []),
                nn.ReLU(),
            ]

        first = (widths[0], *sides[0])
        layers = [
            nn.Linear(latent_dim, math.prod(first)),
            nn.Unflatten(1, first),
            *follows(widths[0]),
        ]
        channels = itertools.pairwise([*widths, image_shape[0]])
        stages = [
            nn.ConvTranspose2d(wide, narrow, kernel_size(side), stride=2, padding=1)
            for (wide, narrow), side in zip(channels, sides[1:], strict=True)
        ]
        for stage in stages[:-1]:
            layers += [stage, *follows(stage.out_channels)]
        self.body = network([*layers, stages[-1]], label_units(num_classes))
        initialise(self.body, normalised=generator_norm == "batch")

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) in [0, 1] for latents (B, D) or (B, D, 1, 1)."""
        z = z.flatten(1)
        output = self.body(z, *self.condition(labels, len(z)))
        return 0.5 + 0.5 * torch.tanh(output.float())

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """The same, by the name that all generative models have for it."""
        return self(z, labels)


class Discriminator(nn.Module):
    """D(x): convolutions that halve the side, LeakyReLU; a logit, > 0 for "real"."""

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        discriminator_width: int,
        discriminator_norm: str,
        num_classes: int = 0,
    ) -> None:
        """discriminator_width: channels of the first layer, of which each later one has twice as many.
        discriminator_norm: "none"; "batch" after all but the first; "spectral" of all weights (Miyato et al. 2018)."""
        super().__init__()
        require(
            discriminator_norm in DISCRIMINATOR_NORMS,
            "discriminator_norm",
            discriminator_norm,
            _any_of(DISCRIMINATOR_NORMS),
        )
        sides = sides_of(image_shape)
        widths = _widths("discriminator_width", discriminator_width, sides)
        self.num_classes = num_classes
        self.uses_batch_statistics = (
            discriminator_norm == "batch"
        )  # a logit then depends on the other images too
        layers: list[nn.Module] = []
        for (narrow, wide), side in zip(
            itertools.pairwise([image_shape[0], *widths]), sides, strict=False
        ):
            norm = [nn.BatchNorm2d(wide)] if self.uses_batch_statistics and layers else []
            layers += [
                nn.Conv2d(narrow, wide, kernel_size(side), stride=2, padding=1),
                *norm,
                nn.LeakyReLU(LEAK),
            ]
        units = widths[-1] * math.prod(sides[-1])
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(units, 1)
        initialise(self, normalised=self.uses_batch_statistics)
        if num_classes:
            self.class_directions = nn.Embedding(
                num_classes + 1, units
            )  # the first row is that of no label
            nn.init.normal_(self.class_directions.weight, std=1 / units)
        if discriminator_norm == "spectral":
            for layer in list(self.modules()):
                if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
                    spectral_norm(layer)

    def features(self, images: Tensor) -> Tensor:
        """What the logit is a linear function of, (B, F), for images (B, C, H, W) in [0, 1]."""
        return self.body(2 * images - 1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (B,) float32 for images (B, C, H, W) in [0, 1], as images of these labels (B,) if it knows classes."""
        features = self.features(images)
        logits = self.head(features).squeeze(1).float()
        if not self.num_classes:
            return logits
        rows = (
            torch.zeros(len(images), dtype=torch.long, device=images.device)
            if labels is None
            else labels + 1
        )
        return logits + (features * self.class_directions(rows)).sum(dim=1, dtype=torch.float32)


class GAN(nn.Module):
    """Both players. What a trained one is used for is its generator."""

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        latent_dim: int,
        generator_width: int,
        discriminator_width: int,
        generator_norm: str,
        discriminator_norm: str,
        num_classes: int = 0,
        label_dropout: float = 0.0,
    ) -> None:
        """image_shape: (C, H, W), with sides of more than SMALLEST; the rest is Generator's and Discriminator's."""
        super().__init__()
        self.generator = Generator(
            image_shape=image_shape,
            latent_dim=latent_dim,
            generator_width=generator_width,
            generator_norm=generator_norm,
            num_classes=num_classes,
            label_dropout=label_dropout,
        )
        self.discriminator = Discriminator(
            image_shape=image_shape,
            discriminator_width=discriminator_width,
            discriminator_norm=discriminator_norm,
            num_classes=num_classes,
        )


def sides_of(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Height and width of the feature maps, from those of the image until the smaller one has at most SMALLEST pixels.

    Raises ValueError for an image that is not larger.
    """
    _, height, width = image_shape
    require(
        min(height, width) > SMALLEST,
        "image_shape",
        list(image_shape),
        f"of sides over {SMALLEST} pixels",
    )
    times = math.ceil(math.log2(min(height, width) / SMALLEST))
    return list(zip(halvings(height, times), halvings(width, times), strict=True))


@torch.no_grad()
def initialise(network: nn.Module, normalised: bool) -> None:
    """Weights so that activations keep their size from layer to layer (He et al. 2015, eq. 10), for networks without
    normalisation; else N(0, 0.02^2) as Radford et al. have it (section 3). Biases 0; layers without one are those of
    labels, and stay as they are."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
            nn.init.normal_(layer.weight, std=0.02 if normalised else math.sqrt(2 / fan_in(layer)))
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


def fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    """How many inputs each output is a sum of; of a transposed convolution in the mean, away from edges."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.in_channels * math.prod(layer.kernel_size) / math.prod(layer.stride)
    return layer.weight[0].numel()


def _widths(name: str, width: int, sides: Sequence[tuple[int, int]]) -> list[int]:
    """Channels of the feature maps that are smaller than the image, twice as many at each halving."""
    require(width >= 1, name, width, "an integer >= 1")
    return [width * 2**times for times in range(len(sides) - 1)]


def _any_of(names: Sequence[str]) -> str:
    return "one of " + ", ".join(names)
