"""report.html, one self-contained file, and report.png in it."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genmodels import files
from genmodels.report import tables
from genmodels.report.influence import Influence
from genmodels.report.jobs import Group, Job, cell, differences, grouped, headlines, label, metric_names

KINDS = {"samples": "the same noise for every run",
         "reconstructions": "test images above their reconstructions, the same for every run",
         "latent_scatter": "posterior means of the test images by class"}
MOST_SHEETS = 4     # settings whose samples report.png shows; report.html shows all
UNDRAWN = ("bits_per_dimension", "likelihood_stddev")     # the elbo in another unit, a detail: in the tables alone
TEMPLATE = Path(__file__).with_name("report.html.j2")
TRADED = ("rate", "distortion", "active_units")


def draw(jobs: Sequence[Job], swept: Sequence[str], path: Path) -> None:
    """report.png: what the KL weights trade, the curves of all jobs, the newest samples of the first settings."""
    from matplotlib.image import imread

    from genmodels.figures import canvas, sweeps  # import torch and matplotlib
    names = list(dict.fromkeys(name for job in jobs for row in job.rows for name in headlines(row.get("validation", {}))
                               if name not in UNDRAWN)) or ["elbo"]
    groups = grouped(jobs, swept)
    curves = {name: {group.label: [job.curve(name) for job in group.jobs] for group in groups} for name in names}
    sheets = {group.label: imread(newest) for group in groups[:MOST_SHEETS]
              if (newest := group.jobs[0].newest("samples"))}
    canvas.save(sweeps.overview(_trades(groups), curves, sheets), path)


def write(path: Path, jobs: Sequence[Job], swept: Sequence[str], found: Mapping[str, Influence],
          picture: Path) -> None:
    """report.html: tables, picture, influence, and the wall of pictures."""
    import jinja2
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    environment.filters["cell"] = cell
    groups = grouped(jobs, swept)
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=path.resolve().parent.name, metrics=metric_names(jobs), differences=list(differences(jobs, swept)),
        table=tables.job_table(jobs, swept), groups=tables.group_table(groups),
        best={name: tables.best(groups, name) for name in metric_names(jobs)},
        influence=found, influence_rows=tables.influence_table(found) if found else [],
        warnings=next(iter(found.values())).warnings if found else (),
        overview=_data_uri(picture), kinds=json.dumps(KINDS),
        wall=json.dumps(_wall(jobs, swept)).replace("<", "\\u003c"))
    files.write_text(path, html)


def _trades(groups: Sequence[Group]) -> dict[str, list]:
    """Where KL weights were swept, the settings by rising weight, a line for each of the other settings."""
    from genmodels.figures.sweeps import Point
    lines: dict[str, list[Point]] = {}
    for group in groups:
        pairs = [(mean, group.spread(name) or 0.0) for name in TRADED if (mean := group.mean(name)) is not None]
        if group.settings.get("kl_weight") is not None and len(pairs) == len(TRADED):
            rest = label({key: value for key, value in group.settings.items() if key != "kl_weight"})
            lines.setdefault(rest, []).append(Point(float(group.settings["kl_weight"]), *pairs))
    return {line: sorted(points, key=lambda point: point.weight) for line, points in lines.items() if len(points) > 1}


def _wall(jobs: Sequence[Job], swept: Sequence[str]) -> dict[str, Any]:
    """The swept axes with their values, and the pictures of every run with its place along them."""
    values = {key: list(dict.fromkeys(cell(job.settings.get(key)) for job in jobs)) for key in swept}
    runs = []
    for job in jobs:
        pictures = {kind: _data_uri(path) for kind in KINDS if (path := job.newest(kind))}
        verdict = (job.summary.get("verdict") or {}).get("label")
        runs.append({"place": [known.index(cell(job.settings.get(key))) for key, known in values.items()],
                     "pictures": pictures, "said": ", ".join(filter(None, [job.status, verdict])),
                     "numbers": {name: cell(value) for name, value in job.metrics.items() if name not in UNDRAWN}})
    return {"axes": [{"name": key, "values": known} for key, known in values.items()], "runs": runs}


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
