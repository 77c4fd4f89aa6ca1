"""What saved tensors must be before they are used: kernels write where a state says they may."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def check_tensors(tensors: Mapping[str, Any], expected: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless tensors have the names, shapes and types of the expected ones.

    All must be finite.
    """
    names = sorted(tensors.keys() ^ expected.keys())
    if names:
        problem = "is not expected" if names[0] in tensors else "is missing"
        raise ValueError(f"{names[0]} {problem}")
    for name, tensor in tensors.items():
        wanted = expected[name]
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            raise ValueError(f"{name} is no tensor of numbers")
        if (tensor.shape, tensor.dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(f"{name} is {_form(tensor)}, not {_form(wanted)}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite")


def non_finite(states: Any, name: str = "") -> Iterator[str]:
    """The names of tensors in nested states that hold a number that is not finite."""
    if isinstance(states, Tensor):
        if not torch.isfinite(states).all():
            yield name
    elif isinstance(states, Mapping):
        for key, state in states.items():
            yield from non_finite(state, f"{name}.{key}" if name else str(key))


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
