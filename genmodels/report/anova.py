"""Which knob matters? The share of a metric's variance over the runs of a sweep that each swept setting explains.

Main effects in the manner of a functional analysis of variance (Hutter et al. 2014, "An efficient approach for
assessing hyperparameter importance"), but of the runs themselves and not of a model of them: with a level of a setting
for each of its values, metric = mean + sum of effects of levels + rest, by least squares, so that designs need not be
full grids.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genmodels.d_optimal import contrasts
from genmodels.report.runs import cell, sortable

LEVELS = 6  # distinct numbers of a setting; more, if most are of one run alone, are taken together in QUANTILES
QUANTILES = 4
DRAWS = 1000  # of the bootstrap
INTERVAL = 90  # percent

Values = Sequence[object]


@dataclass(frozen=True)
class Share:
    """Of the variance of a metric, in [0, 1], with an interval of INTERVAL % by bootstrap; None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Influence:
    """The shares of one metric's variance."""

    knobs: dict[
        str, Share | None
    ]  # main effects, corrected for what noise alone would explain; None: cannot be told
    means: dict[
        str, dict[str, float]
    ]  # of the metric at each value of a knob, the other knobs held at their means
    rest: (
        Share  # what the effects together leave over: of combinations and, without repeats, chance
    )
    seed: Share | None  # runs with equal settings; None where there are no repeats
    runs: int
    repeats: int  # runs beyond the first of their settings
    warnings: tuple[str, ...]


def influence(settings: Mapping[str, Values], metric: Sequence[float]) -> Influence | None:
    """The shares of the swept settings (name -> its value in each run, without the seed) in the variance of a metric.

    The variance within equal settings is the seeds'. Effects are corrected for it (epsilon squared: Kelley 1935), so
    that a knob without influence has little; without repeats for what the effects leave over. The bootstrap draws the
    differences between runs of equal settings anew; without repeats there are no intervals. None where nothing can be
    told: no settings that vary, or no more runs than levels; for a knob None where it goes with the others.
    """
    y = np.asarray(metric, float)
    found_levels = {name: _levels(values) for name, values in settings.items()}
    levels = {name: column for name, (column, _) in found_levels.items()}
    if not levels or any(column.max() == 0 for column in levels.values()):
        return None
    cells, _ = _levels(list(zip(*settings.values(), strict=True)))
    design = _Design(levels, cells)
    if len(y) - 1 <= design.rank:
        return None
    warnings = (
        []
        if design.repeats
        else ["no settings were run twice (seed=0,1,2): what is chance cannot be told"]
    )
    points, grid = len(design.counts), math.prod(len(names) for _, names in found_levels.values())
    if points < grid:
        warnings.append(
            f"{points} of {grid} combinations were tried: part of what settings do only together is "
            "counted as effects of others"
        )
    warnings += [
        f"{name} cannot be told apart from the other settings in these runs"
        for name in design.confounded
    ]
    shares = design.shares(y)
    found = {name: Share(share) for name, share in shares.items()}
    if design.repeats:
        random, edges = np.random.default_rng(0), (50 - INTERVAL / 2, 50 + INTERVAL / 2)
        drawn = [design.shares(design.redrawn(y, random)) for _ in range(DRAWS)]
        found = {
            name: Share(
                share,
                *(float(edge) for edge in np.percentile([draw[name] for draw in drawn], edges)),
            )
            for name, share in shares.items()
        }
    rest, seed = found.pop("rest"), found.pop("seed")
    knobs = {name: share if design.freedom[name] else None for name, share in found.items()}
    means = {
        name: dict(zip(found_levels[name][1], column, strict=True))
        for name, column in design.means(y).items()
        if name not in design.confounded
    }
    return Influence(
        knobs,
        means,
        rest,
        seed if design.repeats else None,
        len(y),
        design.repeats,
        tuple(warnings),
    )


