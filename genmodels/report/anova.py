"""Which setting matters? Analysis of variance of a metric over the runs of a sweep.

The model has main effects only: response = mean + sum over the factors of the effect of the
factor's level + residual, fitted by least squares, so that designs need not be full grids.
Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance", do so with a
surrogate model of the runs; here it is the runs themselves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    repeats: how many runs are not the first with their settings.
    warnings: sentences on what these runs cannot tell.
    """

    main_effects: dict[str, Share | None]
    means: dict[str, dict[str, float]]
    interactions: Share
    seed: Share | None
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


def anova(factors: Mapping[str, Sequence[Any]], response: Sequence[float]) -> Anova | None:
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
    coded = {name: _code(values) for name, values in factors.items()}
    if not coded or any(len(names) == 1 for _, names in coded.values()):
        return None
    cells = [repr(values) for values in zip(*factors.values(), strict=True)]
    design = _Design({name: levels for name, (levels, _) in coded.items()}, np.array(cells))
    if len(y) - 1 <= design.rank:
        return None

    responses = y[:, None]
    if design.repeats:
        responses = np.concatenate([responses, design.bootstrap(y)], axis=1)
    effects, interactions, seed = design.shares(responses)
    main_effects: dict[str, Share | None] = dict.fromkeys(factors)
    for name, values in effects.items():
        if design.freedom[name]:
            main_effects[name] = _share(values)
    means = {}
    for name, of_levels in design.means(y).items():
        means[name] = dict(zip(coded[name][1], of_levels.tolist(), strict=True))
    return Anova(
        main_effects,
        means,
        interactions=_share(interactions),
        seed=_share(seed) if design.repeats else None,
        repeats=design.repeats,
        warnings=tuple(design.warnings()),
    )


def _share(values: np.ndarray) -> Share:
    """The first value, with the interval of the others."""
    if len(values) == 1:
        return Share(float(values[0]))
    low, high = np.percentile(values[1:], INTERVAL).tolist()
    return Share(float(values[0]), low, high)


