"""Trained models as data that network.js runs: layers by name, weights in float16.

To let the page run another layer, likelihood or prior, register a function for its class here, and
write its twin in network.js.
"""

import base64
from collections.abc import Iterator
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from genmodels import likelihoods
from genmodels.models.blocks import Conditional, ConditionalBias, ResidualBlock
from genmodels.models.flow_prior import MAX_LOG_SCALE, CouplingLayer, FlowPrior
from genmodels.models.gan import Generator
from genmodels.models.generative import GenerativeModel
from genmodels.models.mixtures import GaussianMixture, VampPrior
from genmodels.models.priors import Prior, StandardNormal
from genmodels.models.vae import VAE
from genmodels.models.vae_networks import Decoder
from genmodels.registry import UnsuitedError

Node = dict[str, Any]  # a part of the description, as json has it


class Weights:
    """Tensors, one after the other, as float16."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []
        self.size = 0

    def add(self, tensor: Tensor) -> Node:
        """Append a tensor; returns where it is. Raises UnsuitedError where float16 overflows."""
        values = tensor.detach().cpu().flatten().half()
        if not values.isfinite().all():
            raise UnsuitedError("a weight is too large for the float16 of a page")
        self.parts.append(values)
        place = {"start": self.size, "length": values.numel()}
        self.size += values.numel()
        return place

    def encode(self) -> str:
        """All tensors, in base64."""
        return base64.b64encode(torch.cat(self.parts).numpy().astype("<f2").tobytes()).decode()


def describe(model: GenerativeModel) -> Node:
    """A model as `BrowserModel` of network.js takes it.

    Raises UnsuitedError where a part of it is of a kind that the page cannot run.
    """
    weights = Weights()
    network = describe_network(model, weights)
    if model.num_classes:
        network["embedding"] = weights.add(model.label_embedding.weight)
        network["label_units"] = model.label_embedding.embedding_dim
    prior = {"mixture": None, "flow": [], **describe_prior(model.prior, weights)}
    return {
        "latent_dim": model.latent_dim,
        "image_shape": list(model.image_shape),
        "network": {"embedding": None, "label_units": 0, **network},
        "prior": prior,
        "weights": weights.encode(),
    }


@singledispatch
def describe_network(model: nn.Module, weights: Weights) -> Node:
    """Layers, what goes into them, and how their output is read."""
    raise UnsuitedError(f"a page cannot run a {type(model).__name__}")


@describe_network.register
def _(model: VAE, weights: Weights) -> Node:
    decoder, shift = model.decoder, "label"
    if isinstance(decoder, Decoder):
        shift = "both" if decoder.skips else "label"
        decoder = decoder.body
    return {
        "layers": list(describe_layer(decoder, weights)),
        "inputs": "both",
        "shift": shift,
        "head": describe_head(model.likelihood, model.image_shape[0]),
    }


@describe_network.register
def _(model: Generator, weights: Weights) -> Node:
    return {
        "layers": list(describe_layer(model.body, weights)),
        "inputs": "latents",
        "shift": "label",
        "head": {"kind": "tanh"},
    }


@singledispatch
def describe_layer(layer: nn.Module, weights: Weights) -> Iterator[Node]:
    """The operations of network.js that a layer comes to, outside of training."""
    raise UnsuitedError(f"a page cannot run a layer of the kind {type(layer).__name__}")


@describe_layer.register(nn.Sequential)
@describe_layer.register(Conditional)
def _(layers: nn.Sequential | Conditional, weights: Weights) -> Iterator[Node]:
    for layer in layers:
        yield from describe_layer(layer, weights)


@describe_layer.register
def _(layer: nn.Identity, weights: Weights) -> Iterator[Node]:
    yield from ()


@describe_layer.register
def _(layer: nn.Linear, weights: Weights) -> Iterator[Node]:
    yield _linear("linear", layer, weights)


@describe_layer.register
def _(layer: ConditionalBias, weights: Weights) -> Iterator[Node]:
    yield _linear("conditional_bias", layer.shift, weights)


@describe_layer.register
def _(layer: nn.Unflatten, weights: Weights) -> Iterator[Node]:
    yield {"op": "unflatten", "shape": list(layer.unflattened_size)}


@describe_layer.register
def _(layer: nn.Conv2d, weights: Weights) -> Iterator[Node]:
    _require_plain(layer)
    if layer.stride != (1, 1):
        raise UnsuitedError(f"a page cannot run a convolution of stride {layer.stride}")
    yield _convolution("convolution", layer, weights)


@describe_layer.register
def _(layer: nn.ConvTranspose2d, weights: Weights) -> Iterator[Node]:
    _require_plain(layer)
    node = _convolution("transposed_convolution", layer, weights)
    yield node | {"stride": list(layer.stride)}


@describe_layer.register(nn.BatchNorm1d)
@describe_layer.register(nn.BatchNorm2d)
def _(layer: nn.BatchNorm1d | nn.BatchNorm2d, weights: Weights) -> Iterator[Node]:
    assert layer.running_mean is not None and layer.running_var is not None
    scale = layer.weight * torch.rsqrt(layer.running_var + layer.eps)
    shift = layer.bias - layer.running_mean * scale
    yield {"op": "scale_and_shift", "scale": weights.add(scale), "shift": weights.add(shift)}


@describe_layer.register
def _(layer: nn.GroupNorm, weights: Weights) -> Iterator[Node]:
    if layer.num_groups != 1:
        raise UnsuitedError(f"a page cannot run a GroupNorm of {layer.num_groups} groups")
    yield {
        "op": "layer_norm",
        "weight": weights.add(layer.weight),
        "bias": weights.add(layer.bias),
        "epsilon": layer.eps,
    }


@describe_layer.register
def _(layer: nn.LeakyReLU, weights: Weights) -> Iterator[Node]:
    yield {"op": "activation", "kind": "leaky_relu", "slope": layer.negative_slope}


@describe_layer.register
def _(layer: nn.ReLU, weights: Weights) -> Iterator[Node]:
    yield {"op": "activation", "kind": "leaky_relu", "slope": 0}


@describe_layer.register
def _(layer: nn.SiLU, weights: Weights) -> Iterator[Node]:
    yield {"op": "activation", "kind": "silu"}


@describe_layer.register
def _(block: ResidualBlock, weights: Weights) -> Iterator[Node]:
    added = [block.first, block.second, block.norm]
    yield {
        "op": "residual",
        "layers": list(describe_layer(nn.Sequential(*added), weights)),
        "after": list(describe_layer(block.activation, weights)),
    }


def _linear(op: str, layer: nn.Linear, weights: Weights) -> Node:
    bias = None if layer.bias is None else weights.add(layer.bias)
    return {
        "op": op,
        "outputs": layer.out_features,
        "weight": weights.add(layer.weight),
        "bias": bias,
    }


def _convolution(op: str, layer: nn.Conv2d | nn.ConvTranspose2d, weights: Weights) -> Node:
    return {
        "op": op,
        "outputs": layer.out_channels,
        "kernel": list(layer.kernel_size),
        "padding": list(layer.padding),
        "weight": weights.add(layer.weight),
        "bias": None if layer.bias is None else weights.add(layer.bias),
    }


def _require_plain(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
    is_padded_by_name = isinstance(layer.padding, str)
    if layer.groups != 1 or layer.dilation != (1, 1) or is_padded_by_name:
        raise UnsuitedError("a page cannot run a convolution with groups or dilation")
    if layer.padding_mode != "zeros" or any(layer.output_padding):
        raise UnsuitedError("a page cannot run a convolution with such padding")


@singledispatch
def describe_head(likelihood: nn.Module, channels: int) -> Node:
    """How network.js makes an image of the output: its mean under a likelihood.

    channels: of the image.
    """
    raise UnsuitedError(f"a page cannot run a {type(likelihood).__name__}")


@describe_head.register(likelihoods.BernoulliLikelihood)
@describe_head.register(likelihoods.GaussianLikelihood)
@describe_head.register(likelihoods.LearnedGaussianLikelihood)
@describe_head.register(likelihoods.OptimalGaussianLikelihood)
def _(likelihood: likelihoods.Likelihood, channels: int) -> Node:
    return {"kind": "sigmoid"}


@describe_head.register
def _(likelihood: likelihoods.ContinuousBernoulliLikelihood, channels: int) -> Node:
    return {"kind": "continuous_bernoulli"}


@describe_head.register
def _(likelihood: likelihoods.DiscretisedLogisticLikelihood, channels: int) -> Node:
    return {"kind": "discretised_logistic"}


@describe_head.register
def _(likelihood: likelihoods.DiscretisedLogisticMixtureLikelihood, channels: int) -> Node:
    return {
        "kind": "discretised_logistic_mixture",
        "components": likelihood.components,
        "channels": channels,
    }


@singledispatch
def describe_prior(prior: Prior, weights: Weights) -> Node:
    """The mixture of Gaussians that noise is drawn from, if any, and the layers of a flow."""
    raise UnsuitedError(f"a page cannot sample from a {type(prior).__name__}")


@describe_prior.register
def _(prior: StandardNormal, weights: Weights) -> Node:
    return {}


@describe_prior.register
def _(prior: GaussianMixture, weights: Weights) -> Node:
    return _mixture(prior.logits, prior.means, torch.linalg.cholesky(prior.covariances), weights)


@describe_prior.register
def _(prior: VampPrior, weights: Weights) -> Node:
    components = prior.components()
    return _mixture(prior.logits, components.mean, components.stddev.diag_embed(), weights)


@describe_prior.register
def _(prior: FlowPrior, weights: Weights) -> Node:
    layers = []
    for index, layer in reversed(list(enumerate(prior.layers))):
        assert isinstance(layer, CouplingLayer)
        node: Node = {
            "odd": index % 2 == 1,
            "hidden": layer.second.out_features,
            "limit": MAX_LOG_SCALE,
            "embedding": None,
        }
        for name in ("first", "second", "last"):
            node[name] = _linear("linear", getattr(layer, name), weights)
        if layer.embedding is not None:
            node["embedding"] = weights.add(layer.embedding.weight)
        layers.append(node)
    return {**describe_prior(prior.noise, weights), "flow": layers}


def _mixture(logits: Tensor, means: Tensor, factors: Tensor, weights: Weights) -> Node:
    """logits (classes, K), means (M, D), lower triangular factors (M, D, D)."""
    mixture = {
        "classes": len(logits),
        "weights": weights.add(logits.softmax(dim=1)),
        "means": weights.add(means),
        "factors": weights.add(factors),
    }
    return {"mixture": mixture}
