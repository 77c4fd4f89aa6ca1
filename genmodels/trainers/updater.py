"""One network's way from a loss to new weights: autocast, gradient clipping, AdamW, learning rate, moving average."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from genmodels.errors import require
from genmodels.schedules import warmup_cosine


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is NaN or infinite; the weights were left as they were."""


class Updater:
    """Owns a network's optimizer and the exponential moving average (EMA) of its weights."""

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_size: int,
        lr: float,
        warmup_steps: int,
        lr_end: float,
        betas: Sequence[float],
        weight_decay: float,
        clip_norm: float | None,
        ema_images: int,
        precision: str,
    ) -> None:
        """AdamW at `lr`: linear warm-up, then a half cosine to the share `lr_end` of it at the end of the run.

        clip_norm: the gradient's largest norm; None: any. ema_images: the moving average's half-life in images seen,
        but at most 5 % of the steps so far, so that a short run is not averaged with its own beginning.
        """
        require(lr > 0, "lr", lr, "a number > 0")
        require(warmup_steps >= 0, "warmup_steps", warmup_steps, "an integer >= 0")
        require(0 <= lr_end <= 1, "lr_end", lr_end, "a number in [0, 1]")
        require(
            len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
            "betas",
            betas,
            "two numbers in [0, 1)",
        )
        require(weight_decay >= 0, "weight_decay", weight_decay, "a number >= 0")
        require(clip_norm is None or clip_norm > 0, "clip_norm", clip_norm, "a number > 0, or null")
        require(ema_images >= 0, "ema_images", ema_images, "an integer >= 0")
        self.model = model
        self.lr = lr
        self.lr_end = lr_end
        self.warmup_steps = warmup_steps
        self.clip_norm = clip_norm
        self.half_life = ema_images / batch_size
        self.precision = precision
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=lr,
            betas=(float(betas[0]), float(betas[1])),
            weight_decay=weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        self.average = (
            copy.deepcopy(model).requires_grad_(False).eval()
        )  # the one to evaluate, show and keep
        self._weights = list(model.parameters())
        self._state, self._average_state = list(_state(model)), list(_state(self.average))

    def autocast(self) -> AbstractContextManager:
        """Where the network runs in bfloat16, if it does; distributions and losses are float32 anyway."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def learning_rate(self, step: int, total: int) -> float:
        """The learning rate of a step of `total`: a pure function, so resume needs no scheduler state."""
        return self.lr * warmup_cosine(
            step, total=total, warmup_steps=self.warmup_steps, end=self.lr_end
        )

    def update(self, loss: Tensor, terms: dict[str, Tensor], step: int, total: int) -> Tensor:
        """Move the weights once down the loss () and the average towards them; returns the gradient's norm ().

        Of what else the loss depends on, no gradient is computed.

        Raises NonFiniteError, before any weight is moved, where the loss or the gradient is not finite; `terms` are the
        numbers that the message names.
        """
        for weights in self._weights:
            weights.grad = None
        loss.backward(inputs=self._weights)
        norm = nn.utils.get_total_norm(
            [weights.grad for weights in self._weights if weights.grad is not None]
        )
        if not torch.isfinite(loss + norm):
            raise NonFiniteError(self._diagnosis(terms | {"gradient norm": norm}, step, total))
        if (
            self.clip_norm is not None and norm > self.clip_norm
        ):  # unclipped steps spare the multiplication
            nn.utils.clip_grads_with_norm_(self._weights, self.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step, total)
        self.optimizer.step()
        half_life = max(min(self.half_life, 0.05 * (step + 1)), 1e-3)  # in steps
        get_ema_multi_avg_fn(0.5 ** (1 / half_life))(self._average_state, self._state, None)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Weights, their average and the optimizer's state."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; betas and weight decay stay this run's own."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        own = {"param_groups": self.optimizer.state_dict()["param_groups"]}
        self.optimizer.load_state_dict(state["optimizer"] | own)

    def _diagnosis(self, terms: dict[str, Tensor], step: int, total: int) -> str:
        values = {name: value.item() for name, value in terms.items()}
        broken = [name for name, value in values.items() if not abs(value) < float("inf")]
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        clip = (
            "a clip_norm"
            if self.clip_norm is None
            else f"a smaller clip_norm than {self.clip_norm:g}"
        )
        return (
            f"step {step + 1}: {broken[0] if broken else 'loss'} is not finite ({numbers}; learning rate "
            f"{self.learning_rate(step, total):.3g}). The weights were left as they were. Try a smaller lr than "
            f"{self.lr:g}, {clip}" + (", or precision=fp32" if self.precision == "bf16" else "")
        )


def _state(network: nn.Module) -> Iterator[Tensor]:
    """All that is averaged: weights, and buffers of numbers, such as BatchNorm's means (not its counters)."""
    yield from (weights.detach() for weights in network.parameters())
    yield from (buffer for buffer in network.buffers() if buffer.is_floating_point())
