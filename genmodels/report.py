"""The report of a sweep, from the run folders alone: `python -m genmodels.report FOLDER...`

Writes report.html (one self-contained file), report.png (curves, and samples of the first settings) and report.csv
beside the runs, and prints a table.
"""

import base64
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmodels import files
from genmodels.config import numbers, read
from genmodels.legal import show
from genmodels.tracking import brief, is_held

PICTURES = ("samples", "reconstructions")
# What a choice of these groups sets besides
BRINGS = {"dataset": ("epochs", "augment"), "model": ("epochs", "lr", "batch_size", "augment"),
          "objective": ("kl_schedule", "kl_weight"), "adversarial_loss": ("penalty",)}
MOST_SHEETS = 4     # settings whose samples report.png shows; report.html shows all
UNDRAWN = ("bits_per_dimension", "likelihood_stddev")     # the elbo in another unit, a detail: in the tables alone
TEMPLATE = Path(__file__).with_name("report.html.j2")


@dataclass(frozen=True)
class Job:
    """What a run folder tells."""

    folder: Path
    settings: dict[str, Any]     # flat; only those that change the numbers, and the choices of groups
    summary: dict
    rows: list[dict]

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics of the test part, without errors, counts and details."""
        return headlines(self.summary.get("metrics", {}).get("test", {}))

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a validation metric."""
        points = [(row["step"], row["validation"][name]) for row in self.rows if name in row.get("validation", {})]
        return [step for step, _ in points], [value for _, value in points]

    def newest(self, name: str) -> Path | None:
        """The newest picture of this name."""
        return max(self.folder.glob(f"{files.FIGURES}/{name}-*.png"), default=None)


def read_job(folder: Path) -> Job:
    """Read a run folder, as far as the run has come."""
    from genmodels.files import read_json, read_rows
    config, summary = read(folder), read_json(folder / files.SUMMARY)
    if summary.get("status") == "running" and not is_held(folder):
        summary["status"] = "interrupted"   # killed, without a chance to say so
    settings = numbers(config) | config.get("choices", {})
    return Job(folder, settings, summary, read_rows(folder))


