"""Schedules: progress through the run, in [0, 1], to a multiplier in [0, 1]. Pure functions, so resume needs no state.

The weight of the KL term at a step is `kl_weight` times the schedule's value there; all but `cyclical` end at 1.
"""

import math
from collections.abc import Callable

from genmodels.errors import require

Schedule = Callable[[float], float]


def constant(progress: float) -> float:
    """The full weight from the first step on."""
    return 1.0


def linear(progress: float, *, warmup: float) -> float:
    """Straight from 0 to 1 over the first `warmup` of the run (Sonderby et al. 2016, "Ladder VAE", section 3)."""
    return min(1.0, progress / _fraction("warmup", warmup))


def cosine(progress: float, *, warmup: float) -> float:
    """Half a cosine from 0 to 1 over the first `warmup` of the run: like `linear`, without its two corners."""
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, progress / _fraction("warmup", warmup)))


def sigmoid(progress: float, *, midpoint: float, width: float) -> float:
    """Logistic curve through 1/2 at `midpoint` (Bowman et al. 2016, "Generating sentences from a continuous space").

    `width` is the fraction of the run in which it climbs from 0.1 to 0.9. Near 1, not 1, where the two leave no room.
    """
    _fraction("midpoint", midpoint)
    slope = 2 * math.log(9) / _fraction("width", width)
    return 0.5 * (1 + math.tanh(0.5 * slope * (progress - midpoint)))


def cyclical(progress: float, *, cycles: int, ramp: float) -> float:
    """`cycles` equal parts, each a linear climb from 0 to 1 over its first `ramp`, then 1 (Fu et al. 2019, eq. 7)."""
    require(cycles >= 1, "cycles", cycles, "an integer >= 1")
    position = progress * cycles
    within = 1.0 if progress >= 1 else position - math.floor(position)
    return min(1.0, within / _fraction("ramp", ramp))


class WarmupCosine:
    def __init__(self, warmup_steps: int, end: float) -> None:
        self.warmup_steps, self.end = warmup_steps, end

    def __call__(self, step: int, total: int) -> float:
        warmup_steps = min(self.warmup_steps, total // 10)
        return min(1.0, (step + 1) / (warmup_steps + 1)) * cosine_decay(step / total, self.end)


def cosine_decay(progress: float, end: float) -> float:
    """Half a cosine from 1 to `end` over the run."""
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


def _fraction(name: str, value: float) -> float:
    require(0 < value <= 1, name, value, "a fraction of the run, above 0 and at most 1")
    return value
