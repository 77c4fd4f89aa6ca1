"""influence.png: which settings matter, as a figure for papers."""

from pathlib import Path

from genmodels.figures.influence import InteractionMeans, Interval, MainEffects, influence
from genmodels.figures.plotting import save
from genmodels.quantities import quantity
from genmodels.report.anova import Anova, Estimate
from genmodels.report.cells import setting_word
from genmodels.report.sweep import Sweep

MAX_METRICS = 2
MAX_INTERACTIONS = 3


def draw(sweep: Sweep, path: Path) -> None:
    """Draw the main effects on each metric with a direction, and the strongest interactions for the
    ranking metric; all by the validation split. Nothing for fewer than two settings."""
    effects = []
    for metric in sweep.compared_metrics[:MAX_METRICS]:
        of_metric = _main_effects(metric, sweep.anovas[metric])
        if len(of_metric.means) > 1:
            effects.append(of_metric)
    if effects:
        save(influence(effects, _interactions(sweep)), path)


def _main_effects(metric: str, analysis: Anova) -> MainEffects:
    means = {}
    for factor in analysis.ranked_factors:
        effect = analysis.main_effects[factor]
        if effect is not None:
            of_levels = {level: _interval(mean) for level, mean in effect.means.items()}
            means[setting_word(factor)] = of_levels
    return MainEffects(_label(metric), means)


def _interactions(sweep: Sweep) -> list[InteractionMeans]:
    metric, analysis = sweep.ranking_metric, sweep.ranking_anova
    if metric is None or analysis is None:
        return []
    panels = []
    for pair in analysis.ranked_interactions[:MAX_INTERACTIONS]:
        means: dict[str, dict[str, float]] = {}
        for (level, other), mean in analysis.interactions[pair].means.items():
            means.setdefault(other, {})[level] = mean
        first, second = map(setting_word, pair)
        panels.append(InteractionMeans(first, second, _label(metric), means))
    return panels


def _label(metric: str) -> str:
    return f"validation {quantity(metric).axis}"


def _interval(estimate: Estimate) -> Interval:
    return estimate.value, estimate.low, estimate.high
