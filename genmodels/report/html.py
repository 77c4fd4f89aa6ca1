"""report.html, one self-contained file."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from genmodels import run_files
from genmodels.html_page import write_page
from genmodels.quantities import HIGHER, quantity
from genmodels.report import influence, tables
from genmodels.report.cells import format_cell, setting_word
from genmodels.report.charts import charts
from genmodels.report.findings import findings
from genmodels.report.pictures import NOTES, Embedding, pictures_of, relative
from genmodels.report.runs import TEST, VALIDATION, RunRecord
from genmodels.report.sweep import SeedGroup, Sweep
from genmodels.report.swept_settings import unswept_differences
from genmodels.report.words import heading, title

TEMPLATE = Path(__file__).parent / "report.html.j2"
SOURCES = ("report.css", "charts.js", "report.js")
EXPLORER = f"{run_files.FIGURES}/explorer.html"


def write(sweep: Sweep, path: Path, refresh_seconds: int | None = None) -> None:
    """Write report.html: tables, charts, and the pictures of all runs.

    Arguments:
    sweep: to report on.
    path: of report.html.
    refresh_seconds: after which the page loads itself again; None: never.
    """
    of_sweep = charts(sweep)
    data = _picture_grid(sweep, path.parent)
    data |= {"notes": NOTES, "charts": of_sweep, "refresh_seconds": refresh_seconds}
    write_page(
        path,
        TEMPLATE,
        SOURCES,
        data,
        title=title(sweep),
        sweep=sweep,
        tables=tables,
        influence=influence,
        charts=of_sweep,
        format_cell=format_cell,
        heading=heading,
        best_rows=tables.best_rows(sweep),
        facts=_facts(sweep),
        written=time.strftime("%H:%M:%S") if refresh_seconds else None,
        refresh_seconds=refresh_seconds,
        findings=findings(sweep),
        notes=[_metric_note(name) for name in sweep.metrics],
        differences=unswept_differences(sweep.runs, sweep.swept),
        run_rows=lambda lines: _run_rows(sweep, lines, path.parent),
    )


def _facts(sweep: Sweep) -> str:
    """How many runs there are with each status; data set and model, if all have the same."""
    counts = Counter(run.status for run in sweep.runs)
    statuses = [f"{count} {status}" for status, count in counts.items()]
    facts = [", ".join(statuses)]
    for key in ("dataset", "model"):
        choices = {run.settings.get(key) for run in sweep.runs} - {None}
        if key not in sweep.swept:
            facts += [f"{key} {choice}" for choice in choices]
    return "; ".join(facts)


def _metric_note(name: str) -> str:
    """What a metric is: "ELBO: nats per image, higher is better"."""
    known = quantity(name)
    facts = [known.unit] if known.unit and known.unit != known.label else []
    if known.better:
        facts.append("higher is better" if known.better == HIGHER else "lower is better")
    return f"{known.label}: {', '.join(facts)}" if facts else known.label


def _run_rows(
    sweep: Sweep, lines: Sequence[Mapping[str, Any]], folder: Path
) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Each row of the table of runs, with links to the run and the reasons of its verdict."""
    for line, run in zip(lines, sweep.runs, strict=True):
        verdict = run.summary.get("verdict") or {}
        links = {
            "folder": relative(run.folder, folder) or ".",
            "explorer": _explorer(run, folder),
            "sentences": verdict.get("sentences", []),
        }
        yield line, links


def _picture_grid(sweep: Sweep, folder: Path) -> dict[str, Any]:
    """The axes with their values, and the pictures of every run with its place along the axes.

    The axes are the swept settings. Where only some points of their grid were run, they are these
    points and the seed.
    """
    pictures = {run.folder: pictures_of(run) for run in sweep.runs}
    embedding = Embedding(list(pictures.values()), folder)
    runs, places = [], []
    for group in sweep.display_order:
        for run in group.runs:
            entry = _run_entry(run, folder)
            entry["pictures"] = {
                kind: list(map(embedding.entry, of_kind))
                for kind, of_kind in pictures[run.folder].items()
            }
            places.append(_place(run, group, sweep))
            runs.append(entry)
    values: dict[str, list[str]] = {}
    for name in places[0]:
        values[name] = list(dict.fromkeys(place[name] for place in places))
    for entry, place in zip(runs, places, strict=True):
        entry["place"] = [values[name].index(value) for name, value in place.items()]
    axes = []
    for name, of_axis in values.items():
        axes.append({"name": name, "word": setting_word(name), "values": of_axis})
    return {"axes": axes, "runs": runs}


def _place(run: RunRecord, group: SeedGroup, sweep: Sweep) -> dict[str, str]:
    """The value of a run on each axis of the grid."""
    if sweep.is_grid:
        return {key: format_cell(run.settings.get(key)) for key in sweep.swept}
    place = {"setting": group.label}
    if "seed" in sweep.swept:
        place["seed"] = format_cell(run.settings.get("seed"))
    return place


def _run_entry(run: RunRecord, folder: Path) -> dict[str, Any]:
    """A run's name, its status with its verdict, its metrics as text, and its explorer."""
    metrics = []
    for split in (VALIDATION, TEST):
        numbers = _numbers(run.metrics(split))
        if numbers:
            metrics.append(f"{split}: {numbers}")
    return {
        "name": run.folder.name,
        "status": ", ".join(filter(None, [run.status, run.verdict])),
        "metrics": "; ".join(metrics),
        "explorer": _explorer(run, folder),
    }


def _explorer(run: RunRecord, folder: Path) -> str | None:
    """The address of the run's explorer, if it has one."""
    path = run.folder / EXPLORER
    return relative(path, folder) if path.is_file() else None


def _numbers(metrics: Mapping[str, float]) -> str:
    """Metrics as text: "ELBO -90.5, KL 20.1"."""
    parts = []
    for name, value in metrics.items():
        known = quantity(name)
        if not known.table_only:
            parts.append(f"{known.label} {format_cell(value)}")
    return ", ".join(parts)
