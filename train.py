"""Train a generative model: `python train.py model=vae dataset=mnist kl_weight=3`. `--help` lists what can be set."""

import logging
import math
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from genmodels import config, doors, run_files, sweeps
from genmodels.errors import require

if TYPE_CHECKING:
    import torch
    from torch import nn

    from genmodels.data.cached_dataset import CachedDataset
    from genmodels.data.images import Augmentation, ImageData
    from genmodels.judge import Judge
    from genmodels.models.classifier import Classifier
    from genmodels.models.generative import GenerativeModel
    from genmodels.tracking import Run, WandbMirror
    from genmodels.trainers.loop import Cadence, Trainer

log = logging.getLogger(__name__)


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    """One job of Hydra's. What it returns is what a sweeper that searches goes by."""
    return doors.job(train, cfg, "train")


def train(cfg: DictConfig, folder: Path) -> float | None:
    """From the configuration to a trained model in `folder`: begin a run, go on with it, or find it finished. Returns
    the metric that `sweep_metric` names, if there is such."""
    from genmodels import (
        hardware,
    )  # here, with all that needs torch: `--help` and `--cfg job` answer without
    from genmodels.figures import FIGURES, FigureOptions, draw
    from genmodels.metrics.evaluation import Evaluation
    from genmodels.registry import select
    from genmodels.tracking import Run
    from genmodels.trainers.loop import fit

    device = hardware.choose_device(cfg.device)
    if (
        cfg.precision == "auto" and not cfg.overwrite
    ):  # a run goes on in the precision in which it began
        cfg.precision = config.read(folder).get("precision", "auto")
    cfg.precision = hardware.choose_precision(cfg.precision, device)
    cfg.compile = cfg.compile is True
    hardware.choose_kernels(cfg.deterministic)
    hardware.keep_freed_memory()

    source = instantiate(cfg.dataset)
    settings = config.record(cfg, config.settle(cfg, source.spec))
    about = {
        "name": folder.name,
        "settings": config.numbers(settings),
        "choices": settings["choices"],
        "classes": list(source.spec.classes),
    }
    model, trainer = build(cfg, settings, device)
    check_selection(cfg, trainer)
    augment = instantiate(cfg.augment)
    if cfg.preview:
        preview(
            cfg, source, trainer, augment, folder / run_files.FIGURES, config.caption(about, step=0)
        )
        return None

    sweep = config.sweep_name()
    with Run(
        folder, patient=sweep is not None
    ) as run:  # what a killed sweep's workers still do is waited for
        if cfg.overwrite:
            run.clear()
        config.refuse_other_settings(folder, settings)
        run.mirror = find_mirror(cfg, run, settings, about, sweep)
        if run.finished:
            run.replay()
            log.info("%s is finished; overwrite=true starts over\n%s", folder, run.headline())
            return run.metric(cfg.sweep_metric)
        config.save(folder, settings)
        run.begin(
            name=folder.name, parameters=sum(weights.numel() for weights in model.parameters())
        )
        data = source.load().to(device)
        config.refuse_other_data(folder, run.summary.get("data"), data.checksum)
        run.summarise(data=data.checksum)
        require(
            cfg.batch_size <= len(data.train),
            "batch_size",
            cfg.batch_size,
            f"at most {len(data.train)}, the number of training images",
        )
        times = cadence(cfg, len(data.train))
        parameters = f"{type(model).__name__} with {run.summary['parameters']:,} parameters"
        log.info(
            "%s: %s, %s on %s in %s",
            folder,
            parameters,
            length(cfg, times.total, len(data.train)),
            device,
            cfg.precision,
        )
        judge = cache(partial(find_judge, cfg, about, data))
        metrics = fit(
            trainer,
            data,
            run,
            cadence=times,
            batch_size=cfg.batch_size,
            seed=cfg.seed,
            model_config=settings["model"],
            about=about | {"data": data.checksum},
            augment=augment,
            score=scorer(cfg, data, judge, device),
            select=cfg.select,
        )
        request = FigureOptions(
            test=data.test, train=data.train, classes=data.spec.classes, run=folder
        )
        chosen = select("figures", None, FIGURES, trainer.inference_model)
        draw(
            trainer.inference_model,
            chosen,
            request,
            folder / run_files.FIGURES,
            config.caption(about, step=run.summary.get("selected", {}).get("step", times.total)),
        )
        evaluation = Evaluation(data, judge=partial(ready_judge, judge, device))
        run.finish(metrics, folder / run_files.INFERENCE, trainer.verdict(evaluation))
        root = (
            f" dataset.root={cfg.dataset.root}" if cfg.dataset.get("root", "data") != "data" else ""
        )
        log.info(
            "%s\npictures in %s; more with: python infer.py checkpoint=%s%s",
            run.headline(),
            folder / run_files.FIGURES,
            folder,
            root,
        )
        return run.metric(cfg.sweep_metric)


