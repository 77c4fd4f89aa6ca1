"""What doctor=true does: it tries each part of a run for some seconds, and tells what is wrong."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from genmodels import hardware
from genmodels.data.images import BatchStream, ImageData
from genmodels.data.statistics import dataset_statistics
from genmodels.fitting import BYTES_PER_PARAMETER, Components, choose_cadence
from genmodels.models.vae import VAE
from genmodels.run_files import read_summary
from genmodels.run_folder import is_held
from genmodels.settings import TrainSettings
from genmodels.training_checks import (
    NOTE,
    OK,
    WRONG,
    Finding,
    Findings,
    check_kl,
    check_learning,
    check_resume,
    seconds_of_a_step,
)

GRAY_SHARE = 0.6  # of the pixels, above which images are hardly black and white
BUSY_LOAD = 0.5  # of the machine, by other processes, in processes for each core
CHECKPOINTS = 3  # in a run's folder at once: two, and one that is being written

Check = Callable[[TrainSettings, Components, ImageData], Findings]


def examine(
    settings: TrainSettings, components: Components, data: ImageData, folder: Path
) -> Iterator[tuple[str, Finding]]:
    """Do all checks; yields the name of the check with each finding.

    Nothing is written into the folder. A check that raises an error, as a model that is still
    being written may, has found something wrong: the error.

    Arguments:
    settings: of a run.
    components: built from them; they are trained a little.
    data: on its device.
    folder: of the run.
    """
    load = _load()  # before the checks themselves keep the machine busy
    for name, check in CHECKS.items():
        try:
            for finding in check(settings, components, data):
                yield name, finding
        except Exception as error:
            yield name, Finding(WRONG, f"{type(error).__name__}: {error}")
    yield "machine", _judge_load(load)
    yield "disk", check_disk(components, folder)
    yield "run folder", check_folder(folder)


def describe(findings: list[tuple[str, Finding]]) -> str:
    """The findings as a table."""
    width = max(len(name) for name, _ in findings)
    return "\n".join(
        f"{finding.status:<6}{name:<{width + 2}}{finding.text}" for name, finding in findings
    )


def check_data(settings: TrainSettings, components: Components, data: ImageData) -> Findings:
    """What there is, whether it is worth training on, and whether it suits the likelihood."""
    statistics = dataset_statistics(data)
    headline, *others = statistics.describe().splitlines()
    all_images = statistics.table()[-1]
    if all_images["min"] == all_images["max"]:
        yield Finding(WRONG, f"{headline}: {others[-1]}")
        return
    yield Finding(OK, headline)
    if statistics.repeated:
        yield Finding(NOTE, others[-1])
    gray = 1 - all_images["black"] - all_images["white"]
    model = components.model
    if isinstance(model, VAE) and model.likelihood.binary and gray > GRAY_SHARE:
        yield Finding(
            NOTE,
            f"{gray:.0%} of the pixels are gray, and {type(model.likelihood).__name__} is for "
            "black and white ones: likelihood=discretised_logistic models gray levels",
        )


def check_speed(settings: TrainSettings, components: Components, data: ImageData) -> Findings:
    """How long the run takes on this machine."""
    stream = BatchStream(data.train, settings.batch_size, settings.seed, components.augment)
    seconds = seconds_of_a_step(settings, stream)
    total = choose_cadence(settings, len(data.train)).total
    yield Finding(
        OK,
        f"{total:,} steps take about {_format_duration(total * seconds)}: {seconds * 1000:.0f} ms "
        f"for {settings.batch_size} images on {settings.device} in {settings.precision}",
    )


def check_disk(components: Components, folder: Path) -> Finding:
    """Whether there is room for the checkpoints."""
    parameters = sum(weights.numel() for weights in components.model.parameters())
    needed = CHECKPOINTS * BYTES_PER_PARAMETER * parameters
    free = shutil.disk_usage(_existing(folder)).free
    text = f"checkpoints take {needed / 1e6:,.0f} MB, and {free / 1e9:,.1f} GB are free"
    return Finding(OK if needed < free else WRONG, text)


def check_folder(folder: Path) -> Finding:
    """Whether the run's folder is free."""
    status = read_summary(folder).get("status")
    if status is None:
        return Finding(OK, f"{folder} is free")
    if is_held(folder):
        return Finding(NOTE, f"another process is training in {folder}")
    return Finding(NOTE, f"{folder} has a run already: {status}")


def _load() -> float:
    """Processes that compute on this machine, on average over a minute; 0 where it is unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _judge_load(load: float) -> Finding:
    cores, threads = hardware.cores(), torch.get_num_threads()
    text = f"{cores} cores, of which torch uses {threads}; load {load:.1f} before these checks"
    if load > BUSY_LOAD * cores:
        return Finding(NOTE, f"{text}: other processes keep it busy (threads=1 bears that best)")
    return Finding(OK, text)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    above = [folder.absolute(), *folder.absolute().parents]
    return next(path for path in above if path.exists())


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"


CHECKS: Mapping[str, Check] = {
    "data": check_data,
    "learning": check_learning,
    "KL": check_kl,
    "resume": check_resume,
    "speed": check_speed,
}
