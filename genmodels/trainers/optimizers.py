"""Optimizers: which parameters decay, and what a saved state must be before it is used."""

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from genmodels.errors import require
from genmodels.tensor_checks import check_tensors

# Layers whose matrices and kernels decay; nothing else does
DECAYED_LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def build_optimizer(factory: Callable[..., Optimizer], model: nn.Module, lr: float) -> Optimizer:
    """The optimizer of a model's parameters: the fused kernel where the class has one.

    Its weight decay is for matrices and kernels alone (see `parameter_groups`). Raises ValueError
    where the class refuses its hyper-parameters.
    """
    options: dict[str, Any] = {}
    if isinstance(factory, partial):
        for name, value in factory.keywords.items():
            if isinstance(value, Sequence) and not isinstance(value, str):
                options[name] = tuple(float(number) for number in value)  # betas; plain for torch
            elif isinstance(value, float):
                require(math.isfinite(value), name, value, "a finite number")
    accepted = inspect.signature(factory).parameters
    device = next(model.parameters()).device.type
    if "fused" in accepted and device in ("cpu", "cuda"):
        options["fused"] = True
    decayed, others = parameter_groups(model)
    if "weight_decay" in accepted:
        others["weight_decay"] = 0.0
    groups = [group for group in (decayed, others) if group["params"]]
    try:
        return factory(groups, lr=lr, **options)
    except TypeError as error:
        raise ValueError(f"optimizer: {error}") from None


def parameter_groups(model: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """A model's parameters in two groups: those that weight decay is for, and all others.

    The first are matrices and kernels of DECAYED_LAYERS. Not biases, scales and shifts of
    normalisation, embeddings, log-variances and parameters of priors: 0 is no natural value of
    them (Radford et al. 2018, "Improving language understanding by generative pre-training",
    section 4.1, decay no biases and gains).
    """
    kernels: set[nn.Parameter] = set()
    for layer in model.modules():
        if isinstance(layer, DECAYED_LAYERS):
            kernels |= {weights for weights in layer.parameters() if weights.dim() >= 2}
    decayed = [weights for weights in model.parameters() if weights in kernels]
    others = [weights for weights in model.parameters() if weights not in kernels]
    return {"params": decayed}, {"params": others}


def load_optimizer_state(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Restore moments and counts that `optimizer.state_dict` gave; its groups stay as they are.

    torch's fused kernels write as many numbers as a parameter has to wherever the moments are, so
    these must have exactly the form that the optimizer itself gives them, in memory of their own.
    Raises ValueError for others.
    """
    own = optimizer.state_dict()
    require(
        _members(saved) == _members(own),
        "optimizer",
        f"groups of {_members(saved)} parameters",
        f"of {_members(own)}: the training state is of another version",
    )
    expected = _state_after_one_step(optimizer)
    restored = {}
    for index, moments in saved["state"].items():  # none of a parameter that had no gradient yet
        if index not in expected:
            raise ValueError(f"the optimizer has no parameter {index}")
        restored[index] = _restored(moments, expected[index])
    optimizer.load_state_dict({"state": restored, "param_groups": own["param_groups"]})


def _restored(moments: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's saved state, its tensors copied. Raises ValueError for another form."""
    wanted = {name: value for name, value in expected.items() if isinstance(value, Tensor)}
    others = expected.keys() - wanted.keys()
    check_tensors({name: moments[name] for name in moments.keys() - others}, wanted)
    restored = {name: torch.empty_like(wanted[name]).copy_(moments[name]) for name in wanted}
    for name in others:
        kind = type(expected[name]).__name__
        require(type(moments[name]) is type(expected[name]), name, moments[name], f"of type {kind}")
        restored[name] = moments[name]
    return restored


def _state_after_one_step(optimizer: Optimizer) -> dict[int, dict[str, Any]]:
    """What an optimizer keeps for each parameter; tried on a copy, with gradients of zero."""
    twin = copy.deepcopy(optimizer)
    for group in twin.param_groups:
        for weights in group["params"]:
            weights.grad = torch.zeros_like(weights)
    twin.step()
    return twin.state_dict()["state"]


def _members(state: Mapping[str, Any]) -> list[int]:
    """How many parameters each group of an optimizer's state has."""
    return [len(group["params"]) for group in state["param_groups"]]