class _Design:
    """Which runs have which levels: what does not change when the metric is drawn anew."""

    def __init__(self, levels: Mapping[str, np.ndarray], cells: np.ndarray) -> None:
        self.levels = levels
        self.cells, self.counts = cells, np.bincount(cells)
        self.repeats = len(cells) - len(self.counts)
        self.blocks = {name: contrasts(column) for name, column in levels.items()}
        self.whole = np.concatenate(list(self.blocks.values()), axis=1)
        self.rank = np.linalg.matrix_rank(self.whole)
        self.freedom = {
            name: self.rank - np.linalg.matrix_rank(self._without(name)) for name in self.blocks
        }
        self.confounded = [
            name for name, block in self.blocks.items() if self.freedom[name] < block.shape[1]
        ]

    def shares(self, y: np.ndarray) -> dict[str, float]:
        """Of each knob, of "rest" and of "seed"."""
        y = y - y.mean()
        total = max(float(y @ y), 1e-300)
        within = float(((y - self._cell_means(y)) ** 2).sum())
        left = self._left(self.whole, y)
        lack, lack_freedom = left - within, len(self.counts) - 1 - self.rank
        noise = (
            within / self.repeats if self.repeats else left / max(len(y) - 1 - self.rank, 1)
        )  # mean square
        explained = {name: self._left(self._without(name), y) - left for name in self.blocks}
        shares = {
            name: max(square - self.freedom[name] * noise, 0) / total
            for name, square in explained.items()
        }
        lack = max(lack - lack_freedom * noise, 0) if self.repeats else lack
        found = shares | {"rest": lack / total, "seed": min(noise * (len(y) - 1) / total, 1.0)}
        return {name: float(share) for name, share in found.items()}

    def means(self, y: np.ndarray) -> dict[str, list[float]]:
        """For each knob the metric at its levels, by least squares, with the other knobs at their means."""
        effects, found = np.linalg.lstsq(self.whole, y - y.mean(), rcond=None)[0], {}
        for name, column in self.levels.items():
            own, effects = (
                np.array([0, *effects[: column.max()]]),
                effects[column.max() :],
            )  # against level 0
            found[name] = [float(mean) for mean in y.mean() + own - own[column].mean()]
        return found

    def redrawn(self, y: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The metric with its differences within equal settings exchanged, at their full size."""
        means = self._cell_means(y)
        inflation = np.sqrt(self.counts / np.maximum(self.counts - 1, 1))[self.cells]
        rests = ((y - means) * inflation)[self.counts[self.cells] > 1]
        return means + random.choice(rests, len(y))

    def _cell_means(self, y: np.ndarray) -> np.ndarray:
        return (np.bincount(self.cells, y) / self.counts)[self.cells]

    def _without(self, name: str) -> np.ndarray:
        blocks = [block for other, block in self.blocks.items() if other != name]
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(self.cells), 1))

    @staticmethod
    def _left(columns: np.ndarray, y: np.ndarray) -> float:
        """The sum of squares that these columns do not explain of a centred y."""
        rest = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
        return float(rest @ rest)


def _levels(values: Values) -> tuple[np.ndarray, list[str]]:
    """For each value its level, from 0, and what the levels are called; many different numbers, as a search tries them,
    are grouped by quantiles."""
    numbers = [
        value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if len(numbers) == len(values) and max(LEVELS, len(values) / 2) < len(set(numbers)):
        edges = np.quantile(numbers, np.linspace(0, 1, QUANTILES + 1)[1:-1])
        column = np.unique(np.searchsorted(edges, numbers), return_inverse=True)[1]
        ranges = [np.array(numbers)[column == level] for level in range(column.max() + 1)]
        return column, [f"{cell(float(of.min()))} to {cell(float(of.max()))}" for of in ranges]
    known = sorted({repr(value): value for value in values}.values(), key=sortable)
    level = {repr(value): index for index, value in enumerate(known)}
    return np.array([level[repr(value)] for value in values]), [cell(value) for value in known]