def headlines(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Of metrics those that compare runs: neither errors and counts, nor lists and what is nested."""
    return {name: value for name, value in metrics.items() if not isinstance(value, Mapping | list)
            and name != "n" and not name.endswith("_error")}


def write(folders: Sequence[Path]) -> list[Job]:
    """Report on these run folders, and on those in these folders; the report lies in the first of them."""
    found = [path.parent for folder in folders for path in sorted([*folder.glob(files.SUMMARY),
                                                                   *folder.glob(f"*/{files.SUMMARY}")])]
    if not found:
        raise ValueError(f"{', '.join(map(str, folders))}: no runs there")
    jobs = [read_job(folder) for folder in found]
    swept = swept_settings(jobs)
    jobs.sort(key=lambda job: [_sortable(job.settings.get(key)) for key in swept])
    target = folders[0]
    table, groups = job_table(jobs, swept), group_table(jobs, swept)
    files.write_csv(target / "report.csv", table)
    curves = _draw(jobs, swept, target / "report.png")
    _write_html(target, jobs, swept, table, groups, curves)
    print(f"\n{text_table(table)}\n\nreport: {target / 'report.html'}")
    return jobs


def swept_settings(jobs: Sequence[Job]) -> list[str]:
    """The settings in which the jobs differ, the seed last; of a group that was swept only its choice.

    Settings that follow another one (trainer.kl_weight, which is kl_weight again) are left out.
    """
    keys = {key for job in jobs for key in job.settings}
    open_ends = ("???", "auto")     # in what was refused before its run began
    different = {key for key in keys if len({   # what some lack comes with the choice of a group, which tells
        show(value) for job in jobs
        if (value := job.settings.get(key, "auto" if "." in key else None)) not in open_ends}) > 1}
    top = {key for key in different if "." not in key}
    keep = [key for key in different if not any(part in top for part in key.split(".")[:-1])
            and (key in top or not {key.rpartition(".")[2], key.removeprefix("trainer.")} & (different - {key}))
            and not any(group in top and set(names) & set(key.split(".")) and _follows(key, group, jobs)
                        for group, names in BRINGS.items())]
    return sorted(keep, key=lambda key: (key == "seed", key))


def _follows(key: str, group: str, jobs: Sequence[Job]) -> bool:
    """Whether a setting is the same in all jobs with the same choice of a group."""
    pairs = {(show(job.settings.get(group)), show(job.settings.get(key))) for job in jobs}
    return len(pairs) == len({choice for choice, _ in pairs})


def job_table(jobs: Sequence[Job], swept: Sequence[str]) -> list[dict[str, Any]]:
    """One row a job: what was swept, its status, its test metrics, its verdict, its seconds."""
    metrics = list(dict.fromkeys(name for job in jobs for name in job.metrics))
    return [{"run": job.folder.name} | {key: job.settings.get(key) for key in swept}
            | {"status": job.summary.get("status", "unknown")} | {name: job.metrics.get(name) for name in metrics}
            | {"verdict": (job.summary.get("verdict") or {}).get("label"), "seconds": job.summary.get("seconds"),
               "error": job.summary.get("error")} for job in jobs]


def group_table(jobs: Sequence[Job], swept: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each setting with its seeds together: n finished, mean and standard deviation of each metric."""
    keys = [key for key in swept if key != "seed"]
    rows = []
    for members in _grouped(jobs, keys).values():
        done = [job for job in members if job.metrics]
        row: dict[str, Any] = {key: members[0].settings.get(key) for key in keys} | {"n": len(done)}
        for name in done[0].metrics if done else ():
            values = [job.metrics[name] for job in done]
            mean, digits = statistics.mean(values), 2 if max(map(abs, values)) >= 1 else 4
            spread = f" \N{PLUS-MINUS SIGN} {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
            row[name] = f"{mean:.{digits}f}{spread}"
        rows.append(row)
    return rows


def text_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as text in columns; columns without a value are left out."""
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    cells = [names] + [[_cell(row[name]) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                     for line in cells)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else brief(value)
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _sortable(value: object) -> tuple:
    number = isinstance(value, int | float)
    return (0, value, "") if number else (1, 0, show(value))


def _label(job: Job, keys: Sequence[str]) -> str:
    return ", ".join(f"{key} {_cell(job.settings.get(key))}" for key in keys)


def _grouped(jobs: Sequence[Job], keys: Sequence[str]) -> dict[str, list[Job]]:
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(_label(job, keys), []).append(job)
    return groups


def _draw(jobs: Sequence[Job], swept: Sequence[str], path: Path) -> str:
    """report.png: the curves of all jobs over the newest samples of the first settings; returns it as a data URI."""
    from matplotlib.image import imread

    from genmodels.figures import canvas, sweeps  # import torch and matplotlib
    names = list(dict.fromkeys(name for job in jobs for row in job.rows for name in headlines(row.get("validation", {}))
                               if name not in UNDRAWN)) or ["elbo"]
    groups = _grouped(jobs, [key for key in swept if key != "seed"])
    curves = {name: {label: [job.curve(name) for job in members] for label, members in groups.items()}
              for name in names}
    sheets = {label: imread(newest) for label, members in list(groups.items())[:MOST_SHEETS]
              if (newest := members[0].newest("samples"))}
    canvas.save(sweeps.curves_over_samples(curves, sheets), path)
    return _data_uri(path)


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _write_html(target: Path, jobs: Sequence[Job], swept: Sequence[str], table: list[dict], groups: list[dict],
                curves: str) -> None:
    import jinja2
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                                     lstrip_blocks=True)
    environment.filters["cell"] = _cell
    pictures = {name: [(_label(job, swept) or job.folder.name, (path := job.newest(name)) and _data_uri(path))
                       for job in jobs] for name in PICTURES}
    pictures = {name: wall for name, wall in pictures.items() if any(source for _, source in wall)}
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=target.resolve().name, metrics={name for job in jobs for name in job.metrics}, table=table, groups=groups,
        curves=curves, pictures=pictures)
    files.write_text(target / "report.html", html)


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit status."""
    try:
        if not arguments:
            raise ValueError("usage: python -m genmodels.report FOLDER...")
        write([Path(argument) for argument in arguments])
    except (ValueError, OSError) as error:
        print(f"genmodels.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
