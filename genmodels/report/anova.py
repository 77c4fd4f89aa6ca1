"""Which setting matters? Analysis of variance of a metric over the runs of a sweep.

The model has main effects only: response = mean + sum over the factors of the effect of the
factor's level + residual, fitted by least squares, so that designs need not be full grids.
Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance", do so with a
surrogate model of the runs; here it is the runs themselves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from genmodels.d_optimal import contrasts
from genmodels.report.cells import format_cell, sort_key

MAX_LEVELS = 6  # distinct numbers of a factor; more are grouped if few runs share a value
QUANTILE_GROUPS = 4
BOOTSTRAP_DRAWS = 1000
INTERVAL = (5, 95)  # percentiles


@dataclass(frozen=True)
class Share:
    """A share of a metric's variance in [0, 1], with a 90 % bootstrap interval if runs repeat."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Anova:
    """The analysis of variance of one metric.

    Arguments:
    main_effects: factor -> its share; None for a factor that is confounded with others.
    means: factor -> level -> mean of the metric at that level, with the other factors at their
        means. Confounded factors are left out.
    interactions: the share that the main effects do not explain and seeds do not either; without
        repeats the whole residual, which chance is part of.
    seed: the share of runs with equal settings; None without repeats.
    runs: how many there are.
    repeats: how many of them are not the first with their settings.
    warnings: sentences on what these runs cannot tell.
    """

    main_effects: dict[str, Share | None]
    means: dict[str, dict[str, float]]
    interactions: Share
    seed: Share | None
    runs: int
    repeats: int
    warnings: tuple[str, ...]

    @property
    def sources(self) -> dict[str, Share | None]:
        """The share of each source of variance: factors, interactions, seed."""
        sources = dict(self.main_effects)
        if self.seed is None:
            return sources | {"residual": self.interactions}
        if len(self.main_effects) > 1:
            sources["interactions"] = self.interactions
        return sources | {"seed": self.seed}

    @property
    def ranked_factors(self) -> list[str]:
        """The factors, the one with the largest share first and the confounded ones last."""
        shares = {}
        for name, share in self.main_effects.items():
            shares[name] = -1.0 if share is None else share.value
        return sorted(shares, key=lambda name: -shares[name])


def anova(factors: Mapping[str, Sequence[object]], response: Sequence[float]) -> Anova | None:
    """Analyse the variance of a metric. None where no factor varies or runs do not exceed levels.

    With SS(total) the sum of squares about the mean, SS(residual) that which all main effects leave
    over, SS(error) that within equal settings, and df the degrees of freedom:

        MS(error) = SS(error) / repeats
        SS(factor) = SS(residual of the model without the factor) - SS(residual)
        share of a factor = epsilon squared = (SS(factor) - df(factor) MS(error)) / SS(total)
        share of the interactions = (SS(residual) - SS(error) - df MS(error)) / SS(total)
        share of the seed = MS(error) (N - 1) / SS(total)

    Epsilon squared (Kelley 1935) subtracts what noise alone would explain; shares below 0 count as
    0. Without repeats MS(error) is SS(residual) / df(residual), and there are no intervals.

    Arguments:
    factors: name -> its value in each run; the seed is not one of them.
    response: the metric in each run.
    """
    y = np.asarray(response, float)
    coded = {name: _Factor.of(values) for name, values in factors.items()}
    if not coded or any(len(factor.names) == 1 for factor in coded.values()):
        return None
    design = _Design(coded, list(zip(*factors.values(), strict=True)))
    if len(y) - 1 <= design.rank:
        return None

    responses = y[:, None]
    if design.repeats:
        responses = np.concatenate([responses, design.bootstrap(y)], axis=1)
    main_effects, interactions, seed = design.shares(responses)
    shares: dict[str, Share | None] = {}
    for name, values in main_effects.items():
        shares[name] = _share(values) if design.freedom[name] else None
    return Anova(
        shares,
        design.means(y),
        _share(interactions),
        _share(seed) if design.repeats else None,
        len(y),
        design.repeats,
        tuple(design.warnings()),
    )


def _share(values: np.ndarray) -> Share:
    """The first value, with the interval of the others."""
    if len(values) == 1:
        return Share(float(values[0]))
    low, high = np.percentile(values[1:], INTERVAL)
    return Share(float(values[0]), float(low), float(high))


