"""From a configuration to a run: settings, model, trainer, data, `fit`."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from genmodels import doctor, hardware, parallel, torchrun, wandb_mirror
from genmodels.caption import caption
from genmodels.composition import compose_config, group_choices, to_dict, without_hydra
from genmodels.conclusion import conclude
from genmodels.data.images import ImageData, ImageSpec
from genmodels.fitting import Components, build, choose_cadence, describe_run, fit_run
from genmodels.job import Job
from genmodels.metrics.features import default_features
from genmodels.reference_classifier import ReferenceClassifier, feature_space
from genmodels.refusals import (
    check_figures,
    refuse_data,
    refuse_other_settings,
    refuse_several_processes,
)
from genmodels.run_folder import Run
from genmodels.run_name import clean, digest, number_settings, run_name
from genmodels.scoring import check_selection, make_score, quantities_to_score
from genmodels.settings import (
    ANY_SPEC,
    TrainSettings,
    fill,
    kept_threads,
    resolve,
    write_settings,
)
from genmodels.trainers.loop import Cadence, Score, Trainer
from genmodels.user_errors import UserError, as_user_error
from genmodels.wandb_mirror import WandbMirror

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """What a finished run left."""

    folder: Path
    summary: Mapping[str, Any]  # of summary.json
    sweep_metric: float | None = None  # what a sweeper that searches goes by

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The final metrics of the validation and test splits."""
        return self.summary["metrics"]


def train(*overrides: str) -> TrainedRun:
    """Train as `python train.py` does with the same settings: `train("model=cvae", "epochs=5")`.

    The run folder, resuming and the summary are the same, below the working directory. Raises
    UserError, with the message of the command line, for what the user can put right.
    """
    cfg = compose_config("train", overrides)
    folder = Path(cfg.hydra.run.dir)
    job = Job(folder, group_choices(cfg.hydra.runtime.choices))
    cfg = without_hydra(cfg)
    try:
        return run_training(cfg, job)
    except Exception as error:
        user_error = as_user_error(error, to_dict(cfg, resolve=False))
        if user_error is None:
            raise
        raise user_error from error


def check_settings(overrides: Sequence[str]) -> DictConfig:
    """The configuration of a run, with Hydra's own node.

    Raises UserError for settings that the run would refuse before it reads data.
    """
    composed = compose_config("train", overrides)
    choices = group_choices(composed.hydra.runtime.choices)
    cfg = without_hydra(composed)
    try:
        build(resolve(cfg, choices, spec_of(cfg)))
        return composed
    except Exception as error:
        user_error = as_user_error(error, to_dict(cfg, resolve=False))
        if user_error is not None:
            raise user_error from error
        raise


def run_training(cfg: DictConfig, job: Job) -> TrainedRun:
    """Begin a run, continue it, or find it finished; with preview=true or doctor=true only look.

    Raises ValueError for what the user can put right.
    """
    resolve(cfg, job.choices, ANY_SPEC)  # refuses wrong settings before the data are touched
    source = instantiate(cfg.dataset)
    settings = resolve(cfg, job.choices, source.spec)
    hardware.choose_kernels(settings.deterministic)
    hardware.keep_freed_memory()
    refuse_several_processes(settings)
    parallel.connect(torch.device(settings.device))
    components = build(settings)
    trainer = components.trainer
    check_selection(trainer, settings.features, settings.select)
    check_figures(settings, trainer.inference_model)
    if settings.preview:
        from genmodels.preview import draw_preview  # imports matplotlib

        about = {"settings": number_settings(settings.as_dict()), "choices": settings.choices}
        draw_preview(source.load(), settings, components, job.folder, caption(about, step=0))
        return TrainedRun(job.folder, {})
    if settings.doctor:
        examine(settings, components, source.load(), job.folder)
        return TrainedRun(job.folder, {})

    # what the workers of a killed sweep still do is waited for
    with Run(job.folder, wait=job.sweep is not None) as run:
        if not settings.overwrite:
            parallel.by_first(refuse_other_settings, job.folder, settings)
        if run.finished and not settings.overwrite:
            parallel.by_first(show_finished, run, settings, job)
        else:
            # whatever is refused is refused before a file is written, or lost
            data = source.load().to(hardware.choose_device(settings.device))
            refuse_data(run, data, settings)
            settings = parallel.by_first(begin, run, data, settings, components, job)
            complete(run, data, settings, components)
        run.summary = parallel.by_first(lambda: run.summary)
        return TrainedRun(job.folder, run.summary, run.metric(settings.sweep_metric))


def show_finished(run: Run, settings: TrainSettings, job: Job) -> None:
    """Tell what a finished run came to, also wandb, if it has not been told yet."""
    run.mirror = open_mirror(run, settings, job)
    run.replay()
    log.info("%s is finished; overwrite=true starts over\n%s", run.folder, run.headline())


