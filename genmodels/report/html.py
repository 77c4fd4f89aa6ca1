"""report.html, one self-contained file."""

import base64
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from PIL import Image

from genmodels import files, hardware
from genmodels.quantities import HIGHER, quantity
from genmodels.report import tables
from genmodels.report.cells import format_cell
from genmodels.report.findings import findings
from genmodels.report.overview import TABLE_ONLY
from genmodels.report.runs import TEST, VALIDATION, RunRecord
from genmodels.report.sweep import SeedGroup, Sweep
from genmodels.report.swept_settings import unswept_differences

log = logging.getLogger(__name__)

# Snapshots that the page shows, with what they are
SNAPSHOTS = {
    "samples": "the same noise for every run",
    "reconstructions": "test images above their reconstructions, the same for every run",
    "latent_scatter": "posterior means of the test images by class",
}
# Of larger sweeps the page has thumbnails, and links to the pictures
MAX_EMBEDDED_BYTES = 10 * 2**20
THUMBNAIL_SIDE = 240  # pixels
THUMBNAIL_QUALITY = 60
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
        grid=json.dumps(_snapshot_grid(sweep, path.parent)).replace("<", "\\u003c"),
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


def _snapshot_grid(sweep: Sweep, folder: Path) -> dict[str, Any]:
    """The axes with their values, and the snapshots of every run with its place along the axes.

    The axes are the swept settings. Where only some points of their grid were run, they are these
    points and the seed. Pictures are part of the page, those of large sweeps as thumbnails.
    """
    pictures = {run.folder: _pictures(run) for run in sweep.runs}
    size = sum(path.stat().st_size for of_run in pictures.values() for path in of_run.values())
    embed = _data_uri if size <= MAX_EMBEDDED_BYTES else _thumbnail_uri
    paths = [path for of_run in pictures.values() for path in of_run.values()]
    with ThreadPoolExecutor(hardware.cores()) as pool:  # decoding and scaling run side by side
        uris = dict(zip(paths, pool.map(embed, paths), strict=True))
    runs, places = [], []
    for group in sweep.display_order:
        for run in group.runs:
            own = pictures[run.folder]
            entry = _snapshot_entry(run)
            entry["images"] = {name: uris[path] for name, path in own.items()}
            entry["links"] = {name: _relative(path, folder) for name, path in own.items()}
            places.append(_place(run, group, sweep))
            runs.append(entry)
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
    """A run's status with its verdict, and its metrics as text."""
    metrics = []
    for split in (VALIDATION, TEST):
        numbers = _numbers(run.metrics(split))
        if numbers:
            metrics.append(f"{split}: {numbers}")
    return {
        "status": ", ".join(filter(None, [run.status, run.verdict])),
        "metrics": "; ".join(metrics),
    }


def _numbers(metrics: Mapping[str, float]) -> str:
    """Metrics as text: "elbo -90.5, kl 20.1"."""
    shown = [name for name in metrics if name not in TABLE_ONLY]
    return ", ".join(f"{name} {format_cell(metrics[name])}" for name in shown)


def _pictures(run: RunRecord) -> dict[str, Path]:
    """The newest snapshots of a run, as far as there are any."""
    paths = {name: run.newest_snapshot(name) for name in SNAPSHOTS}
    return {name: path for name, path in paths.items() if path is not None}


def _relative(path: Path, folder: Path) -> str:
    """The address of a file for a page in a folder."""
    return quote(Path(os.path.relpath(path, folder)).as_posix())


def _data_uri(path: Path) -> str:
    text = base64.b64encode(path.read_bytes()).decode()
    return f"data:image/png;base64,{text}"


def _thumbnail_uri(path: Path) -> str:
    """A small picture of a picture; "" of a damaged one."""
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        small.save(buffer, format="jpeg", quality=THUMBNAIL_QUALITY)  # 20 times faster than webp
    except OSError as error:
        log.warning("%s: left out (%s)", path, error)
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
