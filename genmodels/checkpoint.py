"""Checkpoints are data: named states, a step and a configuration; nothing in them is executed.

checkpoint.pt holds the training state, model.safetensors the weights for inference with what
rebuilds their module.
"""

import importlib
import inspect
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genmodels import files, run_lookup, safetensors_io
from genmodels.files import DamagedFileError
from genmodels.run_files import CHECKPOINT, INFERENCE, PREVIOUS
from genmodels.tensor_checks import check_tensors, non_finite

log = logging.getLogger(__name__)

FORMAT = 3
# Packages of the classes that a checkpoint may name
BUILDABLE = ("genmodels.models", "genmodels.likelihoods")


@dataclass(frozen=True)
class Checkpoint:
    """A training state: what its owners need to go on from `step` as if they had never stopped."""

    step: int
    states: dict[str, Any]
    model: dict[str, Any]  # the model's configuration, for `rebuild`


class CheckpointWriter:
    """Writes the checkpoints of one run."""

    def __init__(self, folder: Path, model: dict[str, Any], about: dict[str, Any]) -> None:
        """Arguments:
        folder: of the run.
        model: the model's configuration, for `rebuild`.
        about: what model.safetensors says of the run besides its step.
        """
        self.folder = folder
        self._model = model
        self._about = about

    def save(self, step: int, states: dict[str, Any]) -> None:
        """Write checkpoint.pt with these states of the training.

        Raises ArithmeticError, and writes nothing, where one is not finite.
        """
        _require_finite(step, states)
        save(self.folder, Checkpoint(step, states, self._model))

    def export(self, step: int, model: nn.Module) -> None:
        """Write model.safetensors with the weights of the model for inference.

        Raises ArithmeticError, and writes nothing, where one is not finite.
        """
        _require_finite(step, model.state_dict())
        export(self.folder / INFERENCE, model, self._model, self._about | {"step": step})

    def load_exported(self, model: nn.Module) -> None:
        """Load the weights of model.safetensors into a model."""
        tensors, _ = safetensors_io.load(self.folder / INFERENCE)
        model.load_state_dict(tensors)


def _require_finite(step: int, states: Mapping[str, Any]) -> None:
    name = next(non_finite(states), None)
    if name is not None:
        raise ArithmeticError(
            f"step {step}: {name} is not finite. Nothing was saved; checkpoints of earlier steps "
            "stay. Try a smaller lr or weight_decay"
        )


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write checkpoint.pt; the one before stays beside it as checkpoint.previous.pt.

    The new file is read back before it takes its place: at every moment there is a whole
    checkpoint.
    """
    content = {
        "format": FORMAT,
        "step": checkpoint.step,
        "states": checkpoint.states,
        "model": checkpoint.model,
    }
    path, previous = folder / CHECKPOINT, folder / PREVIOUS
    with files.atomic_write(path, verify=_read, previous=previous) as temporary:
        torch.save(content, temporary)


def latest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run, or None where there is none yet; see `restore`."""
    return restore(folder, lambda _: None)


def restore(folder: Path, load: Callable[[Checkpoint], None]) -> Checkpoint | None:
    """Load the newest whole checkpoint of a run, and return it; None where there is none yet.

    A damaged one is passed over with a warning. Raises DamagedFileError where all of them are.

    Arguments:
    folder: of the run.
    load: gives the states to those who need them; whatever it raises means that they do not fit.
    """
    damaged = []
    for path in (folder / CHECKPOINT, folder / PREVIOUS):
        try:
            checkpoint = _read(path)
            with files.reading(path, "its training state does not fit this run"):
                load(checkpoint)
            return checkpoint
        except FileNotFoundError:
            continue
        except DamagedFileError as error:
            damaged.append(str(error))
            log.warning("%s: trying the one before it", error)
    if damaged:
        problems = "; ".join(damaged)
        raise DamagedFileError(f"{problems}. No checkpoint is left; overwrite=true starts over")
    return None


def start_from(
    folder: Path, model: Mapping[str, Any], load: Callable[[dict[str, Any]], None]
) -> None:
    """Load the trainer's state of another run, to start a new one from.

    Raises ValueError where there is none, or the other run's model is another one.

    Arguments:
    folder: of the other run.
    model: the configuration of this run's model.
    load: gives the state to the trainer.
    """
    newest = latest(folder)
    if newest is None:
        raise ValueError(f"init_from={folder}: no {CHECKPOINT} there")
    keys = newest.model.keys() | model.keys()
    different = sorted(key for key in keys if newest.model.get(key) != model.get(key))
    if different:
        raise ValueError(f"init_from={folder}: its model differs in {', '.join(different)}")
    restore(folder, lambda checkpoint: load(checkpoint.states["trainer"]))


