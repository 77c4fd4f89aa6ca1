"""How a network gets from a loss to new weights: clipping, an optimizer, a moving average."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from genmodels import parallel
from genmodels.errors import require, require_choice
from genmodels.tensor_checks import check_tensors
from genmodels.trainers.optimizers import build_optimizer, load_optimizer_state

Network = TypeVar("Network", bound=nn.Module)
LRSchedule = Callable[[int, int], float]  # (step, total steps) -> multiplier of the learning rate

# Of a network's updates so far, so that a short run is not averaged with its beginning
MAX_HALF_LIFE = 0.05


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
        steps_per_update: int = 1,
        clip_scale: float = 1.0,
    ) -> None:
        """Arguments:
        model: whose weights are updated.
        optimizer: a class of torch.optim, or a partial of one; called with parameters and lr.
        lr: the largest learning rate.
        lr_schedule: (step, total steps) -> multiplier of lr; a pure function.
        clip_norm: the gradient's largest norm, in units of clip_scale; None for no limit.
        ema_images: the moving average's half-life in images of the run, at most MAX_HALF_LIFE of
            this network's updates so far.
        batch_size: images in a step.
        precision: "fp32", or "bf16" for autocast.
        steps_per_update: steps of the run for one update of this network, which comes after every
            such number of steps.
        clip_scale: how large gradients are, compared with those for which clip_norm is chosen.
        """
        require(lr > 0, "lr", lr, "a number > 0")
        require(clip_norm is None or clip_norm > 0, "clip_norm", clip_norm, "a number > 0, or null")
        require(ema_images >= 0, "ema_images", ema_images, "an integer >= 0")
        require(batch_size >= 1, "batch_size", batch_size, "an integer >= 1")
        require_choice("precision", precision, ("fp32", "bf16"))
        self.model = model
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.clip_norm = clip_norm
        self.largest_norm = None if clip_norm is None else clip_norm * clip_scale
        self.steps_per_update = steps_per_update
        self.half_life = ema_images / (batch_size * steps_per_update)  # in updates
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

    def update(
        self, loss: Tensor, terms: dict[str, Tensor], step: int, total: int, prefix: str = ""
    ) -> dict[str, Tensor]:
        """Move the weights once down the loss, and the average towards them.

        Only this network's parameters receive gradients.

        Arguments:
        loss: () to minimise.
        terms: numbers () that an error message shows.
        step: from 0.
        total: steps of the run.
        prefix: of the names of what is added to the terms.

        Returns the terms, with the gradient's norm () before clipping as `gradient_norm`, and where
        there is a limit, whether it was clipped, 1 or 0, as `clipped`. Of several processes all
        are the mean. Raises NonFiniteError, before any weight is moved, where the loss or the
        gradient is not finite.
        """
        for weights in self._weights:
            weights.grad = None
        loss.backward(inputs=self._weights)
        gradients = [weights.grad for weights in self._weights if weights.grad is not None]
        parallel.average([*gradients, loss, *terms.values()])
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(loss + norm):
            message = self._describe_failure(terms | {"gradient norm": norm}, step, total)
            raise NonFiniteError(message)
        terms = terms | {f"{prefix}gradient_norm": norm}
        if self.largest_norm is not None:
            clipped = norm > self.largest_norm
            terms[f"{prefix}clipped"] = clipped.float()
            if clipped:  # else no multiplication
                nn.utils.clip_grads_with_norm_(self._weights, self.largest_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step, total)
        self.optimizer.step()
        self._update_average(step)
        return terms

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average and the optimizer's state."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; the optimizer's hyper-parameters stay this run's own.

        Raises ValueError where the state is of other weights or of another optimizer.
        """
        for network, weights in ((self.model, state["model"]), (self.average, state["average"])):
            check_tensors(weights, network.state_dict())
            network.load_state_dict(weights)
        load_optimizer_state(self.optimizer, state["optimizer"])

    def _update_average(self, step: int) -> None:
        updates = (step + 1) // self.steps_per_update
        half_life = min(self.half_life, MAX_HALF_LIFE * updates)
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


def _averaged_state(network: nn.Module) -> Iterator[Tensor]:
    """Weights, and buffers of numbers, such as BatchNorm's means (not its counters)."""
    for weights in network.parameters():
        yield weights.detach()
    for buffer in network.buffers():
        if buffer.is_floating_point():
            yield buffer
