"""The judge of a data set: the classifier that metrics go by. Trained once, by train.py, where it is missing.

It lies with the caches of the data, in classifiers/<run name>-<checksum of the data>, and is a run like any other; all
models of the same data are judged by the same weights.
"""

import logging
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.types import Quote, QuotedString

from genmodels import checkpoint, config, doors, files, tracking
from genmodels.data.images import ImageData
from genmodels.data.published import DEFAULT_ROOT
from genmodels.legal import show
from genmodels.models.classifier import Classifier

log = logging.getLogger(__name__)

RECIPE = ("model=classifier", "wandb.mode=disabled")


@dataclass(frozen=True)
class Judge:
    """A classifier's run, which may not have been trained yet."""

    folder: Path
    settings: tuple[str, ...]   # what train.py is called with

    @classmethod
    def of(cls, about: Mapping[str, Any], data: ImageData, root: str, cache: str) -> "Judge":
        """The judge of the data that a checkpoint names (`about`) and that were read from these folders.

        Raises ValueError where there can be none: no labels, or no data set of this project.
        """
        if not data.spec.classes:
            raise ValueError(f"{data.spec.name} has no labels")
        choice = str(about["choices"].get("dataset"))
        if not re.fullmatch(r"\w+", choice) or not (config.CONF / "dataset" / f"{choice}.yaml").is_file():
            raise ValueError(f"dataset={choice}: no data set of this project")
        # what says where the data lie, of that which this data set takes; its own root is the right one for the default
        here = {"cache": cache, "download": False} | ({} if Path(root) == DEFAULT_ROOT else {"root": root})
        known = doors.composed("train", [f"dataset={choice}"]).dataset
        details = {key.removeprefix("dataset."): value for key, value in about["settings"].items()
                   if key.startswith("dataset.") and key != "dataset._target_"}
        values = details | {key: value for key, value in here.items() if key in known}
        settings = (*RECIPE, f"dataset={choice}", *(f"dataset.{key}={_typed(value)}" for key, value in values.items()))
        name = Path(doors.composed("train", settings).hydra.run.dir).name
        return cls(Path(cache) / "classifiers" / f"{name}-{data.checksum}", settings)

    @property
    def ready(self) -> bool:
        """Whether it has been trained."""
        return files.read_json(self.folder / files.SUMMARY).get("status") == "finished"

    def model(self, device: torch.device) -> Classifier:
        """The trained classifier; trains it first where it is missing, or waits for another process that does.

        Raises ValueError where that fails.
        """
        if not self.ready:
            with files.locked(self.folder.with_name(f"{self.folder.name}.lock"), f"trains {self.folder}"):
                self._train(device)
        model, _ = checkpoint.open_run(self.folder, device)
        if not isinstance(model, Classifier):
            raise ValueError(f"{self.folder}: holds a {type(model).__name__}, not a Classifier")
        return model

    def _train(self, device: torch.device) -> None:
        """By the ordinary command, in a process of its own: its threads, seeds and Hydra are not this one's."""
        while self.folder.exists() and tracking.is_held(self.folder):   # by a user's own train.py
            time.sleep(1)
        if self.ready:
            return
        arguments = [*self.settings, f"device={device}", f"hydra.run.dir={_typed(str(self.folder))}"]
        log.info("the judge of these data is missing. Training it, once, for some minutes:\n"
                 "python train.py %s", shlex.join(arguments))
        environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        done = subprocess.run([sys.executable, str(config.CONF.parent / "train.py"), *arguments], env=environment,
                              check=False)
        if done.returncode or not self.ready:
            raise ValueError(f"the judge of these data could not be trained; {self.folder / files.LOG} says why")


def _typed(value: object) -> str:
    """A value as Hydra's command line reads it back, whatever text it is."""
    if not isinstance(value, str):
        return show(value)
    if "${" in value:   # from a stranger's checkpoint: nothing is looked up for it
        raise ValueError(f"{value}: must be a plain text")
    return QuotedString(value, Quote.single).with_quotes()