def _code(values: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """The level of each value, (N,) from 0, and the levels' names.

    A level is a distinct value, or a range between quantiles of many distinct numbers.
    """
    by_text = {repr(value): value for value in values}
    distinct = sorted(by_text.values(), key=sort_key)
    are_numbers = all(type(value) in (int, float) for value in values)
    if are_numbers and len(distinct) > max(MAX_LEVELS, len(values) / 2):
        return _code_quantiles(np.array(values))
    texts = [repr(value) for value in distinct]
    levels = [texts.index(repr(value)) for value in values]
    names = [format_cell(value) for value in distinct]
    return np.array(levels), names


def _code_quantiles(numbers: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The same for numbers (N,), by QUANTILE_GROUPS quantiles."""
    quantiles = np.linspace(0, 1, QUANTILE_GROUPS + 1)
    edges = np.quantile(numbers, quantiles[1:-1])
    levels = np.searchsorted(edges, numbers)
    levels = np.unique(levels, return_inverse=True)[1]  # without empty ones
    names = []
    for level in range(levels.max() + 1):
        members = numbers[levels == level]
        low = format_cell(float(members.min()))
        high = format_cell(float(members.max()))
        names.append(f"{low} to {high}")
    return levels, names


class _Design:
    """Which of N runs have which levels, and the least-squares fits that follow from it.

    A cell is a combination of settings that was run. Responses are (N, R), all fitted at once.
    """

    def __init__(self, levels: Mapping[str, np.ndarray], cells: np.ndarray) -> None:
        """Arguments:
        levels: factor -> level of each run, (N,) from 0.
        cells: what tells the cell of each run, (N,).
        """
        self.levels = levels
        self.cells = len(np.unique(cells))
        self.repeats = len(cells) - self.cells
        same_cell = cells[:, None] == cells
        self.cell_sizes = same_cell.sum(axis=0)  # (N,)
        self.averaging = same_cell / self.cell_sizes  # (N, N): responses -> means of their cells

        columns = [contrasts(of_runs) for of_runs in levels.values()]
        self.matrix = np.concatenate(columns, axis=1)
        self.widths = {name: of_runs.max() for name, of_runs in levels.items()}
        self.owners = np.repeat(list(levels), list(self.widths.values()))  # factor of each column
        self.rank = np.linalg.matrix_rank(self.matrix)
        self.freedom = {}  # degrees of freedom that a factor has to itself
        self.confounded = []  # factors with levels that go together with levels of others
        for name, width in self.widths.items():
            rank_of_others = np.linalg.matrix_rank(self._without(name))
            self.freedom[name] = self.rank - rank_of_others
            if self.freedom[name] < width:
                self.confounded.append(name)

    def shares(self, responses: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The shares (R,) of each factor, of the interactions and of the seed."""
        runs = len(responses)
        y = responses - responses.mean(axis=0)
        total = np.maximum(_squares(y), 1e-300)
        residual = _residual_squares(self.matrix, y)
        error = _squares(y - self.averaging @ y)
        interactions = residual - error
        if self.repeats:
            mean_error = error / self.repeats
            noise = (self.cells - 1 - self.rank) * mean_error
            interactions = np.maximum(interactions - noise, 0)
        else:
            mean_error = residual / (runs - 1 - self.rank)
        effects = {}
        for name, freedom in self.freedom.items():
            explained = _residual_squares(self._without(name), y) - residual
            effects[name] = np.maximum(explained - freedom * mean_error, 0) / total
        seed = np.minimum(mean_error * (runs - 1) / total, 1)
        return effects, interactions / total, seed

    def means(self, y: np.ndarray) -> dict[str, np.ndarray]:
        """Fitted means of y (N,) at each factor's levels, with the other factors at their means."""
        coefficients = np.linalg.lstsq(self.matrix, y - y.mean(), rcond=None)[0]
        means = {}
        for name, levels in self.levels.items():
            if name not in self.confounded:
                effects = np.append(0, coefficients[self.owners == name])  # against level 0
                means[name] = y.mean() + effects - effects[levels].mean()
        return means

    def bootstrap(self, y: np.ndarray) -> np.ndarray:
        """Responses (N, BOOTSTRAP_DRAWS): the cell means of y (N,) with redrawn errors.

        Deviations from a mean of n runs are inflated by sqrt(n / (n - 1)) to the errors' size.
        """
        means = self.averaging @ y
        repeated = self.cell_sizes > 1
        sizes = self.cell_sizes[repeated]
        inflation = np.sqrt(sizes / (sizes - 1))
        errors = (y - means)[repeated] * inflation
        random = np.random.default_rng(0)
        drawn = random.choice(errors, (BOOTSTRAP_DRAWS, len(y)))
        return means[:, None] + drawn.T

    def warnings(self) -> list[str]:
        """Sentences on what these runs cannot tell."""
        sentences = []
        if not self.repeats:
            sentences.append(
                "No run was repeated with another seed (seed=0,1,2), so that the residual does not "
                "tell interactions from chance."
            )
        grid = math.prod(width + 1 for width in self.widths.values())
        if self.cells < grid:
            sentences.append(
                f"{self.cells} of {grid} combinations were run, so that main effects are partly "
                "aliased with interactions."
            )
        for name in self.confounded:
            sentences.append(f"The effect of {name} is confounded with those of other settings.")
        return sentences

    def _without(self, name: str) -> np.ndarray:
        """The matrix with zeros in the columns of a factor."""
        return np.where(self.owners == name, 0, self.matrix)


def _residual_squares(columns: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sums of squares (R,) that a fit on these columns leaves of centred y (N, R)."""
    coefficients = np.linalg.lstsq(columns, y, rcond=None)[0]
    return _squares(y - columns @ coefficients)


def _squares(y: np.ndarray) -> np.ndarray:
    """The sum of squares of each column."""
    return (y**2).sum(axis=0)
