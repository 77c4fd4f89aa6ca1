"""How a network gets from a loss to new weights: clipping, an optimizer, a moving average."""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from genmodels.errors import require

Network = TypeVar("Network", bound=nn.Module)
LRSchedule = Callable[[int, int], float]  # (step, total steps) -> multiplier of the learning rate

MAX_HALF_LIFE = 0.05  # of the steps so far, so that a short run is not averaged with its beginning


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is NaN or infinite; the weights were left as they were."""


class Updater(Generic[Network]):
    """Owns a network's optimizer and the exponential moving average (EMA) of its weights."""

    def __init__(
        self,
        model: Network,
        *,
        optimizer: Callable[..., Optimizer],
        lr: float,
        lr_schedule: LRSchedule,
        clip_norm: float | None,
        ema_images: int,
        batch_size: int,
        precision: str,
    ) -> None:
        """Arguments:
        model: whose weights are updated.
        optimizer: a class of torch.optim, or a partial of one; called with parameters and lr.
        lr: the largest learning rate.
        lr_schedule: (step, total steps) -> multiplier of lr; a pure function.
        clip_norm: the gradient's largest norm; None for no limit.
        ema_images: the moving average's half-life in images seen, at most MAX_HALF_LIFE of the
            steps so far.
        batch_size: images in a step.
        precision: "fp32", or "bf16" for autocast.
        """
        require(lr > 0, "lr", lr, "a number > 0")
        require(clip_norm is None or clip_norm > 0, "clip_norm", clip_norm, "a number > 0, or null")
        require(ema_images >= 0, "ema_images", ema_images, "an integer >= 0")
        self.model = model
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.clip_norm = clip_norm
        self.half_life = ema_images / batch_size  # in steps
        self.precision = precision
        self.device = next(model.parameters()).device
        self.optimizer = build_optimizer(optimizer, model, lr)
        self.average = copy.deepcopy(model).requires_grad_(False).eval()  # to evaluate and keep
        self._weights = list(model.parameters())
        self._state = list(_averaged_state(model))
        self._average_state = list(_averaged_state(self.average))

    def autocast(self) -> AbstractContextManager:
        """A context in which the network runs in the precision; losses are float32 anyway."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def learning_rate(self, step: int, total: int) -> float:
        """The learning rate of a step: a pure function, so resume needs no scheduler state."""
        return self.lr * self.lr_schedule(step, total)

    def update(self, loss: Tensor, terms: dict[str, Tensor], step: int, total: int) -> Tensor:
        """Move the weights once down the loss, and the average towards them.

        Only this network's parameters receive gradients.

        Arguments:
        loss: () to minimise.
        terms: numbers () that an error message shows.
        step: from 0.
        total: steps of the run.

        Returns the gradient's norm (). Raises NonFiniteError, before any weight is moved, where the
        loss or the gradient is not finite.
        """
        for weights in self._weights:
            weights.grad = None
        loss.backward(inputs=self._weights)
        gradients = [weights.grad for weights in self._weights if weights.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(loss + norm):
            message = self._describe_failure(terms | {"gradient norm": norm}, step, total)
            raise NonFiniteError(message)
        if self.clip_norm is not None and norm > self.clip_norm:  # else no multiplication
            nn.utils.clip_grads_with_norm_(self._weights, self.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step, total)
        self.optimizer.step()
        self._update_average(step)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average and the optimizer's state."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; the optimizer's hyper-parameters stay this run's own."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        own = {"param_groups": self.optimizer.state_dict()["param_groups"]}
        self.optimizer.load_state_dict(state["optimizer"] | own)

    def _update_average(self, step: int) -> None:
        half_life = min(self.half_life, MAX_HALF_LIFE * (step + 1))
        decay = 0.5 ** (1 / max(half_life, 1e-3))
        get_ema_multi_avg_fn(decay)(self._average_state, self._state, None)

    def _describe_failure(self, terms: dict[str, Tensor], step: int, total: int) -> str:
        values = {name: value.item() for name, value in terms.items()}
        broken = [name for name, value in values.items() if not abs(value) < float("inf")]
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        clip = (
            "a clip_norm"
            if self.clip_norm is None
            else f"a smaller clip_norm than {self.clip_norm:g}"
        )
        precision = ", or precision=fp32" if self.precision == "bf16" else ""
        return (
            f"step {step + 1}: {broken[0] if broken else 'loss'} is not finite ({numbers}; "
            f"learning rate {self.learning_rate(step, total):.3g}). The weights were left as they "
            f"were. Try a smaller lr than {self.lr:g}, {clip}{precision}"
        )


def build_optimizer(factory: Callable[..., Optimizer], model: nn.Module, lr: float) -> Optimizer:
    """The optimizer of a model's parameters: the fused kernel where the class has one.

    Raises ValueError where the class refuses its hyper-parameters.
    """
    options: dict[str, Any] = {}
    if isinstance(factory, partial):
        for name, value in factory.keywords.items():
            if isinstance(value, Sequence) and not isinstance(value, str):
                options[name] = tuple(float(number) for number in value)  # betas; plain for torch
    device = next(model.parameters()).device.type
    if "fused" in inspect.signature(factory).parameters and device in ("cpu", "cuda"):
        options["fused"] = True
    try:
        return factory(model.parameters(), lr=lr, **options)
    except TypeError as error:
        raise ValueError(f"optimizer: {error}") from None


def _averaged_state(network: nn.Module) -> Iterator[Tensor]:
    """Weights, and buffers of numbers, such as BatchNorm's means (not its counters)."""
    for weights in network.parameters():
        yield weights.detach()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            yield buffer
