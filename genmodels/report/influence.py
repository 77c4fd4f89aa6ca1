"""Which settings matter, as tables: main effects, interactions, and what a change costs."""

import math
from collections.abc import Mapping

from genmodels.quantities import quantity
from genmodels.report.anova import Estimate
from genmodels.report.cells import format_cell, setting_word
from genmodels.report.runs import TEST, VALIDATION
from genmodels.report.sweep import Column, SeedGroup, Sweep
from genmodels.report.tables import PLUS_MINUS, Row, round_like

ARROW = "\N{RIGHTWARDS ARROW}"
TIMES = "\N{MULTIPLICATION SIGN}"
DIGITS = 3
MAX_INTERACTIONS = 10
MAX_CHANGES = 20  # settings that are compared with the best


def shares_table(sweep: Sweep) -> list[Row]:
    """One row for each source of variance, one column for each metric of the validation split; []
    without an analysis."""
    sources = {metric: analysis.sources for metric, analysis in sweep.anovas.items()}
    rows: list[Row] = []
    for source in next(iter(sources.values()), {}):
        row = {"share of the variance": source}
        for metric, shares in sources.items():
            row[Column(VALIDATION, metric).name] = format_share(shares[source])
        rows.append(row)
    return rows


def effects_table(sweep: Sweep) -> list[Row]:
    """One row for each swept setting, the strongest first: the largest difference of the ranking
    metric between its values, on the validation split, and the means on both splits, with the other
    settings at their means.

    [] for a single setting, whose means the table of groups has.
    """
    metric, analysis = sweep.ranking_metric, sweep.ranking_anova
    if metric is None or analysis is None or len(analysis.main_effects) < 2:
        return []
    rows: list[Row] = []
    for factor in analysis.ranked_factors:
        effect = analysis.main_effects[factor]
        if effect is None:
            continue
        row = {"setting": setting_word(factor), "difference": format_estimate(effect.difference)}
        row[_means_heading(VALIDATION, metric)] = _format_means(effect.means)
        if sweep.test_anova is not None:
            of_test = sweep.test_anova.main_effects[factor]
            row[_means_heading(TEST, metric)] = _format_means(of_test.means) if of_test else ""
        rows.append(row)
    return rows


def interactions_table(sweep: Sweep) -> list[Row]:
    """One row for each interaction of two settings that is more than chance, the strongest first:
    its share of the ranking metric's variance, and by how much one setting's effect changes."""
    analysis = sweep.ranking_anova
    if analysis is None:
        return []
    rows: list[Row] = []
    for pair in analysis.ranked_interactions[:MAX_INTERACTIONS]:
        interaction = analysis.interactions[pair]
        row = {
            "interaction": f" {TIMES} ".join(map(setting_word, pair)),
            "share": format_share(interaction.share),
            "the effect of one changes by": format_estimate(interaction.change),
        }
        rows.append(row)
    return rows


def changes_table(sweep: Sweep) -> list[Row]:
    """What each change from the best setting costs, by the ranking metric of the validation split:
    the difference of the means with its standard error, on both splits.

    The settings that differ in the fewest values come first. [] for a single swept setting, and
    where none differs in one value alone.
    """
    metric = sweep.ranking_metric
    if metric is None or len(sweep.factors) < 2:
        return []
    best, *others = sweep.ranked(metric)
    others.sort(key=lambda group: len(_changed(best, group)))  # stable: better ones first
    if not others or len(_changed(best, others[0])) > 1:
        return []
    splits = [split for split in (VALIDATION, TEST) if best.values(metric, split)]
    rows: list[Row] = []
    for group in others[:MAX_CHANGES]:
        row: dict[str, object] = {"change": _format_change(best, group), "n": len(group.finished)}
        for split in splits:
            row[Column(split, metric).name] = _format_difference(group, best, metric, split)
        rows.append(row)
    return rows


def format_share(share: Estimate | None) -> str:
    """A share as text: "81 % [74-87]"; "?" where it is confounded."""
    if share is None:
        return "?"
    text = f"{100 * share.value:.0f} %"
    if share.low is None or share.high is None:
        return text
    return f"{text} [{100 * share.low:.0f}-{100 * share.high:.0f}]"


def format_estimate(estimate: Estimate) -> str:
    """A number to three digits as text: "2.31 [2.05 to 2.60]"."""
    numbers = [estimate.value]
    if estimate.low is not None and estimate.high is not None:
        numbers += [estimate.low, estimate.high]
    decimals = _decimals(max(map(abs, numbers)))
    value, *ends = [f"{number:.{decimals}f}" for number in numbers]
    return f"{value} [{' to '.join(ends)}]" if ends else value


def _decimals(size: float) -> int:
    """How many decimals give DIGITS digits of a number of this size."""
    if size == 0:
        return 0
    return max(DIGITS - 1 - math.floor(math.log10(size)), 0)


def _means_heading(split: str, metric: str) -> str:
    return f"mean {split} {quantity(metric).label} at its values"


def _format_means(means: Mapping[str, Estimate]) -> str:
    parts = []
    for level, mean in means.items():
        parts.append(f"{level}: {round_like(mean.value, abs(mean.value))}")
    return "; ".join(parts)


def _changed(best: SeedGroup, other: SeedGroup) -> list[str]:
    """The settings in which two groups differ."""
    return [key for key, value in best.settings.items() if other.settings[key] != value]


def _format_change(best: SeedGroup, other: SeedGroup) -> str:
    """As text: "learning rate 0.004 -> 0.002", with an arrow."""
    parts = []
    for key in _changed(best, other):
        values = [format_cell(group.settings[key]) for group in (best, other)]
        parts.append(f"{setting_word(key)} {f' {ARROW} '.join(values)}")
    return ", ".join(parts)


def _format_difference(group: SeedGroup, best: SeedGroup, metric: str, split: str) -> str:
    """The difference of two means with its standard error; "" where a group lacks the metric."""
    if not group.values(metric, split) or not best.values(metric, split):
        return ""
    difference = group.mean(metric, split) - best.mean(metric, split)
    errors = []
    for of_group in (group, best):
        count = len(of_group.values(metric, split))
        errors.append(of_group.standard_deviation(metric, split) / math.sqrt(count))
    error = math.hypot(*errors)
    size = abs(best.mean(metric, split))
    text = round_like(difference, size)
    return text if math.isnan(error) else f"{text} {PLUS_MINUS} {round_like(error, size)}"