def export(path: Path, model: nn.Module, config: dict[str, Any], about: dict[str, Any]) -> None:
    """Write weights for inference with what rebuilds their module.

    Arguments:
    path: of the file.
    model: whose weights are written.
    config: of the model, or of what it is a part of, such as a generator of its GAN.
    about: how the weights came to be.
    """
    metadata = {"format": FORMAT, "model": config_of(model, config), "about": about}
    safetensors_io.save(path, model.state_dict(), metadata)


def config_of(model: nn.Module, config: Mapping[str, Any]) -> dict[str, Any]:
    """What `rebuild` makes a model from: its arguments, out of the configuration of the whole."""
    kind = type(model)
    names = inspect.signature(kind).parameters
    arguments = {key: value for key, value in config.items() if key in names}
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}"} | arguments


def load(run: str | Path, device: str | torch.device = "cpu") -> Any:
    """The trained model of a run, of any family: a GenerativeModel has `sample`.

    run: a run folder, a model.safetensors, zoo:NAME, or wandb:entity/project/name:alias. The model
    is ready for inference: averaged weights, evaluation mode. Raises ValueError where it is none of
    these.
    """
    return open_run(run, device)[0]


def open_run(
    run: str | Path, device: str | torch.device = "cpu"
) -> tuple[nn.Module, dict[str, Any]]:
    """A trained model, and what its file says of it: run name, step, settings of the training."""
    path = _locate(str(run))
    tensors, metadata = safetensors_io.load(path)
    if metadata.get("format") != FORMAT:
        raise DamagedFileError(
            f"{path}: format {metadata.get('format')}, not {FORMAT}: no checkpoint of this project"
        )
    with files.reading(path, "its model cannot be loaded"):
        tensors = {name: _widened(tensor) for name, tensor in tensors.items()}
        model = _with_weights(metadata["model"], tensors).to(device)
        about = dict(metadata["about"])
    # as in training: decodes 1.7 times as fast
    model = model.to(memory_format=torch.channels_last)
    return model.eval().requires_grad_(False), about


def _widened(tensor: Tensor) -> Tensor:
    """float16, of the zoo, as float32."""
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _with_weights(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The model of a configuration with these weights.

    A configuration of a stranger may ask for any size: what it builds is first built without
    memory, and compared with the weights.
    """
    with torch.device("meta"):
        expected = rebuild(config).state_dict()
    check_tensors(tensors, expected)
    model = rebuild(config)
    model.load_state_dict(tensors)
    return model


def rebuild(config: Mapping[str, Any]) -> nn.Module:
    """Build the module that a configuration names by `_target_` and arguments.

    Arguments may be such configurations themselves. Only nn.Module classes defined in BUILDABLE are
    imported and called; anything else raises ValueError. Models for training are built in the same
    way, so that what trains can be loaded again.
    """
    kind = _model_class(str(config.get("_target_")))
    arguments: dict[str, Any] = {}
    for key, value in config.items():
        if key != "_target_":
            arguments[key] = rebuild(value) if isinstance(value, Mapping) else value
    return kind(**arguments)


def _model_class(target: str) -> type[nn.Module]:
    module_name, _, name = target.rpartition(".")
    if not any(module_name == home or module_name.startswith(f"{home}.") for home in BUILDABLE):
        raise ValueError(f"_target_={target}: must be a class of {' or '.join(BUILDABLE)}")
    try:
        kind = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError):
        raise ValueError(f"_target_={target}: no such class") from None
    is_module = isinstance(kind, type) and issubclass(kind, nn.Module)
    if not is_module or kind.__module__ != module_name:
        raise ValueError(f"_target_={target}: not a model class defined there")
    return kind


def _read(path: Path) -> Checkpoint:
    with files.reading(path, "not a whole checkpoint of this project"):
        # torch.save's zip has checksums, which torch.load does not read
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise DamagedFileError(f"{path}: damaged ({broken})")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise DamagedFileError(f"{path}: format {content['format']}, not {FORMAT}")
        step, states, model = content["step"], content["states"], content["model"]
        if type(step) is not int or type(states) is not dict or type(model) is not dict:
            raise TypeError("step, states and model must be an integer and two mappings")
        return Checkpoint(step, states, model)


def _locate(run: str) -> Path:
    if run.startswith("wandb:"):
        return _download(run.removeprefix("wandb:"))
    return run_lookup.locate(run)


def _download(artifact: str) -> Path:
    import wandb  # slow to import, and rarely needed

    try:
        return Path(wandb.Api().artifact(artifact).download()) / INFERENCE
    except Exception as error:  # wandb raises many kinds: no key, no network, no such artifact
        raise ValueError(f"checkpoint=wandb:{artifact}: cannot be fetched ({error})") from None