def begin(
    run: Run, data: ImageData, settings: TrainSettings, components: Components, job: Job
) -> TrainSettings:
    """Mark a run as begun, with its settings; returns them with what this machine decides."""
    if settings.overwrite:
        run.clear()
    run.mirror = open_mirror(run, settings, job)
    threads = hardware.choose_threads(settings.threads or kept_threads(job.folder))
    cadence = choose_cadence(settings, len(data.train))
    settings = settings.model_copy(
        update={
            "threads": threads,
            "evaluate_every": cadence.evaluate,
            "checkpoint_every": cadence.checkpoint,
        }
    )
    write_settings(job.folder, settings.as_dict())
    parameters = sum(weights.numel() for weights in components.model.parameters())
    run.begin(
        name=job.folder.name,
        parameters=parameters,
        data=data.checksum,
        processes=torchrun.processes(),
    )
    log.info("%s", describe_start(run, settings, components.trainer, cadence, data))
    return settings


def examine(settings: TrainSettings, components: Components, data: ImageData, folder: Path) -> None:
    """Print what the doctor finds. Raises UserError where that is something wrong."""
    data = data.to(hardware.choose_device(settings.device))
    torch.set_num_threads(hardware.choose_threads(settings.threads))
    findings = list(doctor.examine(settings, components, data, folder))
    log.info("%s", doctor.describe(findings))
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()
    wrong = [name for name, finding in findings if finding.status == doctor.WRONG]
    if wrong:
        raise UserError(f"doctor=true: something is wrong with {', '.join(dict.fromkeys(wrong))}")


def complete(run: Run, data: ImageData, settings: TrainSettings, components: Components) -> None:
    """Train a run to its end, draw its figures, and write its summary."""
    trainer = components.trainer
    torch.set_num_threads(hardware.choose_threads(settings.threads))
    about = describe_run(settings, trainer, run.folder.name, data)
    reference = ReferenceClassifier(data, cache_folder(settings)) if data.spec.classes else None
    score = choose_score(settings, trainer, data, reference)
    metrics = fit_run(components, data, run, settings, about, score)
    parallel.by_first(conclude, run, data, settings, trainer, about, reference, metrics)


def describe_start(
    run: Run, settings: TrainSettings, trainer: Trainer, cadence: Cadence, data: ImageData
) -> str:
    """What is trained, on how many images, for how long, on which device."""
    kind = settings.model["_target_"].rpartition(".")[2]
    images = len(data.train)
    passes = cadence.total * settings.batch_size / images
    of_all = f" of {settings.epochs}" if cadence.total == settings.max_steps else ""
    threads = f"{settings.threads} thread{'s' if settings.threads != 1 else ''}"
    return (
        f"{run.folder}: {kind} with {run.summary['parameters']:,} parameters, {images:,} training "
        f"images, {cadence.total:,} steps ({passes:.3g}{of_all} epochs) on {settings.device} in "
        f"{settings.precision}, {threads}"
    )


def choose_score(
    settings: TrainSettings,
    trainer: Trainer,
    data: ImageData,
    reference: ReferenceClassifier | None,
) -> Score:
    """What each evaluation adds to the trainer's own numbers, by the settings."""
    names = quantities_to_score(trainer.inference_model, settings.features, settings.select)
    features = settings.features or default_features(data.spec.classes)
    space = cache(lambda: feature_space(features, data, reference))
    classifier = cache(lambda: reference.load() if reference is not None else None)
    return make_score(names, data, space, classifier)


def open_mirror(run: Run, settings: TrainSettings, job: Job) -> WandbMirror | None:
    """The run's copy in wandb, if the settings ask for one and wandb has no finished copy yet."""
    known = run.summary.get("wandb_id")
    run_id = wandb_mirror.choose_run_id(known)
    is_copied = run.finished and run_id is not None and run_id == known
    if settings.wandb.mode == "disabled" or is_copied:
        return None
    return WandbMirror(
        run.folder,
        settings.wandb.model_dump(),
        run_id,
        name=run.folder.name[:128],
        group=settings.wandb.group or job.sweep,
        config=number_settings(settings.as_dict()) | dict(settings.choices),
    )


def cache_folder(settings: TrainSettings) -> Path:
    """Where decoded data sets and reference classifiers are kept."""
    return Path(settings.dataset.get("cache", "data/cache"))


def name_of(cfg: DictConfig) -> str:
    """The name of a run, from a configuration with Hydra's own node.

    Settings that will be refused have a name too: a job of a sweep keeps its refusal under it.
    """
    choices = group_choices(cfg.hydra.runtime.choices)
    own = without_hydra(cfg)
    try:
        settings = resolve(own, choices, spec_of(own))
        return run_name(settings.as_dict(), settings.choices)
    except Exception:
        values = to_dict(own, resolve=False)
        parts = [choices.get("dataset", ""), choices.get("model", ""), "refused"]
        return f"{clean('-'.join(parts))}-{digest(number_settings(values))}"


def spec_of(cfg: DictConfig) -> ImageSpec:
    """What is known of the data before they are read."""
    return instantiate(cfg.dataset).spec


def record_settings(cfg: DictConfig, job: Job) -> None:
    """Write config.yaml of a job that was refused, as far as its settings can be told."""
    try:
        spec = spec_of(cfg)
    except Exception:
        spec = ANY_SPEC
    try:
        values, choices = fill(cfg, job.choices, spec)
    except Exception:
        values, choices = to_dict(cfg, resolve=False), dict(job.choices)
    write_settings(job.folder, values | {"choices": choices})
