"""From checkpoints to results: models, their data, each figure and metric that was asked for."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from genmodels import hardware, torchrun
from genmodels.composition import to_dict
from genmodels.data.datasets import open_dataset
from genmodels.data.images import ImageData
from genmodels.errors import TooFewError
from genmodels.figures.options import FigureOptions
from genmodels.figures.registry import draw
from genmodels.formatting import format_metrics, format_verdict
from genmodels.job import Job
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.features import FeatureSpace, default_features
from genmodels.models.generative import GenerativeModel
from genmodels.reference_classifier import ReferenceClassifier, feature_space
from genmodels.registry import Selection
from genmodels.report.comparison import compare_models
from genmodels.results import RESULTS, figure_file, merge_metrics, metrics_file
from genmodels.run_lookup import find_runs
from genmodels.run_name import digest
from genmodels.settings import InferSettings
from genmodels.trained_model import TrainedModel, open_model
from genmodels.validation import validate

log = logging.getLogger(__name__)


def infer(cfg: DictConfig, _: Job) -> None:
    """From each checkpoint to results/<run name>/: figures as png and csv, metrics as metrics.json.

    Of several checkpoints the metrics are in one table too. Raises ValueError for what the user can
    put right.
    """
    settings = validate(InferSettings, to_dict(cfg))
    if torchrun.processes() > 1:
        raise ValueError("infer.py works in one process: start it without torchrun")
    device = hardware.choose_device(settings.device)
    hardware.keep_freed_memory()
    torch.set_num_threads(hardware.choose_threads(settings.threads))
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
    if not any(needs_data(model.selection) for model in models):
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


def needs_data(selection: Selection) -> bool:
    """Whether anything that was chosen uses the test images, if they are there."""
    return selection.needs("data") or selection.needs("optional_data")


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
        refuse=isinstance(settings.figures, list) and model.is_alone,
        file_format=settings.format,
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
