"""What run folders tell."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from genmodels import files, run_files
from genmodels.files import DamagedFileError
from genmodels.run_folder import is_held
from genmodels.run_name import number_settings
from genmodels.settings import read_settings

log = logging.getLogger(__name__)

LARGEST = sys.float_info.max
UNREADABLE = "unreadable"  # the status of a run whose files are damaged
VALIDATION = "validation"  # the split by which settings are compared and chosen
TEST = "test"  # whose numbers are read beside those of validation, and choose nothing


class SummaryVerdict(BaseModel):
    """The verdict in a summary."""

    label: str
    sentences: list[str] = []


class Summary(BaseModel):
    """What a report reads of summary.json, which may have been damaged."""

    status: str = ""
    error: str = ""
    metrics: dict[str, dict[str, Any]] = {}
    verdict: SummaryVerdict | None = None
    provenance: dict[str, str] = {}
    parameters: int = 0
    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class RunRecord:
    """What a run folder tells.

    Arguments:
    folder: of the run.
    settings: flat; those that change the numbers, and the choices of groups.
    summary: summary.json.
    rows: of metrics.jsonl.
    """

    folder: Path
    settings: dict[str, Any]
    summary: dict[str, Any]
    rows: list[dict[str, Any]]

    def metrics(self, split: str = VALIDATION) -> dict[str, float]:
        """The final metrics of a split, without errors, counts and details.

        Scores of samples, such as fd, are there for the validation split only. Empty where the run
        has not finished.
        """
        return self._metrics_of_splits.get(split, {})

    @cached_property
    def _metrics_of_splits(self) -> dict[str, dict[str, float]]:
        by_split = self.summary.get("metrics", {})
        return {split: scalar_metrics(metrics) for split, metrics in by_split.items()}

    @property
    def has_metrics(self) -> bool:
        """Whether the run has come to final metrics."""
        return bool(self.metrics(VALIDATION) or self.metrics(TEST))

    @property
    def status(self) -> str:
        """finished, failed, interrupted, running, unreadable, or unknown."""
        return self.summary.get("status", "unknown")

    @property
    def verdict(self) -> str | None:
        """The label of the verdict; None without one."""
        verdict = self.summary.get("verdict") or {}
        return verdict.get("label")

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a metric of the validation split."""
        steps, values = [], []
        for row in self.rows:
            metrics = scalar_metrics(row.get("validation", {}))
            if name in metrics:
                steps.append(row["step"])
                values.append(metrics[name])
        return steps, values

    def newest_snapshot(self, name: str) -> Path | None:
        """The newest image file of this name: the last of training, or that of its end."""
        snapshots = sorted((self.folder / run_files.HISTORY).glob(f"{name}-*.png"))
        if snapshots:
            return snapshots[-1]
        final = self.folder / run_files.FIGURES / f"{name}.png"
        return final if final.exists() else None


def read_run(folder: Path) -> RunRecord:
    """Read a run folder, as far as the run has come. A killed run counts as interrupted.

    One that cannot be read is passed over with a warning: its status is "unreadable".
    """
    try:
        config = read_settings(folder)
        with files.reading(folder / run_files.CONFIG, "no settings of a run"):
            choices = TypeAdapter(dict[str, str]).validate_python(config.get("choices", {}))
            settings = number_settings(config) | choices
        summary = run_files.read_summary(folder)
        with files.reading(folder / run_files.SUMMARY, "no summary of a run"):
            Summary.model_validate(summary, strict=True)
    except DamagedFileError as error:
        log.warning("%s", error)
        return RunRecord(folder, {}, {"status": UNREADABLE, "error": str(error)}, [])
    if summary.get("status") == "running" and not is_held(folder):
        summary["status"] = "interrupted"
    return RunRecord(folder, settings, summary, run_files.read_rows(folder))


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Read these run folders and those in these folders.

    Raises ValueError where there are none that can be read.
    """
    paths: list[Path] = []
    for folder in folders:
        summaries = [*folder.glob(run_files.SUMMARY), *folder.glob(f"*/{run_files.SUMMARY}")]
        paths += [path.parent for path in sorted(summaries)]
    if not paths:
        raise ValueError(f"{', '.join(map(str, folders))}: no runs there")
    runs = [read_run(folder) for folder in dict.fromkeys(paths)]
    if all(run.status == UNREADABLE for run in runs):
        raise ValueError(f"{', '.join(map(str, folders))}: no run there can be read")
    return runs


def scalar_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that compare runs: without errors, counts, flags, lists and nested mappings.

    What is not finite, or too large for a float, is no metric of ours.
    """
    return {
        name: value
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
        if name != "n" and not name.endswith("_error") and abs(value) <= LARGEST
    }
