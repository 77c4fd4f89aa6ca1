"""Which setting matters? Analysis of variance of a metric over the runs of a sweep.

response = mean + the effect of each factor's level + the effects of pairs of levels (interactions,
where the runs tell them apart) + residual, fitted by least squares, so that designs need not be
full grids. Hutter et al. 2014, "An efficient approach for assessing hyperparameter importance", do
so with a surrogate model of the runs; here it is the runs themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genmodels.report.design import strongest_interactions
from genmodels.report.levels import code_levels

INTERVAL = (5, 95)  # percentiles


@dataclass(frozen=True)
class Estimate:
    """A number, perhaps with a 90 % bootstrap interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MainEffect:
    """What a factor does, with the other factors at their means.

    Arguments:
    share: of the metric's variance, in [0, 1].
    difference: the largest between two levels, in the metric's unit.
    means: level -> mean of the metric.
    """

    share: Estimate
    difference: Estimate
    means: dict[str, Estimate]


@dataclass(frozen=True)
class Interaction:
    """By how much the effect of a factor depends on another one.

    Arguments:
    share: of the metric's variance, in [0, 1].
    change: the largest by which the difference between two levels of a factor changes between two
        levels of the other, in the metric's unit.
    means: a level of both -> mean of the metric, with the other factors at their means.
    """

    share: Estimate
    change: Estimate
    means: dict[tuple[str, str], float]


@dataclass(frozen=True)
class Anova:
    """The analysis of variance of one metric.

    Arguments:
    main_effects: factor -> its effect; None for a factor that is confounded with others.
    interactions: pairs of factors -> their interaction, where these runs tell them apart: of all
        factors or of those with the largest main effects.
    all_interactions: the share that the main effects do not explain and seeds do not either;
        without repeats the whole residual, which chance is part of.
    seed: the share of runs with equal settings; None without repeats.
    repeats: how many runs are not the first with their settings.
    warnings: sentences on what these runs cannot tell.
    """

    main_effects: dict[str, MainEffect | None]
    interactions: dict[tuple[str, str], Interaction]
    all_interactions: Estimate
    seed: Estimate | None
    repeats: int
    warnings: tuple[str, ...]

    @property
    def sources(self) -> dict[str, Estimate | None]:
        """The share of each source of variance: factors, interactions, seed."""
        sources: dict[str, Estimate | None] = {}
        for name, effect in self.main_effects.items():
            sources[name] = None if effect is None else effect.share
        if self.seed is None:
            return sources | {"residual": self.all_interactions}
        if len(self.main_effects) > 1:
            sources["interactions"] = self.all_interactions
        return sources | {"seed": self.seed}

    @property
    def ranked_factors(self) -> list[str]:
        """The factors, the one with the largest share first and the confounded ones last."""
        sizes = {}
        for name, effect in self.main_effects.items():
            sizes[name] = (-1.0, 0.0)
            if effect is not None:
                sizes[name] = (effect.share.value, effect.difference.value)
        return sorted(sizes, key=lambda name: sizes[name], reverse=True)

    @property
    def ranked_interactions(self) -> list[tuple[str, str]]:
        """The pairs whose share is more than chance, the one with the largest first."""
        found = []
        for pair, interaction in self.interactions.items():
            if interaction.share.low is not None and interaction.share.low > 0:
                found.append(pair)
        return sorted(found, key=lambda pair: -self.interactions[pair].share.value)


def anova(factors: Mapping[str, Sequence[Any]], response: Sequence[float]) -> Anova | None:
    """Analyse the variance of a metric. None where no factor varies or runs do not exceed levels.

    With SS(total) the sum of squares about the mean, SS(residual) that which all terms leave over,
    SS(error) that within equal settings, and df the degrees of freedom:

        MS(error) = SS(error) / repeats
        SS(term) = SS(residual of the model without the term) - SS(residual)
        share of a term = epsilon squared = (SS(term) - df(term) MS(error)) / SS(total)
        share of all interactions
            = (SS(residual of the main effects) - SS(error) - df MS(error)) / SS(total)
        share of the seed = MS(error) (N - 1) / SS(total)

    Epsilon squared (Kelley 1935) subtracts what noise alone would explain; shares below 0 count as
    0. Without repeats there are main effects only, and MS(error) is SS(residual) / df(residual).

    Intervals are of the bootstrap: deviations within equal settings are redrawn, or without repeats
    the residuals, so that interactions widen them.

    Arguments:
    factors: name -> its value in each run; the seed is not one of them.
    response: the metric in each run.
    """
    y = np.asarray(response, float)
    coded = {name: code_levels(values) for name, values in factors.items()}
    if not coded or any(len(names) == 1 for _, names in coded.values()):
        return None
    cells = [repr(values) for values in zip(*factors.values(), strict=True)]
    levels = {name: of_runs for name, (of_runs, _) in coded.items()}
    design = strongest_interactions(levels, np.array(cells), y)
    if len(y) - 1 <= design.main_rank:
        return None

    responses = np.concatenate([y[:, None], design.bootstrap(y)], axis=1)
    shares, all_interactions, seed = design.shares(responses)
    means = design.means(responses)
    names = {name: of_levels for name, (_, of_levels) in coded.items()}
    main_effects: dict[str, MainEffect | None] = {}
    for name in factors:
        main_effects[name] = None
        if name in means:
            main_effects[name] = _main_effect(shares[(name,)], means[name], names[name])
    interactions = {}
    for pair, effects in design.interaction_effects(responses).items():
        first, second = pair
        sums = means[first][:, None] + means[second][None, :] - responses.mean(axis=0) + effects
        interactions[pair] = _interaction(shares[pair], sums, names[first], names[second])
    if not design.repeats:
        all_interactions = all_interactions[:1]  # the residual, of which intervals are made
    return Anova(
        main_effects,
        interactions,
        all_interactions=_estimate(all_interactions),
        seed=_estimate(seed) if design.repeats else None,
        repeats=design.repeats,
        warnings=tuple(design.warnings()),
    )


def _main_effect(share: np.ndarray, means: np.ndarray, names: Sequence[str]) -> MainEffect:
    """From a share (R,), means (L, R) and the levels' names."""
    highest, lowest = means[:, 0].argmax(), means[:, 0].argmin()
    of_levels = dict(zip(names, map(_estimate, means), strict=True))
    return MainEffect(_estimate(share), _estimate(means[highest] - means[lowest]), of_levels)


def _interaction(
    share: np.ndarray, means: np.ndarray, rows: Sequence[str], columns: Sequence[str]
) -> Interaction:
    """From a share (R,), means (L, M, R) and the names of L and M levels."""
    of_rows = means[:, None] - means[None, :]  # (L, L, M, R): differences between two rows
    changes = of_rows[:, :, :, None] - of_rows[:, :, None, :]  # (L, L, M, M, R)
    flat = changes.reshape(-1, changes.shape[-1])
    of_levels = {}
    for row, name in enumerate(rows):
        for column, other in enumerate(columns):
            of_levels[(name, other)] = float(means[row, column, 0])
    return Interaction(_estimate(share), _estimate(flat[flat[:, 0].argmax()]), of_levels)


def _estimate(values: np.ndarray) -> Estimate:
    """The first value, with the interval of the others."""
    if len(values) == 1:
        return Estimate(float(values[0]))
    low, high = np.percentile(values[1:], INTERVAL).tolist()
    return Estimate(float(values[0]), low, high)
