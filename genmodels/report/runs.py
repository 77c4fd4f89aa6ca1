"""What the run folders of a sweep tell, and what was swept."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmodels import run_files
from genmodels.formatting import format_number, format_setting
from genmodels.run_folder import is_held
from genmodels.run_name import number_settings
from genmodels.settings import read_settings

# What a choice of these groups sets besides
BRINGS = {
    "dataset": ("epochs", "augment"),
    "model": ("epochs", "lr", "batch_size", "augment"),
    "objective": ("kl_schedule", "kl_weight"),
    "adversarial_loss": ("penalty",),
}
SCORES = ("fd", "kid")  # which only the validation part has


@dataclass(frozen=True)
class Job:
    """What a run folder tells."""

    folder: Path
    settings: dict[str, Any]  # flat; only those that change the numbers, and the choices of groups
    summary: dict
    rows: list[dict]

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics of the test part, without errors, counts and details; scores of samples, if there are any,
        of the validation part."""
        found = self.summary.get("metrics", {})
        return headlines(found.get("test", {})) | {
            name: value for name, value in found.get("validation", {}).items() if name in SCORES
        }

    @property
    def status(self) -> str:
        """finished, failed, interrupted, running, or unknown."""
        return self.summary.get("status", "unknown")

    @property
    def verdict(self) -> str | None:
        """Its label; None where it has none, or is not finished."""
        return (self.summary.get("verdict") or {}).get("label")

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a validation metric."""
        points = [
            (row["step"], row["validation"][name])
            for row in self.rows
            if name in row.get("validation", {})
        ]
        return [step for step, _ in points], [value for _, value in points]

    def newest(self, name: str) -> Path | None:
        """The newest picture of this name: the last that was drawn in training, or that of its end."""
        pictures = sorted(self.folder.glob(f"{run_files.FIGURES}/{name}-*.png"))
        final = self.folder / run_files.FIGURES / f"{name}.png"
        return pictures[-1] if pictures else final if final.exists() else None


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone."""

    settings: dict[str, Any]  # those that were swept
    jobs: list[Job]

    @property
    def done(self) -> list[Job]:
        """Those with final metrics."""
        return [job for job in self.jobs if job.metrics]

    def values(self, metric: str) -> list[float]:
        """Of the finished runs that have this metric."""
        return [job.metrics[metric] for job in self.done if job.metrics.get(metric) is not None]

    def mean(self, metric: str) -> float | None:
        """Over the finished runs; None where there are none."""
        values = self.values(metric)
        return statistics.mean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """The standard deviation over the finished runs; None for fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def label(self) -> str:
        """Its settings in words."""
        return label(self.settings)


def read_job(folder: Path) -> Job:
    """Read a run folder, as far as the run has come."""
    config, summary = read_settings(folder), run_files.read_summary(folder)
    if summary.get("status") == "running" and not is_held(folder):
        summary["status"] = "interrupted"  # killed, without a chance to say so
    return Job(
        folder,
        number_settings(config) | config.get("choices", {}),
        summary,
        run_files.read_rows(folder),
    )


def read_jobs(folders: Sequence[Path]) -> list[Job]:
    """Those of these run folders, and of those in these folders. Raises ValueError where there are none."""
    found = [
        path.parent
        for folder in folders
        for path in sorted(
            [*folder.glob(run_files.SUMMARY), *folder.glob(f"*/{run_files.SUMMARY}")]
        )
    ]
    if not found:
        raise ValueError(f"{', '.join(map(str, folders))}: no runs there")
    jobs = [read_job(folder) for folder in dict.fromkeys(found)]
    swept = swept_settings(jobs)
    return sorted(jobs, key=lambda job: [sortable(job.settings.get(key)) for key in swept])


def headlines(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Of metrics those that compare runs: neither errors and counts, nor lists and what is nested."""
    return {
        name: value
        for name, value in metrics.items()
        if not isinstance(value, Mapping | list) and name != "n" and not name.endswith("_error")
    }


