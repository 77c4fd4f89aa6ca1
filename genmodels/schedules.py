"""Schedules: the progress through the run, in [0, 1], to a multiplier in [0, 1].

A schedule has no state, so resuming needs none. The weight of the KL term at a step is `kl_weight`
times the schedule's value there. Illegal parameters raise ValueError when a schedule is made.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from genmodels.errors import require

Schedule = Callable[[float], float]  # progress -> multiplier


@dataclass(frozen=True)
class Constant:
    """1 from the first step on."""

    def __call__(self, progress: float) -> float:
        """Always 1."""
        return 1.0


@dataclass(frozen=True)
class Linear:
    """Straight from 0 to 1 over the warm-up, then 1.

    Sonderby et al. 2016, "Ladder variational autoencoders", section 3.

    Arguments:
    warmup: a fraction of the run.
    """

    warmup: float

    def __post_init__(self) -> None:
        _require_fraction("warmup", self.warmup)

    def __call__(self, progress: float) -> float:
        """min(1, progress / warmup)."""
        return min(1.0, progress / self.warmup)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 0 to 1 over the warm-up, then 1: like `Linear`, without its two corners.

    Arguments:
    warmup: a fraction of the run.
    """

    warmup: float

    def __post_init__(self) -> None:
        _require_fraction("warmup", self.warmup)

    def __call__(self, progress: float) -> float:
        """(1 - cos(pi min(1, progress / warmup))) / 2."""
        return 0.5 - 0.5 * math.cos(math.pi * min(1.0, progress / self.warmup))


@dataclass(frozen=True)
class Sigmoid:
    """A logistic curve, near 1 at the end, but not 1 where midpoint and width leave no room for it.

    Bowman et al. 2016, "Generating sentences from a continuous space", section 3.1.

    Arguments:
    midpoint: the fraction of the run after which it is 1/2.
    width: the fraction of the run in which it climbs from 0.1 to 0.9.
    """

    midpoint: float
    width: float

    def __post_init__(self) -> None:
        _require_fraction("midpoint", self.midpoint)
        _require_fraction("width", self.width)

    def __call__(self, progress: float) -> float:
        """sigmoid(slope (progress - midpoint)), where the slope is 2 log(9) / width."""
        slope = 2 * math.log(9) / self.width
        return 0.5 * (1 + math.tanh(0.5 * slope * (progress - self.midpoint)))


@dataclass(frozen=True)
class Cyclical:
    """Equal cycles, each a straight climb from 0 to 1, then 1 (Fu et al. 2019, eq. 7).

    Arguments:
    cycles: how many, at least 1.
    ramp: the fraction of a cycle in which it climbs.
    """

    cycles: int
    ramp: float

    def __post_init__(self) -> None:
        require(self.cycles >= 1, "cycles", self.cycles, "an integer >= 1")
        _require_fraction("ramp", self.ramp)

    def __call__(self, progress: float) -> float:
        """min(1, position in the cycle / ramp); 1 at the end of the run."""
        position = progress * self.cycles
        within = 1.0 if progress >= 1 else position - math.floor(position)
        return min(1.0, within / self.ramp)


@dataclass(frozen=True)
class WarmupCosine:
    """The learning rate's multiplier: a linear warm-up times half a cosine from 1 to `end`.

    Arguments:
    warmup_steps: at most a tenth of the run; a shorter run has a shorter warm-up.
    end: the share of the learning rate that is left at the end of the run.
    """

    warmup_steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "an integer >= 0")
        require(0 <= self.end <= 1, "end", self.end, "a number in [0, 1]")

    def __call__(self, step: int, total: int) -> float:
        """The multiplier at a step, from 0, of `total`."""
        warmup_steps = min(self.warmup_steps, total // 10)
        warmup = min(1.0, (step + 1) / (warmup_steps + 1))
        return warmup * cosine_decay(step / total, self.end)


def cosine_decay(progress: float, end: float) -> float:
    """Half a cosine from 1 to `end` over the run (Loshchilov & Hutter 2017, "SGDR", eq. 5)."""
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))


def _require_fraction(name: str, value: float) -> None:
    require(0 < value <= 1, name, value, "a fraction of the run, above 0 and at most 1")
