"""report.html, one self-contained file."""

import base64
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from genmodels import files
from genmodels.quantities import HIGHER, quantity
from genmodels.report import tables
from genmodels.report.cells import format_cell
from genmodels.report.findings import findings
from genmodels.report.overview import TABLE_ONLY
from genmodels.report.runs import TEST, VALIDATION, RunRecord
from genmodels.report.sweep import SeedGroup, Sweep
from genmodels.report.swept_settings import unswept_differences

# Snapshots that the page shows, with what they are
SNAPSHOTS = {
    "samples": "the same noise for every run",
    "reconstructions": "test images above their reconstructions, the same for every run",
    "latent_scatter": "posterior means of the test images by class",
}
TEMPLATE = Path(__file__).with_name("report.html.j2")


def write(sweep: Sweep, path: Path, overview: Path) -> None:
    """Write report.html: tables, the overview, and the grid of all runs' snapshots.

    Arguments:
    sweep: to report on.
    path: of report.html.
    overview: report.png, which becomes part of the page.
    """
    template = jinja2.Template(
        TEMPLATE.read_text(encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = template.render(
        title=path.resolve().parent.name,
        sweep=sweep,
        tables=tables,
        format_cell=format_cell,
        best_rows=tables.best_rows(sweep),
        facts=_facts(sweep),
        findings=findings(sweep),
        notes=[_metric_note(name) for name in sweep.metrics],
        differences=unswept_differences(sweep.runs, sweep.swept),
        overview=_data_uri(overview),
        snapshots=json.dumps(SNAPSHOTS),
        grid=json.dumps(_snapshot_grid(sweep)).replace("<", "\\u003c"),
    )
    files.write_text(path, page)


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
    """What a metric is: "elbo: ELBO, nats per image, higher is better"."""
    known = quantity(name)
    facts = list(dict.fromkeys([known.label, known.unit]))
    if known.better:
        facts.append("higher is better" if known.better == HIGHER else "lower is better")
    facts = [fact for fact in facts if fact not in ("", name.replace("_", " "))]
    return f"{name}: {', '.join(facts)}" if facts else name


def _snapshot_grid(sweep: Sweep) -> dict[str, Any]:
    """The axes with their values, and the snapshots of every run with its place along the axes.

    The axes are the swept settings. Where only some points of their grid were run, they are these
    points and the seed.
    """
    runs, places = [], []
    for group in sweep.display_order:
        for run in group.runs:
            places.append(_place(run, group, sweep))
            runs.append(_snapshot_entry(run))
    values: dict[str, list[str]] = {}
    for name in places[0]:
        values[name] = list(dict.fromkeys(place[name] for place in places))
    for entry, place in zip(runs, places, strict=True):
        entry["place"] = [values[name].index(value) for name, value in place.items()]
    axes = [{"name": name, "values": of_axis} for name, of_axis in values.items()]
    return {"axes": axes, "runs": runs}


def _place(run: RunRecord, group: SeedGroup, sweep: Sweep) -> dict[str, str]:
    """The value of a run on each axis of the grid."""
    if sweep.is_grid:
        return {key: format_cell(run.settings.get(key)) for key in sweep.swept}
    place = {"setting": group.label}
    if "seed" in sweep.swept:
        place["seed"] = format_cell(run.settings.get("seed"))
    return place


def _snapshot_entry(run: RunRecord) -> dict[str, Any]:
    """A run's newest snapshots, its status with its verdict, and its metrics as text."""
    paths = {name: run.newest_snapshot(name) for name in SNAPSHOTS}
    metrics = []
    for split in (VALIDATION, TEST):
        numbers = _numbers(run.metrics(split))
        if numbers:
            metrics.append(f"{split}: {numbers}")
    return {
        "images": {name: _data_uri(path) for name, path in paths.items() if path is not None},
        "status": ", ".join(filter(None, [run.status, run.verdict])),
        "metrics": "; ".join(metrics),
    }


def _numbers(metrics: Mapping[str, float]) -> str:
    """Metrics as text: "elbo -90.5, kl 20.1"."""
    shown = [name for name in metrics if name not in TABLE_ONLY]
    return ", ".join(f"{name} {format_cell(metrics[name])}" for name in shown)


def _data_uri(path: Path) -> str:
    text = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{text}"
