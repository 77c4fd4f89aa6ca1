"""Networks that models are made of, for images of any shape (C, H, W).

A network with `label_units` = 0 is called as network(inputs); others are conditional, called as
network(inputs, embedding), and each hidden layer is shifted by the labels' embedding
(B, label_units), after its normalisation (`norm`, one of NORMS) and before its activation (one of
ACTIVATIONS). In a decoder the latents z shift them, too.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from genmodels.errors import require, require_choice

ImageShape = Sequence[int]  # (C, H, W)
Size = tuple[int, int]  # (H, W) of feature maps

# over the batch (Ioffe & Szegedy 2015), or over each image (Ba et al. 2016)
NORMS = ("none", "batch", "layer")

# Of LeakyReLU, the slope below 0 is 0.1: a unit that is below 0 for all images goes on learning
# (Maas et al. 2013), while one of ReLU is dead.
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu": partial(nn.LeakyReLU, 0.1),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


class Centre(nn.Module):
    """Images in [0, 1] to [-1, 1], so that a white background is not the largest input of all."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return 2 * images - 1


class ConditionalBias(nn.Module):
    """Adds a linear function of an embedding to features (B, C) or to maps (B, C, H, W).

    The additive half of FiLM (Perez et al. 2018, eq. 2).
    """

    def __init__(self, shift_units: int, channels: int) -> None:
        super().__init__()
        self.shift = nn.Linear(shift_units, channels, bias=False)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """features (B, C, ...), embedding (B, shift_units) -> (B, C, ...)."""
        shift = self.shift(embedding)  # (B, C)
        places = [1] * (features.dim() - 2)
        return features + shift.view(*shift.shape, *places)


class Conditional(nn.ModuleList):
    """Layers in sequence; conditional biases also receive the embedding."""

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """features (B, ...), embedding (B, shift_units) -> the last layer's output."""
        for layer in self:
            if isinstance(layer, ConditionalBias):
                features = layer(features, embedding)
            else:
                features = layer(features)
        return features


class Decoder(nn.Module):
    """Layers whose input is z and the labels' embedding, if there is one.

    Arguments:
    layers: those of `Conditional`.
    skips: whether all that input shifts the hidden layers (Dieng et al. 2019, "Avoiding latent
        variable collapse with generative skip models", section 3), or the embedding alone.
    """

    def __init__(self, layers: list[nn.Module], skips: bool) -> None:
        super().__init__()
        self.body = Conditional(layers)
        self.skips = skips

    def forward(self, z: Tensor, *embedding: Tensor) -> Tensor:
        """z (B, D), embedding (B, label_units) -> the last layer's output."""
        inputs = torch.cat([z, *embedding], dim=1)
        shift = inputs if self.skips else inputs[:, z.shape[1] :]
        return self.body(inputs, shift)


def mlp_encoder(
    image_shape: ImageShape,
    widths: Sequence[int],
    outputs: int,
    label_units: int = 0,
    norm: str = "none",
    activation: str = "leaky_relu",
) -> nn.Module:
    """Fully connected layers: images (B, C, H, W) -> (B, outputs).

    Arguments:
    image_shape: (C, H, W).
    widths: units of the hidden layers.
    outputs: units of the last layer.
    label_units: of the labels' embedding; 0 for an unconditional network.
    norm: of hidden layers, one of NORMS.
    activation: of hidden layers, one of ACTIVATIONS.
    """
    layers: list[nn.Module] = [Centre(), nn.Flatten()]  # (B, C * H * W)
    inputs = math.prod(image_shape)
    for width in widths:
        layers += hidden_layer(
            nn.Linear(inputs, width), label_units, norm, activation
        )  # (B, width)
        inputs = width
    layers.append(nn.Linear(inputs, outputs))  # (B, outputs)
    return network(layers, label_units)


