"""A sweep: its runs, what was swept, and the metrics of each setting over the seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from genmodels.formatting import format_setting
from genmodels.quantities import QUANTITIES, quantity
from genmodels.report.anova import Anova, anova
from genmodels.report.cells import format_settings, sort_key
from genmodels.report.runs import TEST, UNREADABLE, VALIDATION, RunRecord
from genmodels.report.swept_settings import swept_settings


class Column(NamedTuple):
    """A final metric of a split, as tables have it."""

    split: str
    metric: str

    @property
    def name(self) -> str:
        """Its heading: "validation elbo"."""
        return f"{self.split} {self.metric}"


@dataclass(frozen=True)
class SeedGroup:
    """Runs that differ in their seeds alone.

    Arguments:
    settings: those that were swept, without the seed.
    runs: with these settings.
    """

    settings: dict[str, Any]
    runs: list[RunRecord]

    @property
    def finished(self) -> list[RunRecord]:
        """The runs with final metrics."""
        return [run for run in self.runs if run.has_metrics]

    @property
    def label(self) -> str:
        """The settings as text."""
        return format_settings(self.settings)

    def values(self, metric: str, split: str = VALIDATION) -> list[float]:
        """A metric of the runs that have it."""
        values = [run.metrics(split).get(metric) for run in self.runs]
        return [value for value in values if value is not None]

    def mean(self, metric: str, split: str = VALIDATION) -> float:
        """The mean of a metric over the runs; nan where none has it."""
        values = self.values(metric, split)
        return statistics.mean(values) if values else math.nan

    def standard_deviation(self, metric: str, split: str = VALIDATION) -> float:
        """The standard deviation of a metric over the runs; nan for fewer than two."""
        values = self.values(metric, split)
        return statistics.stdev(values) if len(values) > 1 else math.nan


class Sweep:
    """The runs of a sweep, in the order of what was swept.

    All that compares settings (ranking, the best one, the analysis of variance) goes by the
    validation split. The test split chooses nothing, so that the numbers on it stay those of images
    that nothing was fitted or chosen by.

    runs: all of them.
    swept: the settings in which they differ, the seed last.
    factors: the same without the seed.
    groups: runs of equal settings, one group for each setting; without those that are unreadable.
    metrics: the final metrics of the validation split that any run has.
    all_columns: the final metrics of both splits that any run has.
    anovas: metric -> its analysis of variance, for metrics that all finished runs have.
    test_anova: that of the ranking metric on the test split, which chooses nothing; None without.
    """

    def __init__(self, runs: Sequence[RunRecord]) -> None:
        """Arguments:
        runs: at least one.
        """
        self._readable = [run for run in runs if run.status != UNREADABLE]
        self.swept = swept_settings(self._readable)
        self.factors = [key for key in self.swept if key != "seed"]
        self.runs = sorted(runs, key=self._sort_key)
        self.groups = self._groups()
        self.metrics = self._metrics(VALIDATION)
        self.all_columns = self._columns()
        self.anovas = self._anovas()
        self.test_anova = self._anova(self.ranking_metric, TEST)

    @property
    def finished(self) -> list[RunRecord]:
        """The runs with final metrics."""
        return [run for run in self.runs if run.has_metrics]

    @property
    def columns(self) -> list[Column]:
        """The metrics of the validation split, and those of the test split with a direction."""
        return [
            column
            for column in self.all_columns
            if column.split == VALIDATION or quantity(column.metric).better
        ]

    @property
    def is_grid(self) -> bool:
        """Whether all combinations of the swept values were run."""
        points = 1
        for key in self.factors:
            points *= len({format_setting(group.settings[key]) for group in self.groups})
        return len(self.groups) == points

    @property
    def ranking_metric(self) -> str | None:
        """The metric by which settings are ranked: the most important one with a direction."""
        for name, known in QUANTITIES.items():
            if known.better and name in self.metrics:
                return name
        return None

    @property
    def ranking_anova(self) -> Anova | None:
        """The analysis of variance of the ranking metric, if there is one."""
        return self.anovas.get(self.ranking_metric or "")

    @property
    def compared_metrics(self) -> list[str]:
        """The analysed metrics that have a direction, without those that only tables have."""
        names = []
        for name in self.anovas:
            known = quantity(name)
            if known.better and not known.table_only:
                names.append(name)
        return names

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on what the analyses of variance, of any metric, cannot tell."""
        for analysis in self.anovas.values():
            return analysis.warnings
        return ()

    @property
    def display_order(self) -> list[SeedGroup]:
        """The groups of a full grid as they are; of some points of a grid the best ones first."""
        metric = self.ranking_metric
        if metric is None or self.is_grid:
            return self.groups
        unranked = [group for group in self.groups if not group.values(metric)]
        return self.ranked(metric) + unranked

    def ranked(self, metric: str) -> list[SeedGroup]:
        """The groups that have a metric with a direction, the one with the best mean first."""
        better = quantity(metric).better
        groups = [group for group in self.groups if group.values(metric)]
        return sorted(groups, key=lambda group: -better * group.mean(metric))

    def best(self, metric: str) -> int | None:
        """The index of the group with the best mean of a metric, if that is more than chance.

        Its mean must differ from the next by more than the root of the sum of their variances over
        the seeds. None where it does not, without repeats, or for a metric without a direction.
        """
        ranked = self.ranked(metric)
        if len(ranked) < 2 or not quantity(metric).better:
            return None
        first, second = ranked[:2]
        difference = abs(first.mean(metric) - second.mean(metric))
        noise = math.hypot(first.standard_deviation(metric), second.standard_deviation(metric))
        return self.groups.index(first) if difference > noise else None

    def _sort_key(self, run: RunRecord) -> list[tuple]:
        values = [run.settings.get(key) for key in self.swept]
        return list(map(sort_key, values))

    def _groups(self) -> list[SeedGroup]:
        groups: dict[str, SeedGroup] = {}
        for run in sorted(self._readable, key=self._sort_key):
            settings = {key: run.settings.get(key) for key in self.factors}
            group = groups.setdefault(repr(settings), SeedGroup(settings, []))
            group.runs.append(run)
        return list(groups.values())

    def _metrics(self, split: str) -> list[str]:
        """Their names, each once, in order."""
        names: dict[str, None] = {}
        for run in self.runs:
            names |= dict.fromkeys(run.metrics(split))
        return list(names)

    def _columns(self) -> list[Column]:
        """Of both splits, those of a metric side by side."""
        by_split = {split: self._metrics(split) for split in (VALIDATION, TEST)}
        columns = []
        for metric in dict.fromkeys(by_split[VALIDATION] + by_split[TEST]):
            for split, metrics in by_split.items():
                if metric in metrics:
                    columns.append(Column(split, metric))
        return columns

    def _anovas(self) -> dict[str, Anova]:
        analyses = {}
        for metric in self.metrics:
            analysis = self._anova(metric, VALIDATION)
            if analysis is not None:
                analyses[metric] = analysis
        return analyses

    def _anova(self, metric: str | None, split: str) -> Anova | None:
        """The analysis of a metric, if all finished runs have it and it varies."""
        if metric is None:
            return None
        runs = self.finished
        factors = {}
        for key in self.factors:
            values = [run.settings.get(key) for run in runs]
            if len(set(map(repr, values))) > 1:
                factors[key] = values
        known = [run.metrics(split).get(metric) for run in runs]
        response = [float(value) for value in known if value is not None]
        if len(response) < len(runs) or len(set(response)) < 2:
            return None
        return anova(factors, response)
