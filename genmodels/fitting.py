"""From settings to a trainer, and from a trainer to a fitted model in a run folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from torch import nn

from genmodels import checkpoint, hardware
from genmodels.checkpoint import CheckpointWriter
from genmodels.data.images import Augmentation, BatchStream, ImageData
from genmodels.randomness import reseed
from genmodels.run_folder import Run
from genmodels.run_name import number_settings
from genmodels.settings import TrainSettings
from genmodels.trainers.loop import Cadence, Score, Trainer, fit

# A float32 number each: weights, gradients, the optimizer's two moments, averaged weights
BYTES_PER_PARAMETER = 4 * 5


class Components(NamedTuple):
    """What settings name, built."""

    model: nn.Module
    trainer: Trainer
    augment: Augmentation


def build(settings: TrainSettings) -> Components:
    """The model that the settings name, freshly initialised on their device, and its trainer.

    Raises ValueError for arguments that the classes refuse, and for an init_from without a
    checkpoint of the same model.
    """
    refuse_too_large(settings.model)
    reseed(settings.seed, "initial weights")
    model = checkpoint.rebuild(settings.model).to(torch.device(settings.device))
    model = model.to(memory_format=torch.channels_last)
    if settings.compile:
        for network in model.children():
            network.compile()
    trainer = instantiate(settings.trainer, model=model)
    if settings.init_from is not None:
        folder = Path(settings.init_from)
        checkpoint.start_from(folder, settings.model, trainer.load_state_dict)
    return Components(model, trainer, instantiate(settings.augment))


def refuse_too_large(config: Mapping[str, Any]) -> None:
    """Raise ValueError for a model that cannot be trained in the memory of this machine."""
    with torch.device("meta"):
        model = checkpoint.rebuild(config)
    parameters = sum(weights.numel() for weights in model.parameters())
    needed, memory = BYTES_PER_PARAMETER * parameters, hardware.memory()
    if needed > memory:
        raise ValueError(
            f"model: {parameters:,} parameters need {needed / 1e9:,.0f} GB to be trained, and this "
            f"machine has {memory / 1e9:,.0f}. Try smaller widths or latent_dim"
        )


def steps_in(epochs: int, images: int, batch_size: int) -> int:
    """Steps that see each of so many images as often as there are epochs, to the nearest step.

    Every batch is full: the last one of an epoch goes on into the next.
    """
    return max(1, round(epochs * images / batch_size))


def choose_cadence(settings: TrainSettings, images: int) -> Cadence:
    """How long a run on this many training images is, and how often it evaluates and saves."""
    steps = steps_in(settings.epochs, images, settings.batch_size)
    total = min(steps, settings.max_steps or steps)
    return Cadence.choose(total, settings.evaluate_every, settings.checkpoint_every)


def describe_run(settings: TrainSettings, trainer: Trainer, name: str, data: ImageData) -> dict:
    """What a checkpoint says of its run: all that inference needs to know."""
    return {
        "name": name,
        "settings": number_settings(settings.as_dict()),
        "choices": dict(settings.choices),
        "classes": list(data.spec.classes),
        "data": data.checksum,
        **trainer.facts(),
    }


def fit_run(
    components: Components,
    data: ImageData,
    run: Run,
    settings: TrainSettings,
    about: Mapping[str, Any],
    score: Score = lambda _: {},
) -> dict[str, Any]:
    """Train to the end of a run; returns the final metrics.

    Arguments:
    components: built from the settings.
    data: on its device.
    run: the open run folder.
    settings: of the run.
    about: what the checkpoints say of it.
    score: numbers of the inference model that are added to each evaluation.
    """
    trainer = components.trainer
    stream = BatchStream(data.train, settings.batch_size, settings.seed, components.augment)
    writer = CheckpointWriter(run.folder, settings.model, dict(about))
    cadence = choose_cadence(settings, len(data.train))
    return fit(trainer, stream, data, run, writer, cadence, score=score, select=settings.select)
