"""Trained models as infer.py takes them: what their files say, and what can be made from each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from pydantic import StringConstraints
from torch import nn

from genmodels import checkpoint, files
from genmodels.caption import caption
from genmodels.figures.registry import FIGURES
from genmodels.figures.registry import RENAMED as RENAMED_FIGURES
from genmodels.figures.training_progress import stored_steps
from genmodels.metrics.ex_post_density import DENSITIES
from genmodels.metrics.registry import METRICS
from genmodels.metrics.registry import RENAMED as RENAMED_METRICS
from genmodels.models.generative import GenerativeModel
from genmodels.registry import Selection
from genmodels.results import folder_of
from genmodels.run_name import clean
from genmodels.settings import InferSettings
from genmodels.validation import check_type

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
    is_alone: bool  # no other model is opened with it
    run: Path | None  # the run folder, where that is here with what the run kept as it trained
    folder: Path  # of its results

    @property
    def name(self) -> str:
        """The name of its results: a stranger's file may call itself ../../anything."""
        return clean(self.about["name"])


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
    return TrainedModel(name, model, about, text, selection, alone, run, folder)


def run_folder_of(name: str) -> Path | None:
    """The folder of a run that is here with what it kept as it trained."""
    path = Path(name)
    folder = path if path.is_dir() else path.parent
    return folder if stored_steps(folder) else None