def build(
    cfg: DictConfig, settings: dict[str, Any], device: "torch.device"
) -> tuple["nn.Module", "Trainer"]:
    """The model that the settings name, freshly initialised, and its trainer."""
    import torch

    from genmodels import checkpoint
    from genmodels.randomness import reseed

    reseed(cfg.seed, "initial weights")
    model = checkpoint.rebuild(settings["model"]).to(device).to(memory_format=torch.channels_last)
    if cfg.compile:
        for network in model.children():
            network.compile()
    trainer = instantiate(cfg.trainer, model=model)
    if cfg.init_from is not None:
        trainer.load_state_dict(
            checkpoint.initial_states(Path(cfg.init_from), settings["model"])["trainer"]
        )
    return model, trainer


def length(cfg: DictConfig, steps: int, images: int) -> str:
    """How long a run on so many training images is, in words."""
    ended = (
        f" ({steps * cfg.batch_size / images:.3g} of {cfg.epochs} epochs)"
        if steps == cfg.max_steps
        else ""
    )
    return f"{images:,} training images, {steps:,} steps{ended}"


def find_mirror(
    cfg: DictConfig, run: "Run", settings: dict[str, Any], about: dict[str, Any], sweep: str | None
) -> "WandbMirror | None":
    """The run's copy in wandb, if the settings ask for one and it does not have the finished run already."""
    from genmodels.tracking import WandbMirror

    mode, before = config.wandb_mode(cfg.wandb.mode), run.summary.get("wandb_id")
    now = config.wandb_id(before)
    if mode is None or (run.finished and now is not None and now == before):
        return None
    return WandbMirror(
        run.folder, settings["wandb"] | {"mode": mode}, about, now, cfg.wandb.group or sweep
    )


def find_judge(cfg: DictConfig, about: Mapping[str, Any], data: "ImageData") -> "Judge":
    """The classifier of the data, which may not have been trained yet. Raises ValueError where there can be none."""
    from genmodels.judge import Judge

    return Judge.of(about, data, cfg.dataset.get("root", "data"), cfg.dataset.cache)


def ready_judge(find: "Callable[[], Judge]", device: "torch.device") -> "Classifier | None":
    """That classifier, if it has been trained."""
    try:
        judge = find()
    except ValueError:
        return None
    return judge.model(device) if judge.ready else None


def check_selection(cfg: DictConfig, trainer: "Trainer") -> None:
    """Raise ValueError where evaluations of this model have no such number to select by."""
    from genmodels.models.generative import GenerativeModel

    model = trainer.inference_model
    known = ["elbo"] * hasattr(model, "encode") + ["fd", "kid"] * isinstance(model, GenerativeModel)
    kind = type(model).__name__
    require(
        cfg.select in (None, *known),
        "select",
        cfg.select,
        f"one of {', '.join([*known, 'null'])} for a {kind}",
    )
    require(cfg.features is None or "fd" in known, "features", cfg.features, f"null for a {kind}")


def scorer(
    cfg: DictConfig, data: "ImageData", find: "Callable[[], Judge]", device: "torch.device"
) -> "Callable[[nn.Module], dict[str, float]]":
    """What evaluations score samples by, if these settings ask for it. A missing classifier is trained first.

    Raises ValueError where the validation part has too few images for it.
    """
    from genmodels.judge import feature_space
    from genmodels.metrics import distances, sample_quality
    from genmodels.metrics.features import usual

    name = cfg.features or (usual(data.spec.classes) if cfg.select in ("fd", "kid") else None)
    if name is None:
        return lambda model: {}
    space = feature_space(name, data, lambda: find().model(device))
    distances.enough(
        space.validation, space.validation.shape[1], "a Frechet distance on the validation part"
    )
    return lambda model: sample_quality.glance(cast("GenerativeModel", model), space)


def preview(
    cfg: DictConfig,
    source: "CachedDataset",
    trainer: "Trainer",
    augment: "Augmentation",
    folder: Path,
    caption: str,
) -> None:
    """Draw the data as this run will see them, and what changes over its steps; train nothing."""
    from genmodels.data.images import BatchStream
    from genmodels.figures import schedules
    from genmodels.figures.dataset import draw_data, survey
    from genmodels.randomness import reseed

    data = source.load()
    reseed(cfg.seed, "train")
    seen = trainer.inputs(BatchStream(data.train, cfg.batch_size, cfg.seed, augment).batch(0))
    found = survey(data)
    log.info("%s", found.in_words())
    log.info("%s", draw_data(found, seen).save(folder, "data", caption))
    plan = schedules.draw_plan(trainer.plan, cadence(cfg, len(data.train)).total)
    log.info("%s", plan.save(folder, "preview", caption))


def cadence(cfg: DictConfig, images: int) -> "Cadence":
    """How long a run on this many training images is, and how often it looks up."""
    from genmodels.trainers.loop import Cadence

    steps = cfg.epochs * math.ceil(images / cfg.batch_size)
    return Cadence.choose(
        min(steps, cfg.max_steps or steps), cfg.evaluate_every, cfg.checkpoint_every
    )


def report() -> None:
    """At the end of a sweep, also of one in which jobs failed: a table, and report.html."""
    folder = sweeps.SweepFolder.current
    if folder is not None and any(folder.glob(f"*/{run_files.SUMMARY}")):
        from genmodels import report

        report.write([folder])


if __name__ == "__main__":
    sys.exit(doors.enter(main, "train", at_end=report))
