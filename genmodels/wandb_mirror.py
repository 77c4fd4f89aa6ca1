"""wandb as a copy of a run: the run folder holds everything, training never depends on wandb."""

from __future__ import annotations

import logging
import os
import queue
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(__name__)

Action = Callable[["wandb.Run"], None]
Images = Mapping[str, "np.ndarray | str"]  # name -> (H, W, C) uint8, or the path of a file


class WandbMirror:
    """Copies rows, images, the summary and the final weights to wandb from a thread of its own.

    Training never waits for it and never fails by it: without a key or a network the run is
    recorded offline, and any later error ends the mirror with one warning.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], run_id: str | None, **about: Any
    ) -> None:
        """Arguments:
        folder: of the run.
        settings: mode, project, entity, tags, notes, timeout (seconds): the node `wandb`.
        run_id: of the run to continue; None for a new one.
        about: name, group and config, as wandb.init takes them.
        """
        self.run_id = run_id or secrets.token_hex(4)
        self._timeout = float(settings["timeout"])
        self._queue: queue.SimpleQueue[Action | None] = queue.SimpleQueue()  # None ends it
        names = ("mode", "project", "entity", "tags", "notes")
        arguments = {name: settings[name] for name in names}
        arguments |= {
            "dir": str(folder.resolve()),
            "id": self.run_id,
            "job_type": "train",
            "resume": "allow",
            "reinit": "create_new",
            **about,
        }
        self._thread = threading.Thread(
            target=self._work, args=(arguments,), daemon=True, name="wandb mirror"
        )
        self._thread.start()

    def log_row(self, row: Mapping[str, Any], images: Images | None = None) -> None:
        """Hand over a row, nested, with its step, and images of that step; returns at once."""
        flat, pictures = flatten(row), dict(images or {})
        self._queue.put(lambda run: self._send(run, flat, pictures))

    def finish(self, summary: Mapping[str, Any], weights: Path | None, exit_code: int) -> None:
        """Hand over the end of the run, and wait for the upload, at most until the timeout."""
        final = flatten(summary)
        self._queue.put(lambda run: self._end(run, final, weights, exit_code))
        self._queue.put(None)
        self._thread.join(self._timeout)
        if self._thread.is_alive():
            log.warning(
                "wandb: not done after %g s, left behind; `wandb sync` sends an offline copy",
                self._timeout,
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

    def _start(self, arguments: dict[str, Any]) -> wandb.Run:
        import wandb  # slow to import: in this thread it costs the training nothing

        settings = wandb.Settings(
            init_timeout=self._timeout, finish_timeout=self._timeout, console="off", silent=True
        )
        try:
            run = wandb.init(**arguments, settings=settings)
        except Exception as error:
            log.warning(
                "wandb: cannot go online (%s); this run is recorded offline, to be sent by "
                "`wandb sync`",
                error,
            )
            run = wandb.init(**arguments | {"mode": "offline"}, settings=settings)
        run.define_metric("*", step_metric="step")
        return run

    def _send(self, run: wandb.Run, row: dict[str, Any], images: Images) -> None:
        import wandb

        for name, sheet in images.items():
            row[name] = wandb.Image(sheet, caption=f"{name} at step {row['step']}")
        run.log(row)

    def _end(
        self, run: wandb.Run, summary: dict[str, Any], weights: Path | None, exit_code: int
    ) -> None:
        import wandb

        run.summary.update(summary)
        if weights is not None:
            artifact = wandb.Artifact(str(run.name), type="model")
            artifact.add_file(str(weights))
            run.log_artifact(artifact)
        run.finish(exit_code=exit_code)


def choose_mode(setting: str | None) -> str:
    """The mode for wandb: the setting, else the variable WANDB_MODE, else disabled."""
    return setting or os.environ.get("WANDB_MODE", "disabled")


def choose_run_id(known: str | None) -> str | None:
    """The id for wandb: that of a sweep's agent, which accepts no other, or the run's own."""
    if "WANDB_SWEEP_ID" in os.environ:
        return os.environ.get("WANDB_RUN_ID", known)
    return known


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"validation": {"elbo": -90}} -> {"validation/elbo": -90}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
