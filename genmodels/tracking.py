"""What a run leaves: its folder, metrics.jsonl, summary.json, train.log and pictures, and wandb as their mirror."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import queue
import secrets
import shutil
import subprocess
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from genmodels import files
from genmodels.files import METRICS, SUMMARY

if TYPE_CHECKING:
    import wandb

    from genmodels.metrics.vae_diagnosis import Verdict

log = logging.getLogger(__name__)


class Run:
    """A run's folder while a process works in it: locked, with its log open and its rows and summary kept.

    A context manager. Entering raises ValueError where another process holds the folder, or waits for that one to leave
    it if `patient`; leaving by an error writes its traceback to train.log and its message to summary.json.
    """

    def __init__(self, folder: Path, patient: bool = False) -> None:
        self.folder = folder
        self._patient = patient
        self.summary: dict[str, Any] = {}
        self.mirror: WandbMirror | None = None
        self._begun = False
        self._lock = FileLock(folder / ".lock")
        self._handler = logging.FileHandler(folder / files.LOG, encoding="utf-8", delay=True)
        self._handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
        )

    def __enter__(self) -> Run:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            message = f"{self.folder}: another process is training in this folder"
            if not self._patient:
                raise ValueError(message) from None
            log.warning("%s; waiting for it", message)
            self._lock.acquire()
        self.summary = files.read_json(self.folder / SUMMARY)
        logging.getLogger().addHandler(self._handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: object
    ) -> None:
        logging.getLogger().removeHandler(self._handler)
        if error is not None and self._begun:
            interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
            if interrupted:
                self.summarise(status="interrupted")
            else:
                self.summarise(status="failed", error=str(error))
                trace = "".join(traceback.format_exception(error))
                self._handler.handle(
                    log.makeRecord(log.name, logging.ERROR, __file__, 0, trace, (), None)
                )
            self._close_mirror(None, exit_code=1)
        self._handler.close()
        self._lock.release()

    def clear(self) -> None:
        """Delete what an earlier run left in the folder, but not what is not ours."""
        for name in (
            files.CONFIG,
            METRICS,
            SUMMARY,
            files.CHECKPOINT,
            files.PREVIOUS,
            files.INFERENCE,
        ):
            (self.folder / name).unlink(missing_ok=True)
        for name in (files.FIGURES, "wandb"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.summary = {}

    def begin(self, **facts: object) -> None:
        """Mark the run as running, with what is known of it now and of the software that runs it."""
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
        self.summarise(status="running", **facts, provenance=provenance)

    def finish(
        self, metrics: Mapping[str, Any], weights: Path, verdict: Verdict | None = None
    ) -> None:
        """Mark the run as finished, with its final metrics and its verdict, and hand its weights to wandb."""
        self.summarise(status="finished", metrics=metrics, verdict=verdict and asdict(verdict))
        self._close_mirror(weights, exit_code=0)

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return self.summary.get("status") == "finished"

    def replay(self) -> None:
        """Hand a finished run to its mirror, if there is one: rows, pictures, summary and weights."""
        if self.mirror is not None:
            for row in files.read_rows(self.folder):
                self.mirror.put(flatten(row))
            for path in sorted((self.folder / files.FIGURES).glob(f"*-{'[0-9]' * 8}.png")):
                name, _, step = path.stem.rpartition("-")
                self.mirror.put({"step": int(step)}, {name: str(path)})
            self.summarise(wandb_id=self.mirror.run_id)
            self._close_mirror(self.folder / files.INFERENCE, exit_code=0)

    def headline(self) -> str:
        """The final test metrics in one line, and the verdict, if there is one, below."""
        line = f"test: {in_words(self.summary['metrics']['test'])}"
        verdict = self.summary.get("verdict")
        return f"{line}\n{said(verdict)}" if verdict else line

    def metric(self, name: str) -> float | None:
        """A final metric such as validation.elbo; None where this family has none of that name."""
        part, _, key = name.partition(".")
        return self.summary["metrics"].get(part, {}).get(key)

    def _close_mirror(self, weights: Path | None, exit_code: int) -> None:
        if self.mirror is not None:
            self.mirror.finish(self.summary, weights, exit_code)

    def cut(self, step: int) -> None:
        """Drop what came after the checkpoint of a step: later rows, a half-written one, and the row of the test part,
        which is written when the last checkpoint is there."""
        path = self.folder / METRICS
        if path.exists():
            rows = [
                row
                for row in files.read_rows(self.folder)
                if row["step"] <= step and "test" not in row
            ]
            files.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))

    def row(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one row to metrics.jsonl: the step and nested metrics, what the wall clock says under "time"."""
        path = self.folder / METRICS
        with files.naming(path), open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(files.finite({"step": step, **metrics})) + "\n")
        if self.mirror is not None:
            self.mirror.put(flatten({"step": step, **metrics}))

    def pictures(self, step: int, images: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Keep what the model makes at a step: for each name a sheet (H, W, C) as png and its images as npz, uint8."""
        from matplotlib.image import imsave  # slow to import

        from genmodels.figures.plotting import coloured

        for name, (sheet, array) in images.items():
            path = self.folder / files.FIGURES / f"{name}-{step:08d}"
            with files.atomic_write(path.with_suffix(".png")) as temporary:
                imsave(temporary, coloured(sheet), format="png")
            with (
                files.atomic_write(path.with_suffix(".npz")) as temporary,
                open(temporary, "wb") as file,
            ):
                np.savez_compressed(file, images=array, step=step)
        if self.mirror is not None:
            self.mirror.put({"step": step}, {name: sheet for name, (sheet, _) in images.items()})

    def summarise(self, **values: object) -> None:
        """Merge values into summary.json."""
        self.summary |= values
        files.write_json(self.folder / SUMMARY, self.summary)


class WandbMirror:
    """Copies rows, pictures, the summary and the final weights to wandb from a thread of its own.

    Training never waits for it and never fails by it: without a key or a network it goes offline, and whatever goes
    wrong later ends the mirror with one warning. The truth is in the run's folder.
    """

    def __init__(
        self, folder: Path, settings: Mapping, about: Mapping, run_id: str | None, group: str | None
    ) -> None:
        """settings: the `wandb` node of the configuration. run_id: the run to continue, None for a new one."""
        self.run_id = run_id or secrets.token_hex(4)
        self._patience = float(str(settings["timeout"]))
        self._queue: queue.SimpleQueue[Callable[[wandb.Run], None] | None] = (
            queue.SimpleQueue()
        )  # None ends it
        arguments = {
            "dir": str(folder.resolve()),
            "config": about["settings"] | about["choices"],
            "name": about["name"][:128],
            "id": self.run_id,
            "group": group,
            "job_type": "train",
            "resume": "allow",
            "reinit": "create_new",
            **{key: settings[key] for key in ("mode", "project", "entity", "tags", "notes")},
        }
        self._thread = threading.Thread(
            target=self._work, args=(arguments,), daemon=True, name="wandb mirror"
        )
        self._thread.start()

    def put(
        self, metrics: Mapping[str, Any], images: Mapping[str, np.ndarray | str] | None = None
    ) -> None:
        """Hand over flat metrics with their step, and images (H, W, C) uint8 or their files; returns at once."""
        row, pictures = dict(metrics), dict(images or {})
        self._queue.put(lambda run: self._send(run, row, pictures))

    def finish(self, summary: Mapping[str, Any], weights: Path | None, exit_code: int) -> None:
        """Hand over the end of the run, and wait for the upload, but not longer than the timeout."""
        final = flatten(summary)
        self._queue.put(lambda run: self._end(run, final, weights, exit_code))
        self._queue.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            log.warning(
                "wandb: not done after %g s, left behind; `wandb sync` sends an offline copy",
                self._patience,
            )

    def _work(self, arguments: dict[str, Any]) -> None:
        try:
            run = self._start(arguments)
            while (action := self._queue.get()) is not None:
                action(run)
        except Exception as error:  # a mirror must not break what it mirrors
            log.warning(
                "wandb: mirroring ended (%s: %s); the run goes on, and its folder has everything",
                type(error).__name__,
                error,
            )

    def _start(self, arguments: dict) -> wandb.Run:
        import wandb  # slow to import: here it costs the training nothing

        settings = wandb.Settings(
            init_timeout=self._patience, finish_timeout=self._patience, console="off", silent=True
        )
        try:
            run = wandb.init(**arguments, settings=settings)
        except Exception as error:
            log.warning(
                "wandb: cannot go online (%s); this run is recorded offline, to be sent by `wandb sync`",
                error,
            )
            run = wandb.init(**arguments | {"mode": "offline"}, settings=settings)
        run.define_metric("*", step_metric="step")
        return run

    def _send(self, run: wandb.Run, metrics: dict, images: dict[str, np.ndarray | str]) -> None:
        import wandb

        pictures = {
            name: wandb.Image(sheet, caption=f"{name} at step {metrics['step']}")
            for name, sheet in images.items()
        }
        run.log(metrics | pictures)

    def _end(self, run: wandb.Run, summary: dict, weights: Path | None, exit_code: int) -> None:
        import wandb

        run.summary.update(summary)
        if weights is not None:
            artifact = wandb.Artifact(str(run.name), type="model")
            artifact.add_file(str(weights))
            run.log_artifact(artifact)
        run.finish(exit_code=exit_code)


def _provenance() -> dict[str, Any]:
    """Versions and the commit of this code ("-dirty" where it was changed), "unknown" outside of a git checkout."""
    commit = ""
    if shutil.which("git"):
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    packages = ("genmodels", "torch", "torchvision", "hydra-core", "numpy")
    return {
        "git_commit": commit or "unknown",
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def is_held(folder: Path) -> bool:
    """Whether a process works in a run folder now."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True


def in_words(metrics: Mapping[str, Any]) -> str:
    """Metrics in one line; details (lists, and what is nested) are left to the files."""
    return ", ".join(
        f"{name.replace('_', ' ')} {brief(value) if isinstance(value, float) else value}"
        for name, value in metrics.items()
        if not isinstance(value, Mapping | list)
    )


def said(verdict: Mapping[str, Any]) -> str:
    """A verdict, as a summary has it, in lines."""
    return "\n".join(
        [f"verdict: {verdict['label']}", *(f"  {sentence}" for sentence in verdict["sentences"])]
    )


def brief(value: float) -> str:
    """Two decimals; four digits of what may be a share; two of what is small."""
    return (
        f"{value:.2f}"
        if abs(value) >= 1
        else f"{value:.4g}"
        if abs(value) >= 0.1
        else f"{value:.2g}"
    )


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"validation": {"elbo": -90}} -> {"validation/elbo": -90}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= (
            flatten(value, f"{prefix}{key}/")
            if isinstance(value, Mapping)
            else {f"{prefix}{key}": value}
        )
    return flat
