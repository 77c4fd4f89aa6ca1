"""From checkpoints to results: models, their data, each figure and metric that was asked for."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from omegaconf import DictConfig
from pydantic import StringConstraints
from torch import nn

from genmodels import checkpoint, files, hardware
from genmodels.caption import caption
from genmodels.composition import to_dict
from genmodels.data.datasets import open_dataset
from genmodels.data.images import ImageData
from genmodels.errors import TooFewError
from genmodels.figures.options import FigureOptions
from genmodels.figures.registry import FIGURES, draw
from genmodels.figures.registry import RENAMED as RENAMED_FIGURES
from genmodels.figures.training_progress import stored_steps
from genmodels.formatting import format_metrics, format_verdict
from genmodels.job import Job
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.ex_post_density import DENSITIES
from genmodels.metrics.features import FeatureSpace, default_features
from genmodels.metrics.registry import METRICS
from genmodels.metrics.registry import RENAMED as RENAMED_METRICS
from genmodels.models.generative import GenerativeModel
from genmodels.reference_classifier import ReferenceClassifier, feature_space
from genmodels.registry import Selection
from genmodels.report.comparison import compare_models
from genmodels.results import RESULTS, figure_file, folder_of, merge_metrics, metrics_file
from genmodels.run_lookup import find_runs
from genmodels.run_name import clean, digest
from genmodels.settings import InferSettings
from genmodels.validation import check_type, validate

log = logging.getLogger(__name__)

# What inference needs of what a file says of its training; a stranger may have written it
ShortText = Annotated[str, StringConstraints(max_length=200)]
ABOUT = {
    "name": ShortText,
    "step": Annotated[int, Ge(0)],
    "settings": dict[str, Any],
    "choices": dict[str, ShortText],
    "classes": list[ShortText],
}
OPTIONAL_ABOUT = {"data": ShortText | None, "kl_price": float | None}


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, what its file says of it, and what is to be made from it."""

    checkpoint: str  # as the user named it
    model: nn.Module
    about: dict[str, Any]
    caption: str  # under its figures
    selection: Selection
    run: Path | None  # the run folder, where that is here with what the run kept as it trained
    folder: Path  # of its results

    @property
    def name(self) -> str:
        """The name of its results: a stranger's file may call itself ../../anything."""
        return clean(self.about["name"])


def infer(cfg: DictConfig, _: Job) -> None:
    """From each checkpoint to results/<run name>/: figures as png and csv, metrics as metrics.json.

    Of several checkpoints the metrics are in one table too. Raises ValueError for what the user can
    put right.
    """
    settings = validate(InferSettings, to_dict(cfg))
    device = hardware.choose_device(settings.device)
    hardware.keep_freed_memory()
    asked = [settings.checkpoint] if isinstance(settings.checkpoint, str) else settings.checkpoint
    names = find_runs(asked)
    models = [open_model(name, settings, device, alone=len(names) == 1) for name in names]
    if len({model.name for model in models}) < len(models):
        raise ValueError(
            f"checkpoint={','.join(names)}: two of them have the same name, and so the same results"
        )
    data = read_data(models, settings, device)
    reference = find_reference(models, settings, data)
    refuse_what_none_can(models, settings)
    space = shared_feature_space(settings, data, reference)
    measured = {}
    for model in models:
        model = with_density(model, settings, data)
        draw_figures(model, settings, data)
        if model.selection["metrics"]:
            assert data is not None
            evaluation = Evaluation(
                model.model,
                data,
                split=settings.split,
                kl_weight=model.about.get("kl_price"),
                binarised_training=model.about["settings"].get("trainer.binarise"),
                k=settings.k,
                samples=settings.samples,
                seed=settings.seed,
                classifier=lambda: reference.load() if reference is not None else None,
                feature_space=space,
                train_classifier=reference.train_on if reference is not None else None,
            )
            measured[model.name] = measure(model, settings, evaluation)
    if len(measured) > 1:
        path = Path(settings.out or RESULTS) / f"comparison-{digest(sorted(measured))}.csv"
        log.info("\n%s\n\n%s", compare_models(measured, path), path)


def open_model(
    name: str, settings: InferSettings, device: torch.device, *, alone: bool = True
) -> TrainedModel:
    """Load a model, and choose what can be made from it.

    Arguments:
    name: of the run, as `checkpoint.open_run` takes it.
    settings: of infer.py.
    device: for the model.
    alone: whether it is the only model; of several each gives what it can.
    """
    model, about = checkpoint.open_run(name, device)
    missing = ABOUT.keys() - about.keys()
    if missing:
        raise ValueError(f"checkpoint={name}: does not say its {', '.join(sorted(missing))}")
    with files.reading(Path(name), "what it says of its training is damaged"):
        for key, hint in (ABOUT | OPTIONAL_ABOUT).items():
            check_type(key, about.get(key), hint)
        text = caption(about, about["step"])
    density = [settings.density]
    if isinstance(model, GenerativeModel):
        model.check_classes(settings.labels or [], about["classes"])
    elif settings.density == "prior":
        density = []  # the default, of a model without latents
    selection = Selection(
        model,
        alone=alone,
        figures=(settings.figures, FIGURES, RENAMED_FIGURES),
        metrics=(settings.metrics, METRICS, RENAMED_METRICS),
        density=(density, DENSITIES, {}),
    )
    run = run_folder_of(name)
    if run is None:
        selection.skip("history", f"there is none at {name}")
    if not about["classes"]:
        selection.skip("labels", "its data have none")
    folder = folder_of(clean(about["name"]), settings, alone)
    return TrainedModel(name, model, about, text, selection, run, folder)


