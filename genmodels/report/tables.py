"""The tables of a sweep, as rows, as text and as LaTeX."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from genmodels.report.anova import Share
from genmodels.report.cells import format_cell
from genmodels.report.runs import RunRecord
from genmodels.report.sweep import SeedGroup, Sweep

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
LATEX_ESCAPES = {character: f"\\{character}" for character in "&%$#_{}"}
LATEX = str.maketrans(LATEX_ESCAPES | {PLUS_MINUS: r"$\pm$"})

Row = Mapping[str, Any]  # column -> value


def run_table(sweep: Sweep) -> list[Row]:
    """One row for each run: what was swept, status, metrics, verdict, seconds and error."""
    rows: list[Row] = []
    for run in sweep.runs:
        row: dict[str, Any] = {"run": run.folder.name}
        row |= {key: run.settings.get(key) for key in sweep.swept}
        row |= {"status": run.status}
        row |= {name: run.metrics.get(name) for name in sweep.metrics}
        row |= {"verdict": run.verdict}
        row |= {key: run.summary.get(key) for key in ("seconds", "error")}
        rows.append(row)
    return rows


def group_table(sweep: Sweep) -> list[Row]:
    """One row for each setting: how many runs have finished, means and standard deviations of the
    metrics, and the verdicts, if there are any."""
    rows: list[Row] = []
    for group in sweep.groups:
        row = group.settings | {"n": len(group.finished)}
        row |= {name: format_mean(group, name) for name in sweep.metrics}
        if any(run.verdict for run in sweep.finished):
            row["verdict"] = format_verdicts(group.finished)
        rows.append(row)
    return rows


def anova_table(sweep: Sweep) -> list[Row]:
    """One row for each source of variance, one column for each metric; [] without an analysis."""
    sources = {metric: analysis.sources for metric, analysis in sweep.anovas.items()}
    rows: list[Row] = []
    for source in next(iter(sources.values()), {}):
        row = {"share of the variance": source}
        row |= {metric: format_share(shares[source]) for metric, shares in sources.items()}
        rows.append(row)
    return rows


def means_table(sweep: Sweep) -> list[Row]:
    """One row for each swept setting, the strongest first: the mean of the ranking metric at its
    values, with the other settings at their means.

    [] for a single setting, whose means the table of groups has.
    """
    analysis = sweep.ranking_anova
    if analysis is None or len(analysis.main_effects) < 2:
        return []
    rows: list[Row] = []
    for factor in analysis.ranked_factors:
        if factor in analysis.means:
            means = analysis.means[factor].items()
            text = "; ".join(f"{level}: {_round(mean, abs(mean))}" for level, mean in means)
            rows.append({"setting": factor, f"mean {sweep.ranking_metric} at its values": text})
    return rows


def format_mean(group: SeedGroup, metric: str) -> str:
    """Mean and standard deviation as text: "-90.50 ± 0.71"; "" where no run has the metric."""
    values = group.values(metric)
    if not values:
        return ""
    largest = max(map(abs, values))
    text = _round(group.mean(metric), largest)
    deviation = group.standard_deviation(metric)
    return text if math.isnan(deviation) else f"{text} {PLUS_MINUS} {_round(deviation, largest)}"


def format_share(share: Share | None) -> str:
    """A share as text: "81 % [74-87]"; "?" where it is confounded."""
    if share is None:
        return "?"
    text = f"{100 * share.value:.0f} %"
    if share.low is None or share.high is None:
        return text
    return f"{text} [{100 * share.low:.0f}-{100 * share.high:.0f}]"


def format_verdicts(runs: Sequence[RunRecord]) -> str:
    """The verdicts of runs as text: "healthy", or "2 healthy, 1 COLLAPSED"; "" without verdicts."""
    labels = [run.verdict for run in runs if run.verdict]
    counts = Counter(labels)
    if len(counts) == 1:
        return labels[0]
    return ", ".join(f"{count} {label}" for label, count in counts.most_common())


def text_table(rows: Sequence[Row]) -> str:
    """Rows as text in columns; columns without a value are left out."""
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if any(value is not None for value in values):
            cells = [name, *map(format_cell, values)]
            width = max(map(len, cells))
            columns.append([cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def latex_table(sweep: Sweep) -> str:
    """The table of groups in LaTeX (booktabs), the best of a column in bold (`Sweep.best`)."""
    rows = group_table(sweep)
    names = list(rows[0])
    winners = {name: sweep.best(name) for name in names}
    lines = [" & ".join(name.replace("_", " ") for name in names)]
    for index, row in enumerate(rows):
        cells = []
        for name in names:
            cell = format_cell(row[name]).translate(LATEX)
            cells.append(rf"\textbf{{{cell}}}" if winners[name] == index else cell)
        lines.append(" & ".join(cells))
    head, *body = [rf"{line} \\" for line in lines]
    begin = rf"\begin{{tabular}}{{{'l' * len(names)}}}"
    return "\n".join(
        [begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""]
    )


def _round(value: float, largest: float) -> str:
    """Two decimals, or four where the largest of the numbers is below 1."""
    return f"{value:.2f}" if largest >= 1 else f"{value:.4f}"
