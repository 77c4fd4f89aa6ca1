"""Networks that models are made of, for images of any shape (C, H, W): each knows its geometry from `image_shape`.

Where `label_units` is 0 they are called as network(inputs); else they are conditional, network(inputs, embedding), and
every hidden layer is shifted by the labels' embedding (B, label_units). `norm`, one of NORMS, comes before that shift.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodels.errors import require

ImageShape = Sequence[int]  # (C, H, W)
NORMS = (
    "none",
    "batch",
    "layer",
)  # over the batch (Ioffe & Szegedy 2015), or over an image (Ba et al. 2016)


class ConditionalBias(nn.Module):
    """Shifts features (B, C) or feature maps (B, C, H, W), everywhere the same, by a linear function of an embedding.

    The additive half of FiLM (Perez et al. 2018, eq. 2).
    """

    def __init__(self, label_units: int, channels: int) -> None:
        super().__init__()
        self.shift = nn.Linear(label_units, channels, bias=False)

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """features (B, C, ...), embedding (B, label_units) -> (B, C, ...)."""
        shift = self.shift(embedding)  # (B, C)
        return features + shift.view(*shift.shape, *[1] * (features.dim() - 2))


class Conditional(nn.ModuleList):
    """Layers one after the other, of which the conditional biases also get the embedding."""

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """features (B, ...), embedding (B, label_units) -> what the last layer makes of them."""
        for layer in self:
            features = (
                layer(features, embedding)
                if isinstance(layer, ConditionalBias)
                else layer(features)
            )
        return features


def mlp_encoder(
    image_shape: ImageShape,
    widths: Sequence[int],
    outputs: int,
    label_units: int = 0,
    norm: str = "none",
) -> nn.Module:
    """Fully connected: images (B, C, H, W) through hidden layers of these widths to (B, outputs)."""
    return network(
        [
            nn.Flatten(),
            *_dense([math.prod(image_shape), *widths], label_units, norm),
            nn.Linear(widths[-1], outputs),
        ],
        label_units,
    )


def mlp_decoder(
    inputs: int,
    widths: Sequence[int],
    image_shape: ImageShape,
    label_units: int = 0,
    norm: str = "none",
) -> nn.Module:
    """Fully connected: (B, inputs) through hidden layers of these widths to (B, C, H, W), unbounded."""
    return network(
        [
            *_dense([inputs, *widths], label_units, norm),
            nn.Linear(widths[-1], math.prod(image_shape)),
            nn.Unflatten(1, tuple(image_shape)),
        ],
        label_units,
    )


def conv_encoder(
    image_shape: ImageShape,
    widths: Sequence[int],
    outputs: int,
    label_units: int = 0,
    norm: str = "none",
) -> nn.Module:
    """Convolutions of these widths, each halving the side (an odd one rounded up), then linear.

    Images (B, C, H, W) to (B, outputs). Normalisation made steps a fifth slower (one core, bf16).
    """
    channels, height, width = image_shape
    sides = list(zip(halvings(height, len(widths)), halvings(width, len(widths)), strict=True))
    layers: list[nn.Module] = []
    for (narrow, wide), side in zip(itertools.pairwise([channels, *widths]), sides, strict=False):
        layers += _hidden(
            nn.Conv2d(narrow, wide, kernel_size(side), stride=2, padding=1), wide, label_units, norm
        )
    return network(
        [*layers, nn.Flatten(), nn.Linear(widths[-1] * math.prod(sides[-1]), outputs)], label_units
    )


def conv_decoder(
    inputs: int,
    hidden: int,
    widths: Sequence[int],
    image_shape: ImageShape,
    label_units: int = 0,
    norm: str = "none",
) -> nn.Module:
    """Two linear layers, then transposed convolutions, each doubling the side: the way back of `conv_encoder`.

    (B, inputs) through (B, hidden) to (B, C, H, W), unbounded; `widths` run from the small side to the large one.
    """
    channels, height, width = image_shape
    sides = list(zip(halvings(height, len(widths)), halvings(width, len(widths)), strict=True))[
        ::-1
    ]
    first = (widths[0], *sides[0])
    layers: list[nn.Module] = [
        *_dense([inputs, hidden, math.prod(first)], label_units, norm),
        nn.Unflatten(1, first),
    ]
    stages = [
        nn.ConvTranspose2d(wide, narrow, kernel_size(side), stride=2, padding=1)
        for (wide, narrow), side in zip(
            itertools.pairwise([*widths, channels]), sides[1:], strict=True
        )
    ]
    for stage in stages[:-1]:
        layers += _hidden(stage, stage.out_channels, label_units, norm)
    return network([*layers, stages[-1]], label_units)


class FixedScaleBatchNorm(nn.Module):
    """Over a batch, each dimension gets the standard deviation `scale` and a mean that is learned: (B, D) -> (B, D).

    Of posterior means this is BN-VAE (Zhu et al. 2020, "A batch normalized inference network keeps the KL vanishing
    away", section 4): the KL's mean over the batch is then at least scale^2 / 2 nats in each dimension.

    nn.BatchNorm1d would not do: it adds 1e-5 to the variance, and a KL weight of 30 shrinks the encoder's output until
    that is all there is, and the bound is gone. Here nothing is added, so that its size makes no difference at all.
    """

    momentum = 0.1  # of the running statistics, which evaluation uses
    smallest = 1e-20  # variance that is told from 0

    running_mean: Tensor  # (D,)
    running_variance: Tensor  # (D,)

    def __init__(self, dimensions: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.shift = nn.Parameter(torch.zeros(dimensions))
        self.register_buffer("running_mean", torch.zeros(dimensions))
        self.register_buffer("running_variance", torch.ones(dimensions))

    def forward(self, values: Tensor) -> Tensor:
        """Computed in float32, also under autocast. Raises ValueError for a batch of one in training."""
        values = values.float()
        mean, variance = self.running_mean, self.running_variance
        if self.training:
            require(len(values) > 1, "batch_size", len(values), "at least 2 for BatchNorm")
            mean, variance = values.mean(dim=0), values.var(dim=0, correction=0)
            self.running_mean.lerp_(mean.detach(), self.momentum)
            self.running_variance.lerp_(variance.detach(), self.momentum)
        return self.scale * (values - mean) * variance.clamp(min=self.smallest).rsqrt() + self.shift


def kernel_size(side: tuple[int, int]) -> tuple[int, int]:
    """4 for even sides, 3 for odd ones: with stride 2 and padding 1, halving and doubling are then exact inverses.

    Also the taps of a transposed convolution overlap evenly on even sides, which avoids checkerboards (Odena et al.
    2016); against 3 everywhere it brought half a nat on MNIST at equal images, for 15 % of the speed.
    """
    height, width = side
    return 4 - height % 2, 4 - width % 2


def halvings(side: int, times: int) -> list[int]:
    """The side and what halving it, rounded up, leaves each time: halvings(28, 3) = [28, 14, 7, 4].

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
    """Layers one after the other, to be called with an embedding if there are label units."""
    return Conditional(layers) if label_units else nn.Sequential(*layers)


def _dense(sizes: Sequence[int], label_units: int, norm: str) -> list[nn.Module]:
    return [
        layer
        for inputs, outputs in itertools.pairwise(sizes)
        for layer in _hidden(nn.Linear(inputs, outputs), outputs, label_units, norm)
    ]


def _hidden(layer: nn.Module, channels: int, label_units: int, norm: str) -> list[nn.Module]:
    shift = [ConditionalBias(label_units, channels)] if label_units else []
    return [layer, *_norm(norm, layer, channels), *shift, nn.ReLU()]


def _norm(name: str, layer: nn.Module, channels: int) -> list[nn.Module]:
    require(name in NORMS, "norm", name, f"one of {', '.join(NORMS)}")
    if name == "none":
        return []
    if name == "layer":
        return [nn.GroupNorm(1, channels)]
    return [nn.BatchNorm1d(channels) if isinstance(layer, nn.Linear) else nn.BatchNorm2d(channels)]
