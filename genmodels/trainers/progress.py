"""What the training loop keeps of a run as it goes: running means, time, the best evaluation."""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from genmodels.errors import require
from genmodels.quantities import LOWER, quantity


class Means:
    """Running means of the terms since the last row, on the device: no synchronisation."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add one step's terms. Each has its own mean: a step need not have all of them."""
        for name, value in terms.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take(self) -> dict[str, float]:
        """The means; begins anew."""
        means = {name: value.item() / self.counts[name] for name, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave. Raises ValueError for anything else."""
        sums, counts = state["sums"], state["counts"]
        require(sums.keys() == counts.keys(), "counts", sorted(counts), f"of {sorted(sums)}")
        for name in sums:
            _check_mean(name, sums[name], counts[name])
        self.sums, self.counts = dict(sums), dict(counts)


class Clock:
    """Seconds of training, over all the processes that worked on a run."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._last_step, self._last_seconds = 0, 0.0

    def seconds(self) -> float:
        """Seconds so far."""
        return round(time.perf_counter() - self._start, 3)

    @contextlib.contextmanager
    def excluded(self) -> Iterator[None]:
        """What is done within, such as an evaluation, does not count in the speed of training."""
        start = time.perf_counter()
        yield
        self._last_seconds += time.perf_counter() - start

    def steps_per_second(self, step: int) -> float:
        """The speed of training since the last call."""
        steps, seconds = step - self._last_step, self.seconds() - self._last_seconds
        self._last_step, self._last_seconds = step, self.seconds()
        return steps / max(seconds, 1e-9)

    def state_dict(self) -> dict[str, float]:
        """The seconds."""
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from the seconds that `state_dict` gave. Raises ValueError for anything else."""
        seconds = state["seconds"]
        require(0 <= seconds < math.inf, "seconds", seconds, "a number >= 0")
        self._start = time.perf_counter() - seconds


class BestEvaluation:
    """The step of a run's best evaluation by a quantity, the first of equals."""

    def __init__(self, name: str | None, rows: Iterable[Mapping[str, Any]]) -> None:
        """Arguments:
        name: of the quantity; None for no selection.
        rows: of the run so far.
        """
        self.step: int | None = None
        self._name = name
        self._value = math.nan
        for row in rows:
            if "validation" in row:
                self.add(row["step"], row["validation"])

    def add(self, step: int, validation: Mapping[str, Any]) -> bool:
        """Whether this evaluation is the best so far. Raises KeyError where it lacks the quantity.

        Arguments:
        step: of the evaluation.
        validation: its numbers.
        """
        if self._name is None:
            return False
        value = validation[self._name]
        if value is None or math.isnan(value):
            return False
        sign = -1 if quantity(self._name).better == LOWER else 1
        is_best = self.step is None or sign * value > sign * self._value
        if is_best:
            self.step, self._value = step, value
        return is_best


def _check_mean(name: str, total: Any, count: Any) -> None:
    """Raise ValueError unless these are the sum of a term and the number of its steps."""
    is_number = isinstance(total, Tensor) and total.dim() == 0
    require(is_number, f"sums.{name}", type(total).__name__, "a tensor ()")
    is_count = type(count) is int and count > 0
    require(is_count, f"counts.{name}", count, "an integer > 0")