def run_folder_of(name: str) -> Path | None:
    """The folder of a run that is here with what it kept as it trained."""
    path = Path(name)
    folder = path if path.is_dir() else path.parent
    return folder if stored_steps(folder) else None


def read_data(
    models: Sequence[TrainedModel], settings: InferSettings, device: torch.device
) -> ImageData | None:
    """The data that the models were trained on, if anything needs them.

    What needs them is skipped where they are not there. Raises ValueError where the models were
    trained on different data.
    """
    first = models[0]
    for other in models:
        if other.about.get("data") != first.about.get("data"):
            raise ValueError(
                f"checkpoint={other.checkpoint}: was trained on other data than "
                f"{first.checkpoint}; they cannot be compared"
            )
    if not any(model.selection.needs("data") for model in models):
        return None
    try:
        dataset = open_dataset(
            first.about["settings"], settings.dataset.root, settings.dataset.cache
        )
        data = dataset.load().to(device)
    except ValueError as error:
        for model in models:
            model.selection.skip("data", str(error))
        return None
    if data.checksum != first.about.get("data"):
        log.warning(
            "dataset.root=%s: not the images that %s was trained on, or no longer: its test images "
            "may be among them",
            settings.dataset.root,
            first.checkpoint,
        )
    return data


def find_reference(
    models: Sequence[TrainedModel], settings: InferSettings, data: ImageData | None
) -> ReferenceClassifier | None:
    """The reference classifier, if anything needs it; it is trained on demand, but not unasked."""
    if data is None:
        return None
    resources = ["classifier"]
    if feature_name(settings, data) == "classifier":
        resources.append("features")
    if not any(needs_classifier(model.selection, resources) for model in models):
        return None
    try:
        reference = ReferenceClassifier(data, Path(settings.dataset.cache))
        if settings.metrics is None and not reference.is_trained:
            raise ValueError(
                "no reference classifier of these data is trained yet; metrics=all trains one, "
                "once, in minutes"
            )
    except ValueError as error:
        for model in models:
            for resource in resources:
                model.selection.skip(resource, str(error))
        return None
    return reference


def needs_classifier(selection: Selection, resources: Sequence[str]) -> bool:
    """Whether what was chosen uses the reference classifier, or its recipe on other images."""
    if "gan_train" in selection["metrics"]:
        return True
    return any(selection.needs(resource) for resource in resources)


def feature_name(settings: InferSettings, data: ImageData) -> str:
    """The features that were asked for, or the default of the data."""
    return settings.features or default_features(data.spec.classes)


def refuse_what_none_can(models: Sequence[TrainedModel], settings: InferSettings) -> None:
    """Raise ValueError for what was asked for by name and no model can give."""
    for kind, asked in (("figures", settings.figures), ("metrics", settings.metrics)):
        for name in asked if isinstance(asked, list) else []:
            if not any(name in model.selection[kind] for model in models):
                raise ValueError(f"{kind}: {name} cannot be had from any of these models")


def shared_feature_space(
    settings: InferSettings, data: ImageData | None, reference: ReferenceClassifier | None
) -> Any:
    """A function that gives the features of all models, computed when first asked for."""
    if data is None:
        return None

    @cache
    def space() -> FeatureSpace:
        return feature_space(feature_name(settings, data), data, reference)

    return space


def with_density(
    model: TrainedModel, settings: InferSettings, data: ImageData | None
) -> TrainedModel:
    """The model with the chosen density as its prior: its own, or one fitted to its latents."""
    if not isinstance(model.model, GenerativeModel):
        return model
    spec = model.selection["density"][settings.density]
    density = spec.call(model.model, data, settings.components)
    return replace(model, model=model.model.with_prior(density.to(model.model.device)))


def draw_figures(model: TrainedModel, settings: InferSettings, data: ImageData | None) -> None:
    """Draw the chosen figures of a model into its results."""
    options = FigureOptions(
        n=settings.n,
        seed=settings.seed,
        temperature=settings.temperature,
        center=settings.center,
        stddev=settings.stddev,
        labels=settings.labels,
        test=data.test if data else None,
        train=data.train if data else None,
        classes=model.about["classes"],
        run=model.run,
    )
    paths = draw(
        model.model,
        model.selection["figures"],
        options,
        model.folder,
        model.caption,
        partial(figure_file, settings),
    )
    for path in paths:
        log.info("%s", path)


def measure(
    model: TrainedModel, settings: InferSettings, evaluation: Evaluation
) -> Mapping[str, Any]:
    """Compute the chosen metrics of a model one by one, log each, and keep all in metrics.json."""
    numbers: dict[str, Any] = {
        "checkpoint": model.about["name"],
        "step": model.about["step"],
        "split": evaluation.split_name,
        "seed": settings.seed,
    }
    if isinstance(model.model, GenerativeModel):
        numbers |= {"density": settings.density, "prior": model.model.prior.formula()}
    seconds: dict[str, float] = {}
    for name, spec in model.selection["metrics"].items():
        start = time.perf_counter()
        try:
            result = spec.call(model.model, evaluation)
        except TooFewError as error:
            if settings.metrics not in (None, "all"):
                raise
            log.info("skipped metrics %s: %s", name, error)
            continue
        numbers[name], seconds[name] = result, round(time.perf_counter() - start, 2)
        if name == "verdict":
            log.info("%s", format_verdict(result))
        else:
            log.info("%s: %s (%.1f s)", name, format_metrics(result), seconds[name])
    path = model.folder / metrics_file(settings)
    merge_metrics(path, numbers, seconds)
    log.info("%s", path)
    return numbers