def mlp_decoder(
    latent_dim: int,
    widths: Sequence[int],
    image_shape: ImageShape,
    label_units: int = 0,
    norm: str = "none",
    activation: str = "leaky_relu",
    skips: bool = True,
) -> Decoder:
    """Fully connected layers: latents (B, D) -> (B, C, H, W), unbounded; see `conv_decoder`."""
    shift_units = label_units + latent_dim * skips
    first, *others = widths
    layers = hidden_layer(nn.Linear(latent_dim + label_units, first), 0, norm, activation)
    inputs = first
    for width in others:
        layers += hidden_layer(nn.Linear(inputs, width), shift_units, norm, activation)
        inputs = width
    layers.append(nn.Linear(inputs, math.prod(image_shape)))  # (B, C * H * W)
    layers.append(nn.Unflatten(1, tuple(image_shape)))  # (B, C, H, W)
    return Decoder(layers, skips)


def conv_encoder(
    image_shape: ImageShape,
    widths: Sequence[int],
    outputs: int,
    label_units: int = 0,
    norm: str = "none",
    activation: str = "leaky_relu",
) -> nn.Module:
    """Convolutions that halve the side, then a linear layer: images (B, C, H, W) -> (B, outputs).

    Arguments:
    image_shape: (C, H, W).
    widths: channels of the stages.
    outputs: units of the last layer.
    label_units: of the labels' embedding; 0 for an unconditional network.
    norm: of hidden layers, one of NORMS; it made steps a fifth slower (one core, bf16).
    activation: of hidden layers, one of ACTIVATIONS.

    Raises ValueError where a side cannot be halved so often. Shapes below are those of
    widths=[32, 64, 128] at 28x28.
    """
    sizes = halved_sizes(image_shape, len(widths))
    layers: list[nn.Module] = [Centre()]
    channels = image_shape[0]
    for width, size in zip(widths, sizes[:-1], strict=True):
        convolution = nn.Conv2d(channels, width, kernel_size(size), stride=2, padding=1)
        layers += hidden_layer(
            convolution, label_units, norm, activation
        )  # (B, 32, 14, 14) after the first
        channels = width
    layers.append(nn.Flatten())  # (B, 2048)
    layers.append(nn.Linear(channels * math.prod(sizes[-1]), outputs))  # (B, outputs)
    return network(layers, label_units)


def conv_decoder(
    latent_dim: int,
    hidden: int,
    widths: Sequence[int],
    image_shape: ImageShape,
    label_units: int = 0,
    norm: str = "none",
    activation: str = "leaky_relu",
    skips: bool = True,
) -> Decoder:
    """Linear layers, transposed convolutions that double the side: (B, D) -> (B, C, H, W).

    It mirrors `conv_encoder`; the output is unbounded.

    Arguments:
    latent_dim: D.
    hidden: units of the first layer.
    widths: channels of the feature maps, from the smallest map to the largest.
    image_shape: (C, H, W).
    label_units: of the labels' embedding; 0 for an unconditional network.
    norm: of hidden layers, one of NORMS.
    activation: of hidden layers, one of ACTIVATIONS.
    skips: whether z shifts every hidden layer, as labels do.

    Raises ValueError where a side cannot be halved so often. Shapes below are those of
    widths=[128, 64, 32] at 28x28.
    """
    shift_units = label_units + latent_dim * skips
    smallest, *larger = reversed(halved_sizes(image_shape, len(widths)))
    first_maps = (widths[0], *smallest)
    first = nn.Linear(latent_dim + label_units, hidden)
    second = nn.Linear(hidden, math.prod(first_maps))
    layers = [
        *hidden_layer(first, 0, norm, activation),  # (B, hidden)
        *hidden_layer(second, shift_units, norm, activation),  # (B, 2048)
        nn.Unflatten(1, first_maps),  # (B, 128, 4, 4)
    ]
    *stages, last = upsampling_layers([*widths, image_shape[0]], larger)
    for stage in stages:
        # (B, 64, 7, 7) after the first
        layers += hidden_layer(stage, shift_units, norm, activation)
    layers.append(last)  # (B, C, 28, 28)
    return Decoder(layers, skips)