def metric_names(jobs: Sequence[Job]) -> list[str]:
    """The final metrics that any of the runs has."""
    return list(dict.fromkeys(name for job in jobs for name in job.metrics))


def swept_settings(jobs: Sequence[Job]) -> list[str]:
    """The settings in which the jobs differ, the seed last; of a group that was swept only its choice.

    Settings that are another one again in every job (trainer.kl_weight) are left out.
    """
    keys = {key for job in jobs for key in job.settings}
    open_ends = ("???", "auto")  # in what was refused before its run began
    different = {
        key
        for key in keys
        if len(
            {  # what some lack comes with the choice of a group, which tells
                format_setting(value)
                for job in jobs
                if (value := job.settings.get(key, "auto" if "." in key else None)) not in open_ends
            }
        )
        > 1
    }
    top = {key for key in different if "." not in key}
    columns: dict[tuple[str, ...], str] = {}  # what the jobs have, and the shortest name for it
    for key in sorted(different, key=lambda key: (key.count("."), key)):
        columns.setdefault(tuple(format_setting(job.settings.get(key)) for job in jobs), key)
    keep = [
        key
        for key in columns.values()
        if not any(part in top for part in key.split(".")[:-1])
        and not any(
            group in top and set(names) & set(key.split(".")) and _follows(key, group, jobs)
            for group, names in BRINGS.items()
        )
    ]
    return sorted(keep, key=lambda key: (key == "seed", key))


def grouped(jobs: Sequence[Job], swept: Sequence[str]) -> list[Group]:
    """The jobs by what was swept but their seeds, in their order."""
    keys = [key for key in swept if key != "seed"]
    groups: dict[tuple[str, ...], Group] = {}
    for job in jobs:
        settings = {key: job.settings.get(key) for key in keys}
        groups.setdefault(
            tuple(map(format_setting, settings.values())), Group(settings, [])
        ).jobs.append(job)
    return list(groups.values())


def is_grid(groups: Sequence[Group]) -> bool:
    """Whether all combinations of the values that were swept were tried."""
    return len(groups) == math.prod(
        len({format_setting(group.settings[key]) for group in groups}) for key in groups[0].settings
    )


def differences(jobs: Sequence[Job], swept: Sequence[str]) -> Iterator[str]:
    """Why the runs cannot be compared as if only the swept settings were different, in words."""
    tops = {key.partition(".")[0] for key in swept} | set(swept)
    asked = {
        "parameters": {"model", "likelihood", "dataset"},
        "data": {"dataset"},
        "code version": set(),
        "steps": {"epochs", "max_steps", "batch_size", "dataset", "model"},
    }
    read = {
        "parameters": lambda job: job.summary.get("parameters"),
        "data": lambda job: job.summary.get("data"),
        "code version": lambda job: job.summary.get("provenance", {}).get("git_commit"),
        "steps": lambda job: job.summary.get("step") if job.status == "finished" else None,
    }
    for what, cause in asked.items():
        values = dict.fromkeys(value for job in jobs if (value := read[what](job)) is not None)
        if len(values) > 1 and not cause & tops:
            yield f"The runs differ in {what} ({', '.join(map(str, values))}), which was not swept."


def label(settings: Mapping[str, Any]) -> str:
    """Settings in words."""
    return ", ".join(f"{key} {cell(value)}" for key, value in settings.items())


def cell(value: object) -> str:
    """A value as tables have it."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else format_number(value)
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _follows(key: str, group: str, jobs: Sequence[Job]) -> bool:
    """Whether a setting is the same in all jobs with the same choice of a group."""
    pairs = {
        (format_setting(job.settings.get(group)), format_setting(job.settings.get(key)))
        for job in jobs
    }
    return len(pairs) == len({choice for choice, _ in pairs})


def sortable(value: object) -> tuple:
    """A key by which values of any kind can be sorted: numbers first."""
    number = isinstance(value, int | float)
    return (0, value, "") if number else (1, 0, format_setting(value))
