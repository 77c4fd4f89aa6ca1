"""What a sweep shows, in sentences."""

import math

from genmodels.quantities import quantity
from genmodels.report.cells import setting_word
from genmodels.report.influence import format_share
from genmodels.report.sweep import Sweep
from genmodels.report.tables import format_splits, format_verdicts


def findings(sweep: Sweep) -> list[str]:
    """The best setting, what mattered for it, and the verdicts: by the validation split."""
    sentences = []
    metric = sweep.ranking_metric
    if metric is not None and len(sweep.groups) > 1:
        sentences += _best_setting(sweep, metric)
    analysis = sweep.ranking_anova
    if metric is not None and analysis is not None:
        names = [*analysis.ranked_factors, "seed"]
        parts = []
        for name in names:
            if name in analysis.sources:
                parts.append(f"{setting_word(name)} {format_share(analysis.sources[name])}")
        label = quantity(metric).label
        sentences.append(f"Shares of the variance of validation {label}: {', '.join(parts)}.")
    verdicts = format_verdicts(sweep.finished)
    if verdicts:
        sentences.append(f"Verdicts: {verdicts}.")
    return sentences


def _best_setting(sweep: Sweep, metric: str) -> list[str]:
    """Which setting has the best mean, and why that may be chance."""
    ranked = sweep.ranked(metric)
    numbers = format_splits(ranked[0], metric)
    sentences = [f"Best validation {quantity(metric).label}: {ranked[0].label} ({numbers})."]
    if len(ranked) > 1 and sweep.best(metric) is None:
        second = ranked[1]
        if math.isnan(ranked[0].standard_deviation(metric) + second.standard_deviation(metric)):
            sentences.append(
                "It is unknown whether this is more than chance: the two best settings were not "
                "both repeated (seed=0,1,2)."
            )
        else:
            sentences.append(
                f"The difference from {second.label} ({format_splits(second, metric)}) is within "
                "the standard deviation of the seeds."
            )
    return sentences
