"""The judge of a data set: the classifier that metrics go by. Trained once, by train.py, where it is missing.

It lies with the caches of the data, in classifiers/<run name>-<checksum of the data>, and is a run like any other; all
models of the same data are judged by the same weights. Its recipe can be taught with other images too.
"""

import logging
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.utils import instantiate

from genmodels import checkpoint, config, doors, files, hardware, run_files, tracking
from genmodels.data.images import BatchStream, ImageData, ImageSet, ImageSpec
from genmodels.data.torchvision_sets import DEFAULT_ROOT
from genmodels.legal import plain, show
from genmodels.metrics import features
from genmodels.metrics.features import FeatureSpace
from genmodels.models.classifier import Classifier
from genmodels.randomness import reseed
from genmodels.tracking import in_words

log = logging.getLogger(__name__)

EPOCHS = 10  # of what is not the data themselves
RECIPE = ("model=classifier", "wandb.mode=disabled")


@dataclass(frozen=True)
class Judge:
    """A classifier's run, which may not have been trained yet."""

    folder: Path
    settings: tuple[str, ...]  # what train.py is called with

    @classmethod
    def of(cls, about: Mapping[str, Any], data: ImageData, root: str, cache: str) -> "Judge":
        """The judge of the data that a checkpoint names (`about`) and that were read from these folders.

        Raises ValueError where there can be none: no labels, or no data set of this project.
        """
        if not data.spec.classes:
            raise ValueError(f"{data.spec.name} has no labels")
        choice = str(about["choices"].get("dataset"))
        if (
            not re.fullmatch(r"\w+", choice)
            or not (config.CONF / "dataset" / f"{choice}.yaml").is_file()
        ):
            raise ValueError(f"dataset={choice}: no data set of this project")
        # what says where the data lie, of that which this data set takes; its own root is the right one for the default
        here = {"cache": cache, "download": False} | (
            {} if Path(root) == DEFAULT_ROOT else {"root": root}
        )
        known = doors.composed("train", [f"dataset={choice}"]).dataset
        details = {
            key.removeprefix("dataset."): value
            for key, value in about["settings"].items()
            if key.startswith("dataset.") and key != "dataset._target_"
        }
        values = details | {key: value for key, value in here.items() if key in known}
        settings = (
            *RECIPE,
            f"dataset={choice}",
            *(f"dataset.{key}={_typed(value)}" for key, value in values.items()),
        )
        name = Path(doors.composed("train", settings).hydra.run.dir).name
        return cls(Path(cache) / "classifiers" / f"{name}-{data.checksum}", settings)

    @property
    def ready(self) -> bool:
        """Whether it has been trained."""
        return run_files.read_summary(self.folder).get("status") == "finished"

    def model(self, device: torch.device) -> Classifier:
        """The trained classifier; trains it first where it is missing, or waits for another process that does.

        Raises ValueError where that fails.
        """
        if not self.ready:
            with files.locked(
                self.folder.with_name(f"{self.folder.name}.lock"), f"trains {self.folder}"
            ):
                self._train(device)
        model, _ = checkpoint.open_run(self.folder, device)
        if not isinstance(model, Classifier):
            raise ValueError(f"{self.folder}: holds a {type(model).__name__}, not a Classifier")
        return model

    def school(self, part: ImageSet, *, spec: ImageSpec, device: torch.device) -> Classifier:
        """A classifier of the same recipe, but trained on these labelled images of that spec, for EPOCHS passes."""
        cfg = doors.composed("train", self.settings)
        cfg.model.image_shape, cfg.model.num_classes = spec.image_shape, spec.num_classes
        cfg.precision = hardware.choose_precision("auto", device)
        reseed(cfg.seed, "initial weights")
        model = (
            checkpoint.rebuild(plain(cfg.model)).to(device).to(memory_format=torch.channels_last)
        )
        trainer = instantiate(cfg.trainer, model=model)
        stream = BatchStream(
            part, min(cfg.batch_size, len(part)), cfg.seed, instantiate(cfg.augment)
        )
        total = EPOCHS * math.ceil(len(part) / stream.batch_size)
        for step in range(total):
            reseed(cfg.seed, "train", step)
            trainer.update(stream.batch(step), step, total)
        return trainer.inference_model

    def _train(self, device: torch.device) -> None:
        """By the ordinary command, in a process of its own: its threads, seeds and Hydra are not this one's."""
        while self.folder.exists() and tracking.is_held(self.folder):  # by a user's own train.py
            time.sleep(1)
        if self.ready:
            return
        arguments = [
            *self.settings,
            f"device={device}",
            f"hydra.run.dir={_typed(str(self.folder))}",
        ]
        log.info(
            "the judge of these data is missing. Training it, once, for some minutes:\n"
            "python train.py %s",
            shlex.join(arguments),
        )
        environment = {
            name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"
        }
        done = subprocess.run(
            [sys.executable, str(config.CONF.parent / "train.py"), *arguments],
            env=environment,
            check=False,
        )
        if done.returncode or not self.ready:
            raise ValueError(
                f"the judge of these data could not be trained; {self.folder / run_files.LOG} says why"
            )


def feature_space(
    name: str, data: ImageData, judge: Callable[[], Classifier | None] | None
) -> FeatureSpace:
    """The features of this name (`legal.FEATURES`) for these data; those of the classifier are the judge's."""
    if name == "classifier":
        classifier = judge and judge()
        assert classifier is not None, "asked only where there is one"
        space = features.of_classifier(classifier, data)
    else:
        space = features.of_pixels(data) if name == "pixels" else features.of_inception(data)
    log.info("features: %s", in_words({"of": name, "crc32": space.checksum} | space.facts))
    return space


def _typed(value: object) -> str:
    """A value as Hydra's command line reads it back, whatever text it is."""
    if not isinstance(value, str):
        return show(value)
    if "${" in value:  # from a stranger's checkpoint: nothing is looked up for it
        raise ValueError(f"{value}: must be a plain text")
    return QuotedString(value, Quote.single).with_quotes()
