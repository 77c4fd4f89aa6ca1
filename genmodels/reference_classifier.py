"""The reference classifier of a data set, by which metrics recognise classes and compare images.

It is trained once, where it is missing, and kept beside the caches of the data: all models of the
same data are measured with the same weights. Its recipe can be trained on other images too.
"""

import logging
from functools import cached_property
from pathlib import Path

import torch

from genmodels import checkpoint, files, run_files
from genmodels.composition import compose_config, group_choices, without_hydra
from genmodels.data.images import BatchStream, ImageData, ImageSet
from genmodels.fitting import build, describe_run, fit_run, steps_in
from genmodels.formatting import format_metrics
from genmodels.metrics import features
from genmodels.metrics.features import FeatureSpace
from genmodels.models.classifier import Classifier
from genmodels.run_folder import Run
from genmodels.run_name import clean, digest, number_settings
from genmodels.settings import TrainSettings, resolve, write_settings
from genmodels.trainers.loop import train_steps

log = logging.getLogger(__name__)

EPOCHS = 10  # of training on other images
RECIPE = ("model=classifier",)


class ReferenceClassifier:
    """The classifier of these data, which may not have been trained yet."""

    def __init__(self, data: ImageData, cache: Path) -> None:
        """Arguments:
        data: with labels, on the device of the models that are measured.
        cache: the folder of decoded data sets.

        Raises ValueError where the data have no labels.
        """
        if not data.spec.classes:
            raise ValueError(f"{data.spec.name} has no labels")
        self.data = data
        self._cache = cache

    @cached_property
    def settings(self) -> TrainSettings:
        """The recipe for these data: that of conf/model/classifier.yaml."""
        flip = self.data.spec.image_shape[0] == 3
        device = self.data.train.batch(slice(0, 1)).images.device
        overrides = [*RECIPE, f"augment.flip={str(flip).lower()}", f"device={device}"]
        cfg = compose_config("train", overrides)
        choices = group_choices(cfg.hydra.runtime.choices)
        return resolve(without_hydra(cfg), choices, self.data.spec)

    @cached_property
    def folder(self) -> Path:
        """The run folder, named by the data and the recipe."""
        recipe = {}
        for key, value in number_settings(self.settings.as_dict()).items():
            if not key.startswith("dataset."):
                recipe[key] = value
        name = clean(self.data.spec.name)
        return self._cache / "classifiers" / f"{name}-{digest(recipe)}-{self.data.checksum}"

    @property
    def is_trained(self) -> bool:
        """Whether the classifier is there."""
        return run_files.read_summary(self.folder).get("status") == "finished"

    def load(self) -> Classifier:
        """The classifier. Where it is missing it is trained, or another process that trains it is
        waited for."""
        if not self.is_trained:
            lock = self.folder.with_name(f"{self.folder.name}.lock")
            with files.locked(lock, f"trains {self.folder}"):
                if not self.is_trained:
                    self._train()
        device = torch.device(self.settings.device)
        model, _ = checkpoint.open_run(self.folder, device)
        if not isinstance(model, Classifier):
            raise ValueError(f"{self.folder}: holds a {type(model).__name__}, not a Classifier")
        return model

    def load_if_trained(self) -> Classifier | None:
        """The classifier, if it is there."""
        return self.load() if self.is_trained else None

    def train_on(self, images: ImageSet) -> Classifier:
        """A classifier of the same recipe, trained on these labelled images for EPOCHS passes."""
        _, trainer, augment = build(self.settings)
        batch_size = min(self.settings.batch_size, len(images))
        stream = BatchStream(images, batch_size, self.settings.seed, augment)
        total = steps_in(EPOCHS, len(images), batch_size)
        for _ in train_steps(trainer, stream, 0, total):
            pass
        return trainer.inference_model

    def _train(self) -> None:
        log.info(
            "the reference classifier of these data is missing; it is trained, once, for minutes"
        )
        settings = self.settings
        components = build(settings)
        about = describe_run(settings, components.trainer, self.folder.name, self.data)
        with Run(self.folder, wait=True) as run:
            write_settings(self.folder, settings.as_dict())
            run.begin(name=self.folder.name, data=self.data.checksum)
            metrics = fit_run(components, self.data, run, settings, about)
            run.finish(metrics)
        log.info("%s: %s", self.folder, format_metrics(metrics["test"]))


def feature_space(
    name: str, data: ImageData, reference: ReferenceClassifier | None
) -> FeatureSpace:
    """The features of a name: "classifier", "pixels" or "inception".

    Those of the classifier are of the reference classifier, which is trained where it is missing.
    """
    if name == "pixels":
        space = features.of_pixels(data)
    elif name == "inception":
        space = features.of_inception(data)
    else:
        assert reference is not None, "asked only where the data have labels"
        space = features.of_classifier(reference.load(), data)
    log.info("features: %s", format_metrics(space.label()["features"]))
    return space
