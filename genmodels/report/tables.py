"""The tables of a sweep, as rows, as text and as LaTeX."""

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from genmodels.report.cells import format_cell
from genmodels.report.runs import TEST, VALIDATION, RunRecord
from genmodels.report.sweep import Column, SeedGroup, Sweep

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
LATEX_ESCAPES = {character: f"\\{character}" for character in "&%$#_{}"}
LATEX = str.maketrans(LATEX_ESCAPES | {PLUS_MINUS: r"$\pm$"})

Row = Mapping[str, Any]  # column -> value


def run_table(sweep: Sweep, columns: Sequence[Column]) -> list[Row]:
    """One row for each run: what was swept, status, metrics, verdict, seconds and error."""
    rows: list[Row] = []
    for run in sweep.runs:
        row: dict[str, Any] = {"run": run.folder.name}
        row |= {key: run.settings.get(key) for key in sweep.swept}
        row |= {"status": run.status}
        for column in columns:
            row[column.name] = run.metrics(column.split).get(column.metric)
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
        for column in sweep.columns:
            row[column.name] = format_mean(group, column.metric, column.split)
        if any(run.verdict for run in sweep.finished):
            row["verdict"] = format_verdicts(group.finished)
        rows.append(row)
    return rows


def best_rows(sweep: Sweep) -> dict[str, int | None]:
    """Column of the table of groups -> the row with its best value (`Sweep.best`), if any.

    Columns of the test split have none: it is read, and chooses nothing.
    """
    columns = [column for column in sweep.columns if column.split == VALIDATION]
    return {column.name: sweep.best(column.metric) for column in columns}


def format_splits(group: SeedGroup, metric: str) -> str:
    """A metric on both splits as text: "validation -90.50 ± 0.71, test -90.80 ± 0.70"; only the
    splits that have it."""
    parts = []
    for split in (VALIDATION, TEST):
        mean = format_mean(group, metric, split)
        if mean:
            parts.append(f"{split} {mean}")
    return ", ".join(parts)


def format_mean(group: SeedGroup, metric: str, split: str = VALIDATION) -> str:
    """Mean and standard deviation as text: "-90.50 ± 0.71"; "" where no run has the metric."""
    values = group.values(metric, split)
    if not values:
        return ""
    largest = max(map(abs, values))
    text = round_like(group.mean(metric, split), largest)
    deviation = group.standard_deviation(metric, split)
    return (
        text if math.isnan(deviation) else f"{text} {PLUS_MINUS} {round_like(deviation, largest)}"
    )


def format_verdicts(runs: Sequence[RunRecord]) -> str:
    """The verdicts of runs as text: "healthy", or "2 healthy, 1 COLLAPSED"; "" without verdicts."""
    labels = [run.verdict for run in runs if run.verdict]
    counts = Counter(labels)
    if len(counts) == 1:
        return labels[0]
    return ", ".join(f"{count} {label}" for label, count in counts.most_common())


def text_table(rows: Sequence[Row]) -> str:
    """Rows as text in columns; columns without a value are left out.

    A heading that is wider than the cells of its column takes a line for each word or more.
    """
    headings, columns = [], []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if any(value is not None for value in values):
            cells = list(map(format_cell, values))
            width = max(map(len, [*cells, *name.split()]))
            headings.append(textwrap.wrap(name, width, break_long_words=False))
            columns.append([cell.ljust(width) for cell in cells])
    height = max(map(len, headings))
    for heading, cells in zip(headings, columns, strict=True):
        width = len(cells[0])
        lines = heading + [""] * (height - len(heading))
        cells[:0] = [line.ljust(width) for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def latex_table(sweep: Sweep) -> str:
    """The table of groups in LaTeX (booktabs), the best in bold (`best_rows`)."""
    rows = group_table(sweep)
    names = list(rows[0])
    best = best_rows(sweep)
    lines = [" & ".join(name.replace("_", " ") for name in names)]
    for index, row in enumerate(rows):
        cells = []
        for name in names:
            cell = format_cell(row[name]).translate(LATEX)
            cells.append(rf"\textbf{{{cell}}}" if best.get(name) == index else cell)
        lines.append(" & ".join(cells))
    head, *body = [rf"{line} \\" for line in lines]
    begin = rf"\begin{{tabular}}{{{'l' * len(names)}}}"
    return "\n".join(
        [begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""]
    )


def round_like(value: float, largest: float) -> str:
    """Two decimals, or four where the largest of the numbers is below 1."""
    return f"{value:.2f}" if largest >= 1 else f"{value:.4f}"
