"""Layers of which networks are made: activations, shifts by labels, changes of the side.

In a conditional network (`Conditional`) each hidden layer is shifted by an embedding, after its
normalisation (one of NORMS) and before its activation (one of ACTIVATIONS).
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from genmodels.errors import require, require_choice
from genmodels.models.batch_norm import BatchNorm1d, BatchNorm2d

ImageShape = Sequence[int]  # (C, H, W)
Size = tuple[int, int]  # (H, W) of feature maps
Layer = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
MakeActivation = Callable[[], nn.Module]

# over the batch (Ioffe & Szegedy 2015), or over each image (Ba et al. 2016)
NORMS = ("none", "batch", "layer")

# Of LeakyReLU, the slope below 0 is 0.1: a unit that is below 0 for all images goes on learning
# (Maas et al. 2013), while one of ReLU is dead.
ACTIVATIONS: dict[str, MakeActivation] = {
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
    """Layers in sequence; those that use the embedding receive it too."""

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """features (B, ...), embedding (B, shift_units) -> the last layer's output."""
        for layer in self:
            if isinstance(layer, ConditionalBias | ResidualBlock):
                features = layer(features, embedding)
            else:
                features = layer(features)
        return features


class ResidualBlock(nn.Module):
    """Adds to features two convolutions of them, before an activation (He et al. 2016, fig. 2).

    Arguments:
    channels: of the feature maps.
    norm: of both convolutions, one of NORMS.
    shift_units: of what shifts the first convolution; 0 for no shift.
    activation: makes one.
    """

    def __init__(
        self,
        channels: int,
        norm: str,
        shift_units: int = 0,
        activation: MakeActivation = nn.ReLU,
    ) -> None:
        super().__init__()
        first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.first = network(
            [first, *activated(channels, shift_units, norm, activation)], shift_units
        )
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.norm = nn.Sequential(*normalisation(norm, channels))
        self.activation = activation()

    def forward(self, features: Tensor, *embedding: Tensor) -> Tensor:
        """features (B, C, H, W), any embedding (B, shift_units) -> (B, C, H, W)."""
        hidden = self.first(features, *embedding)
        return self.activation(features + self.norm(self.second(hidden)))


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


def hidden_layer(layer: Layer, shift_units: int, norm: str, kind: str) -> list[nn.Module]:
    """A layer with its normalisation, any shift and its activation, one of ACTIVATIONS."""
    require_choice("activation", kind, tuple(ACTIVATIONS))
    dense = isinstance(layer, nn.Linear)
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    return [layer, *activated(channels, shift_units, norm, ACTIVATIONS[kind], dense)]


def activated(
    channels: int,
    shift_units: int,
    norm: str,
    activation: MakeActivation,
    dense: bool = False,
) -> list[nn.Module]:
    """What follows a hidden layer: any normalisation, any shift, an activation.

    Arguments:
    channels: of the layer's output.
    shift_units: of what shifts it, labels or z; 0 for no shift.
    norm: one of NORMS.
    activation: makes one.
    dense: whether the output is (B, channels), not feature maps.
    """
    shift = [ConditionalBias(shift_units, channels)] if shift_units else []
    return [*normalisation(norm, channels, dense), *shift, activation()]


def normalisation(norm: str, channels: int, dense: bool = False) -> list[nn.Module]:
    """The layer of one of NORMS, if it has one; arguments as `activated`."""
    require_choice("norm", norm, NORMS)
    if norm == "layer":
        return [nn.GroupNorm(1, channels)]
    if norm == "batch":
        return [BatchNorm1d(channels) if dense else BatchNorm2d(channels)]
    return []
