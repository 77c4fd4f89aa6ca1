"""A run's folder while a process works in it: rows, summary, log and snapshots."""

import importlib.metadata
import json
import logging
import platform
import shutil
import subprocess
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from genmodels import files, parallel, run_files
from genmodels.figures.image_sheet import as_rgb
from genmodels.formatting import format_evaluation, format_verdict
from genmodels.metrics.diagnosis import Verdict
from genmodels.wandb_mirror import WandbMirror

log = logging.getLogger(__name__)

# What a run has come to, which is worth nothing without its settings
RESULTS = (run_files.SUMMARY, run_files.CHECKPOINT, run_files.PREVIOUS, run_files.INFERENCE)
PACKAGES = ("genmodels", "torch", "torchvision", "hydra-core", "numpy")  # whose versions are kept


class Run:
    """A run's folder, locked, with its log open and its rows and summary kept.

    A context manager. Entering raises ValueError where another process holds the folder, or waits
    until that process leaves it. Leaving by an error writes the traceback to train.log and the
    message to summary.json. Of several processes only the first one writes; all have its summary.
    """

    def __init__(self, folder: Path, wait: bool = False) -> None:
        """Arguments:
        folder: of the run; made where it is missing.
        wait: for another process that holds the folder, instead of raising.
        """
        self.folder = folder
        self.summary: dict[str, Any] = {}
        self.mirror: WandbMirror | None = None
        self._wait = wait
        self._begun = False
        self._is_new = False
        self._lock = FileLock(folder / ".lock")
        self._handler = logging.FileHandler(folder / run_files.LOG, encoding="utf-8", delay=True)
        self._handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
        )

    def __enter__(self) -> Self:
        self.summary = parallel.by_first(self._open)
        return self

    def _open(self) -> dict[str, Any]:
        """Lock the folder, open the log; returns the summary."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._is_new = not any(self.folder.iterdir())
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            message = f"{self.folder}: another process is training in this folder"
            if not self._wait:
                raise ValueError(message) from None
            log.warning("%s; waiting for it", message)
            self._lock.acquire()
        logging.getLogger().addHandler(self._handler)
        return run_files.read_summary(self.folder)

    @parallel.only_first
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        logging.getLogger().removeHandler(self._handler)
        try:
            if error is not None and self._begun:
                self._record_failure(error)
        except OSError as another:  # a full disk: what failed first is what is to be told
            log.warning("%s: %s", self.folder, another)
        finally:
            self._handler.close()
            self._lock.release()
        if error is not None and self._is_new and not self._begun:  # refused: nothing is left
            for path in (self.folder / run_files.LOG, Path(self._lock.lock_file)):
                path.unlink(missing_ok=True)

    @parallel.only_first
    def clear(self) -> None:
        """Delete what an earlier run left in the folder. Other files stay.

        The settings go last: until then what is left is that run's.
        """
        names = (*RESULTS, run_files.METRICS, run_files.CONFIG)
        for name in names:
            (self.folder / name).unlink(missing_ok=True)
        for name in (run_files.FIGURES, "wandb"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.summary = {}

    @parallel.only_first
    def begin(self, **facts: object) -> None:
        """Mark the run as running, with these facts about it and the versions of the software."""
        provenance = _provenance()
        before = self.summary.get("provenance", provenance)
        if isinstance(before, dict) and before["git_commit"] != provenance["git_commit"]:
            log.warning(
                "this run began at commit %s; it goes on at %s",
                before["git_commit"],
                provenance["git_commit"],
            )
        self.summary.pop("error", None)
        if self.mirror is not None:
            facts["wandb_id"] = self.mirror.run_id
        self._begun = True
        self.update_summary(status="running", **facts, provenance=provenance)

    @parallel.only_first
    def finish(self, metrics: Mapping[str, Any], verdict: Verdict | None = None) -> None:
        """Mark the run as finished, with final metrics and verdict; the mirror gets its weights."""
        self.update_summary(
            status="finished", metrics=metrics, verdict=asdict(verdict) if verdict else None
        )
        self._close_mirror(self.folder / run_files.INFERENCE, exit_code=0)

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return self.summary.get("status") == "finished"

    @parallel.only_first
    def replay(self) -> None:
        """Hand a finished run to its mirror, if there is one: rows, snapshots, summary, weights."""
        if self.mirror is None:
            return
        for row in run_files.read_rows(self.folder):
            self.mirror.log_row(row)
        history = self.folder / run_files.HISTORY
        for path in sorted(history.glob(f"*-{'[0-9]' * 8}.png")):
            name, _, step = path.stem.rpartition("-")
            self.mirror.log_row({"step": int(step)}, {name: str(path)})
        self.update_summary(wandb_id=self.mirror.run_id)
        self._close_mirror(self.folder / run_files.INFERENCE, exit_code=0)

    def headline(self) -> str:
        """The final test metrics in one line, and below it the verdict, if there is one."""
        line = f"test: {format_evaluation(self.summary['metrics']['test'])}"
        verdict = self.summary.get("verdict")
        return f"{line}\n{format_verdict(verdict)}" if verdict else line

    def metric(self, name: str) -> float | None:
        """A final metric such as validation.elbo; None where this family has none of that name."""
        split, _, key = name.partition(".")
        return self.summary["metrics"].get(split, {}).get(key)

    @parallel.only_first
    def drop_rows_after(self, step: int) -> None:
        """Drop the rows beyond a checkpoint's step, a half-written row, and the row of the test
        split, which is written after the last checkpoint."""
        path = self.folder / run_files.METRICS
        if not path.exists():
            return
        rows = run_files.read_rows(self.folder)
        kept = [row for row in rows if row["step"] <= step and "test" not in row]
        files.write_text(path, "".join(json.dumps(row) + "\n" for row in kept))

    @parallel.only_first
    def log_row(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one row to metrics.jsonl: step, nested metrics, wall-clock times under "time"."""
        row = {"step": step, **metrics}
        path = self.folder / run_files.METRICS
        with files.name_in_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(files.finite(row)) + "\n")
        if self.mirror is not None:
            self.mirror.log_row(row)

    @parallel.only_first
    def log_snapshots(
        self, step: int, snapshots: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ) -> None:
        """Keep what the model makes at a step.

        Arguments:
        step: from which the images are.
        snapshots: for each name a sheet (H, W, C), kept as png, and its images (n, C, H, W), kept
            as npz; uint8.
        """
        for name, (sheet, images) in snapshots.items():
            path = self.folder / run_files.HISTORY / f"{name}-{step:08d}"
            with files.atomic_write(path.with_suffix(".png")) as temporary:
                Image.fromarray(as_rgb(sheet)).save(temporary, format="png")
            npz = path.with_suffix(".npz")
            with files.atomic_write(npz) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, images=images, step=step)
        if self.mirror is not None:
            sheets = {name: sheet for name, (sheet, _) in snapshots.items()}
            self.mirror.log_row({"step": step}, sheets)

    @parallel.only_first
    def update_summary(self, **values: object) -> None:
        """Merge values into summary.json."""
        self.summary |= values
        files.write_json(self.folder / run_files.SUMMARY, self.summary)

    def _record_failure(self, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            self.update_summary(status="interrupted")
        else:
            self.update_summary(status="failed", error=str(error))
            text = "".join(traceback.format_exception(error))
            record = log.makeRecord(log.name, logging.ERROR, __file__, 0, text, (), None)
            self._handler.handle(record)
        self._close_mirror(None, exit_code=1)

    def _close_mirror(self, weights: Path | None, exit_code: int) -> None:
        if self.mirror is not None:
            self.mirror.finish(self.summary, weights, exit_code)


def is_held(folder: Path) -> bool:
    """Whether a process works in a run folder now."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True


def _provenance() -> dict[str, Any]:
    """Versions, and the commit of this code ("-dirty" if it was changed, "unknown" without git)."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "git_commit": git_commit() or "unknown",
        "python": platform.python_version(),
        "platform": platform.platform(),
        **versions,
    }


def git_commit() -> str:
    """The commit of this code, with "-dirty" if it was changed; "" without git."""
    if not shutil.which("git"):
        return ""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip()
