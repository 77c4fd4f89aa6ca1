"""report.html, one self-contained file."""

import base64
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genmodels import files
from genmodels.report import tables
from genmodels.report.anova import Influence
from genmodels.report.overview import UNDRAWN
from genmodels.report.runs import Job, cell, differences, grouped, is_grid, metric_names

KINDS = {
    "samples": "the same noise for every run",
    "reconstructions": "test images above their reconstructions, the same for every run",
    "latent_scatter": "posterior means of the test images by class",
}
TEMPLATE = Path(__file__).with_name("report.html.j2")


def write(
    path: Path,
    jobs: Sequence[Job],
    swept: Sequence[str],
    found: Mapping[str, Influence],
    picture: Path,
) -> None:
    """report.html: tables, picture, influence, and the wall of pictures."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = cell
    groups = grouped(jobs, swept)
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=path.resolve().parent.name,
        facts=_facts(jobs, swept),
        findings=tables.findings(groups, found),
        metrics=metric_names(jobs),
        differences=list(differences(jobs, swept)),
        table=tables.job_table(jobs, swept),
        groups=tables.group_table(groups),
        best={name: tables.best(groups, name) for name in metric_names(jobs)},
        influence=found,
        influence_rows=tables.influence_table(found) if found else [],
        warnings=next(iter(found.values())).warnings if found else (),
        means=tables.means_of(groups, found),
        overview=_data_uri(picture),
        kinds=json.dumps(KINDS),
        wall=json.dumps(_wall(jobs, swept)).replace("<", "\\u003c"),
    )
    files.write_text(path, html)


def _facts(jobs: Sequence[Job], swept: Sequence[str]) -> str:
    """How many runs there are, and of what."""
    counts = Counter(job.status for job in jobs)
    alike = [
        f"{key} {value}"
        for key in ("dataset", "model")
        if key not in swept
        for value in {job.settings.get(key) for job in jobs if job.settings.get(key)}
    ]
    return "; ".join([", ".join(f"{count} {status}" for status, count in counts.items()), *alike])


def _wall(jobs: Sequence[Job], swept: Sequence[str]) -> dict[str, Any]:
    """The axes with their values, and the pictures of every run with its place along them. The axes are what was swept,
    or, where only some points of that grid were tried, these points and the seed."""
    groups = grouped(jobs, swept)
    grid, runs, places = is_grid(groups), [], []
    for group in tables.in_order(groups):
        for job in group.jobs:
            place = {key: cell(job.settings.get(key)) for key in swept if grid or key == "seed"}
            places.append(place if grid else {"setting": group.label} | place)
            runs.append(
                {
                    "pictures": {
                        kind: _data_uri(path) for kind in KINDS if (path := job.newest(kind))
                    },
                    "said": ", ".join(filter(None, [job.status, job.verdict])),
                    "numbers": {
                        name: cell(value)
                        for name, value in job.metrics.items()
                        if name not in UNDRAWN
                    },
                }
            )
    axes = {name: list(dict.fromkeys(place[name] for place in places)) for name in places[0]}
    return {
        "axes": [{"name": name, "values": values} for name, values in axes.items()],
        "runs": [
            run | {"place": [values.index(place[name]) for name, values in axes.items()]}
            for run, place in zip(runs, places, strict=True)
        ],
    }


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
