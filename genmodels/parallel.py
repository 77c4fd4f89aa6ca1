"""Several processes that train one model, as torchrun starts them; one process is the usual case.

Each process takes a slice of every batch, its share, and all make the same update of the same
weights. The first one alone evaluates and writes. This module alone knows how many there are: with
one process, each function here gives back what it was given.
"""

import atexit
import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx

from genmodels import torchrun

Result = TypeVar("Result")
Value = TypeVar("Value")
Arguments = ParamSpec("Arguments")

# How long a process waits for another: for the first one, while it evaluates and draws
PATIENCE = timedelta(hours=2)

_is_alone = False  # while the first process works as if there were no others


class Stateful(Protocol):
    """What has a state that a checkpoint keeps."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on a state."""
        ...


class LostProcessError(ConnectionError):
    """Another process of the run has ended, or cannot be reached."""


def connect(device: torch.device) -> None:
    """Find the other processes, if torchrun started any; only the first one then logs.

    Does nothing when called again.
    """
    if torchrun.processes() == 1 or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # between GPUs tensors go by NCCL; what is in main memory goes by gloo
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)  # threads of gloo must not outlive Python
    if not is_first():
        logging.getLogger().setLevel(logging.ERROR)


def count() -> int:
    """How many processes work together."""
    return dist.get_world_size() if dist.is_initialized() and not _is_alone else 1


def is_first() -> bool:
    """Whether this is the process that evaluates and writes."""
    return _rank() == 0


def share(whole: Tensor, dim: int = 0) -> Tensor:
    """This process's slice, along `dim`, of something that is of a whole batch."""
    length = whole.shape[dim] // count()
    return whole.narrow(dim, _rank() * length, length)


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors, in place, by their means over all processes: in one message."""
    if count() == 1:
        return
    flat = torch.cat([tensor.flatten().float() for tensor in tensors])
    _all_reduce(flat)
    parts = flat.div_(count()).split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


def mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all processes, with its gradient.

    For what is no sum over images, such as the mean KL to which a limit is applied.
    """
    return tensor if count() == 1 else _Mean.apply(tensor)


def largest(number: int) -> int:
    """The largest of all processes' numbers."""
    if count() == 1:
        return number
    numbers = torch.tensor(number)
    _all_reduce(numbers, dist.ReduceOp.MAX)
    return int(numbers)


def all_equal(value: object) -> bool:
    """Whether all processes have the same value."""
    if count() == 1:
        return True
    values: list[Any] = [None] * count()
    with _naming_lost_processes():
        dist.all_gather_object(values, value)
    return all(other == value for other in values)


def by_first(work: Callable[..., Result], *arguments: Any) -> Result:
    """Let the first process do some work, as if it were alone; returns the result in all of them.

    The others wait. What the work raises is raised in all of them.
    """
    global _is_alone
    if count() == 1:
        return work(*arguments)
    outcome: tuple[Any, Exception | None] = (None, None)
    if is_first():
        _is_alone = True
        try:
            outcome = (work(*arguments), None)
        except Exception as error:
            outcome = (None, error)
        finally:
            _is_alone = False
    result, failure = _from_first(outcome)
    if failure is not None:
        raise failure
    return result


def only_first(method: Callable[Arguments, None]) -> Callable[Arguments, None]:
    """Let a function do its work in the first process, and nothing in others."""

    @functools.wraps(method)
    def in_first(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        if is_first():
            method(*args, **kwargs)

    return in_first


def take_on(states: Mapping[str, Stateful]) -> None:
    """Give every process the first one's states."""
    if count() == 1:
        return
    values = _from_first({name: owner.state_dict() for name, owner in states.items()})
    if not is_first():
        for name, value in values.items():
            states[name].load_state_dict(value)


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() and not _is_alone else 0


def _from_first(value: Value) -> Value:
    """The first process's value, in all of them; the others' is not used."""
    values: list[Any] = [value]
    with _naming_lost_processes():
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
    return values[0]


def _all_reduce(tensor: Tensor, operation: Any = dist.ReduceOp.SUM) -> None:
    with _naming_lost_processes():
        dist.all_reduce(tensor, operation)


@contextlib.contextmanager
def _naming_lost_processes() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(f"another process of this run cannot be reached: {error}") from None


class _Mean(torch.autograd.Function):
    """The mean over all processes. Each one's output depends on all inputs alike, so its gradient
    is the mean of all gradients, where these are averaged again."""

    @staticmethod
    def forward(ctx: FunctionCtx, tensor: Tensor) -> Tensor:
        return _averaged(tensor)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        return _averaged(gradients[0])


def _averaged(tensor: Tensor) -> Tensor:
    copy = tensor.clone()
    average([copy])
    return copy