def upsampling_layers(channels: Sequence[int], sizes: Sequence[Size]) -> list[nn.ConvTranspose2d]:
    """Transposed convolutions that double the side.

    Arguments:
    channels: of their input, and of the output of each.
    sizes: of the output of each.
    """
    layers = []
    for (inputs, outputs), size in zip(itertools.pairwise(channels), sizes, strict=True):
        layers.append(nn.ConvTranspose2d(inputs, outputs, kernel_size(size), stride=2, padding=1))
    return layers


def kernel_size(size: Size) -> Size:
    """4 for even sides, 3 for odd ones, of the larger maps of a layer with stride 2 and padding 1.

    Halving and doubling are then exact inverses. On even sides the taps of a transposed convolution
    overlap evenly, which avoids checkerboards (Odena et al. 2016); compared with 3 everywhere it
    gained half a nat on MNIST at equal images, and cost 15 % of the speed.
    """
    height, width = size
    return 4 - height % 2, 4 - width % 2


def halved_sizes(image_shape: ImageShape, times: int) -> list[Size]:
    """(H, W) of an image and after each halving: [(28, 28), (14, 14), (7, 7), (4, 4)].

    Raises ValueError where a side of 1 would have to be halved.
    """
    _, height, width = image_shape
    return list(zip(halvings(height, times), halvings(width, times), strict=True))


def check_widths(widths: Sequence[int]) -> None:
    """Raise ValueError unless there is a width, and all are at least 1."""
    require(
        bool(widths) and min(widths) >= 1,
        "widths",
        list(widths),
        "a list of at least one integer >= 1",
    )


def halvings(side: int, times: int) -> list[int]:
    """The side and what each halving, rounded up, leaves of it: halvings(28, 3) = [28, 14, 7, 4].

    Raises ValueError where a side of 1 would have to be halved.
    """
    sides = [side]
    for _ in range(times):
        if sides[-1] == 1:
            raise ValueError(
                f"widths: {times} stages halve a side of {side} pixels too often: "
                f"at most {len(sides) - 1} are possible"
            )
        sides.append((sides[-1] + 1) // 2)
    return sides


def network(layers: list[nn.Module], label_units: int) -> nn.Module:
    """Layers in sequence, called with an embedding if there are label units."""
    return Conditional(layers) if label_units else nn.Sequential(*layers)


def hidden_layer(
    layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, shift_units: int, norm: str, kind: str
) -> list[nn.Module]:
    """A layer with its normalisation, any shift and its activation, one of ACTIVATIONS."""
    require_choice("norm", norm, NORMS)
    require_choice("activation", kind, tuple(ACTIVATIONS))
    dense = isinstance(layer, nn.Linear)
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    normalisation: nn.Module | None = None
    if norm == "batch":
        normalisation = nn.BatchNorm1d(channels) if dense else nn.BatchNorm2d(channels)
    elif norm == "layer":
        normalisation = nn.GroupNorm(1, channels)
    return [layer, *activation(channels, shift_units, normalisation, kind)]


def activation(
    channels: int, shift_units: int, normalisation: nn.Module | None, kind: str = "relu"
) -> list[nn.Module]:
    """What follows a hidden layer: any normalisation, any shift, an activation.

    Arguments:
    channels: of the layer's output.
    shift_units: of what shifts it, labels or z; 0 for no shift.
    normalisation: of the channels.
    kind: of activation, one of ACTIVATIONS.
    """
    layers: list[nn.Module] = []
    if normalisation is not None:
        layers.append(normalisation)
    if shift_units:
        layers.append(ConditionalBias(shift_units, channels))
    layers.append(ACTIVATIONS[kind]())
    return layers