@dataclass(frozen=True)
class _Factor:
    """The level of each run, (N,) from 0, and the levels' names."""

    levels: np.ndarray
    names: list[str]

    @classmethod
    def of(cls, values: Sequence[object]) -> "_Factor":
        """A level for each distinct value, or for quantiles of many distinct numbers."""
        numbers = [value for value in values if _is_number(value)]
        if len(numbers) == len(values) and len(set(numbers)) > max(MAX_LEVELS, len(values) / 2):
            return cls._of_quantiles(np.array(numbers))
        by_text = {repr(value): value for value in values}
        distinct = sorted(by_text.values(), key=sort_key)
        level_of = {repr(value): level for level, value in enumerate(distinct)}
        levels = np.array([level_of[repr(value)] for value in values])
        return cls(levels, [format_cell(value) for value in distinct])

    @classmethod
    def _of_quantiles(cls, numbers: np.ndarray) -> "_Factor":
        edges = np.quantile(numbers, np.linspace(0, 1, QUANTILE_GROUPS + 1)[1:-1])
        levels = np.unique(np.searchsorted(edges, numbers), return_inverse=True)[1]
        names = []
        for level in range(levels.max() + 1):
            members = numbers[levels == level]
            low, high = float(members.min()), float(members.max())
            names.append(f"{format_cell(low)} to {format_cell(high)}")
        return cls(levels, names)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Design:
    """Which runs have which levels, and the least-squares fits that follow from it.

    A cell is a combination of settings that was run. Responses are (N, R): R responses of N runs.
    """

    def __init__(self, factors: Mapping[str, _Factor], settings: Sequence[tuple]) -> None:
        """Arguments:
        factors: with their levels.
        settings: the values of all factors in each run.
        """
        self.factors = factors
        self.cells = np.unique([repr(values) for values in settings], return_inverse=True)[1]
        self.cell_sizes = np.bincount(self.cells)
        self.repeats = len(self.cells) - len(self.cell_sizes)
        self.columns = {name: contrasts(factor.levels) for name, factor in factors.items()}
        self.matrix = np.concatenate(list(self.columns.values()), axis=1)
        self.rank = int(np.linalg.matrix_rank(self.matrix))
        self.freedom: dict[str, int] = {}  # degrees of freedom that are a factor's alone
        for name in factors:
            self.freedom[name] = self.rank - int(np.linalg.matrix_rank(self._without(name)))

    @property
    def confounded(self) -> list[str]:
        """The factors with levels that go together with levels of others."""
        return [
            name for name, columns in self.columns.items() if self.freedom[name] < columns.shape[1]
        ]

    def shares(self, responses: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The shares (R,) of each factor, of the interactions and of the seed."""
        runs, cells = len(self.cells), len(self.cell_sizes)
        y = responses - responses.mean(axis=0)
        total = np.maximum((y**2).sum(axis=0), 1e-300)
        residual = _residual_squares(self.matrix, y)
        error = ((y - self._cell_means(y)) ** 2).sum(axis=0)
        lack_of_fit = residual - error
        if self.repeats:
            mean_error = error / self.repeats
            lack_of_fit = np.maximum(lack_of_fit - (cells - 1 - self.rank) * mean_error, 0)
        else:
            mean_error = residual / max(runs - 1 - self.rank, 1)
        main_effects = {}
        for name, freedom in self.freedom.items():
            explained = _residual_squares(self._without(name), y) - residual
            main_effects[name] = np.maximum(explained - freedom * mean_error, 0) / total
        seed = np.minimum(mean_error * (runs - 1) / total, 1)
        return main_effects, lack_of_fit / total, seed

    def means(self, y: np.ndarray) -> dict[str, dict[str, float]]:
        """Fitted means of y (N,) at each factor's levels, with the other factors at their means."""
        effects = np.linalg.lstsq(self.matrix, y - y.mean(), rcond=None)[0]
        means = {}
        for name, factor in self.factors.items():
            count = len(factor.names) - 1
            own, effects = np.append(0, effects[:count]), effects[count:]  # against level 0
            if name not in self.confounded:
                values = y.mean() + own - own[factor.levels].mean()
                means[name] = dict(zip(factor.names, values.tolist(), strict=True))
        return means

    def bootstrap(self, y: np.ndarray) -> np.ndarray:
        """Responses (N, BOOTSTRAP_DRAWS): the cell means of y (N,) with redrawn errors.

        Deviations from a mean of n runs are inflated by sqrt(n / (n - 1)) to the errors' size.
        """
        random = np.random.default_rng(0)
        means = self._cell_means(y[:, None])
        sizes = self.cell_sizes[self.cells]
        inflation = np.sqrt(sizes / np.maximum(sizes - 1, 1))
        errors = ((y - means[:, 0]) * inflation)[sizes > 1]
        return means + random.choice(errors, (BOOTSTRAP_DRAWS, len(y))).T

    def warnings(self) -> list[str]:
        """Sentences on what these runs cannot tell."""
        sentences = []
        if not self.repeats:
            sentences.append(
                "No run was repeated with another seed (seed=0,1,2), so that the residual does not "
                "tell interactions from chance."
            )
        cells = len(self.cell_sizes)
        grid = math.prod(len(factor.names) for factor in self.factors.values())
        if cells < grid:
            sentences.append(
                f"{cells} of {grid} combinations were run, so that main effects are partly aliased "
                "with interactions."
            )
        for name in self.confounded:
            sentences.append(f"The effect of {name} is confounded with those of other settings.")
        return sentences

    def _cell_means(self, y: np.ndarray) -> np.ndarray:
        """For each run the mean (N, R) of the runs in its cell."""
        sums = np.zeros((len(self.cell_sizes), y.shape[1]))
        np.add.at(sums, self.cells, y)
        return (sums / self.cell_sizes[:, None])[self.cells]

    def _without(self, name: str) -> np.ndarray:
        """The columns of all factors but one; a column of zeros where there is no other."""
        columns = [columns for other, columns in self.columns.items() if other != name]
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(self.cells), 1))


def _residual_squares(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sums of squares (R,) that a fit of centred responses (N, R) on these columns leaves."""
    residuals = y - columns @ np.linalg.lstsq(columns, y, rcond=None)[0]
    return (residuals**2).sum(axis=0)
