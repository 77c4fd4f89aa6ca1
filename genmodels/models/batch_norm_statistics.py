"""Running statistics of BatchNorm for averaged weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from genmodels.randomness import CONSTANT_SEED, reseed

Inputs = TypeVar("Inputs")


@torch.no_grad()
def recompute_statistics(
    networks: Sequence[nn.Module],
    batches: Iterable[Inputs],
    forward: Callable[[Inputs], object],
) -> None:
    """Set the running statistics of BatchNorm to their means over some batches.

    Averaged weights give other activations than those that the running statistics were collected
    of in training, and so does an average of these (Izmailov et al. 2018, "Averaging weights leads
    to wider optima and better generalization", section 3.2). torch.optim.swa_utils.update_bn does
    the same for one network of one input. Layers of other kinds stay in evaluation mode. Nothing
    is done for networks without BatchNorm.

    Arguments:
    networks: in evaluation mode.
    batches: what `forward` is called with, one by one.
    forward: passes a batch through the networks. Before each batch torch's global generators are
        seeded, the same in every call, so the statistics are a function of weights and batches.
    """
    layers = []
    for network in networks:
        layers += [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # each batch has the same weight
        layer.train()
    for number, batch in enumerate(batches):
        reseed(CONSTANT_SEED, "BatchNorm statistics", number)
        forward(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
