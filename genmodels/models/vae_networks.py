"""Encoders and decoders of variational autoencoders, for images of any shape (C, H, W).

A network with `label_units` = 0 is called as network(inputs); others are conditional, called as
network(inputs, embedding), and each hidden layer is shifted by the labels' embedding
(B, label_units), after its normalisation (`norm`, one of NORMS) and before its activation (one of
ACTIVATIONS). In a decoder the latents z shift them, too.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodels.models.blocks import (
    Centre,
    Conditional,
    ImageShape,
    halved_sizes,
    hidden_layer,
    kernel_size,
    network,
    upsampling_layers,
)


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
        latent_dim = z.shape[1]
        shift = inputs if self.skips else inputs[:, latent_dim:]
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
        layers += hidden_layer(nn.Linear(inputs, width), label_units, norm, activation)
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
        # (B, 32, 14, 14) after the first
        layers += hidden_layer(convolution, label_units, norm, activation)
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
