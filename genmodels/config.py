"""What a run is called, which of its settings change its numbers, and the configuration that it keeps."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from genmodels import files, run_files
from genmodels.errors import require
from genmodels.legal import UserError, is_a, leaves, plain, show

if TYPE_CHECKING:
    from genmodels.data.images import ImageSpec

CONF = Path(__file__).parent.parent / "conf"
NAMED = {
    "kl_weight": "kl",
    "seed": "seed",
}  # settings that a run's name shows, with how it says them
NAMED_CHOICES = {
    "model": "",
    "objective": "elbo",
    "kl_schedule": "",  # and groups, with what goes without saying
    "adversarial_loss": "relativistic",
}
DATA_DETAILS = ("dataset.split", "dataset.attribute")  # what is said of the data besides their name
# Settings that leave the numbers as they are
NEUTRAL = (
    "device",
    "evaluate_every",
    "checkpoint_every",
    "overwrite",
    "preview",
    "wandb",
    "sweep_metric",
    "dataset.root",
    "dataset.download",
    "dataset.keep_raw",
    "dataset.cache",
)


def numbers(config: Mapping) -> dict[str, Any]:
    """The settings that change a run's numbers, flat, without machine, folders, wandb and cadence."""
    neutral = (
        NEUTRAL if config.get("select") else (*NEUTRAL, "features", "select")
    )  # these only watch, then
    return {
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in leaves(config)
        if not key.startswith(("hydra.", "choices."))
        and key not in neutral
        and key.split(".")[0] not in neutral
    }


def run_name(config: Mapping, choices: Mapping[str, str]) -> str:
    """A short readable part and six hex digits over `numbers`: the same settings always have the same name.

    Hydra asks for it before the data are looked at: likelihood=auto has another one than what it then stands for.
    """
    parts = [data_name(dict(leaves(config)), choices)]
    parts += [
        choices[group]
        for group, usual in NAMED_CHOICES.items()
        if (choices.get(group) or usual) != usual
    ]
    parts += [
        f"{word}{config[key]:g}" if is_a(config[key], float) else f"{word}{config[key]}"
        for key, word in NAMED.items()
        if key in config
    ]
    return clean("-".join(parts)) + "-" + digest(numbers(config))


def data_name(settings: Mapping, choices: Mapping[str, str]) -> str:
    """What the data are called, from flat settings: the choice, or a folder's own name; a split or attribute after it.

    Neither holds anything of the folder that they lie in, which is another one on another machine.
    """
    details = [settings[key] for key in DATA_DETAILS if settings.get(key) is not None]
    return "-".join(
        [clean(str(settings.get("dataset.name") or choices.get("dataset", "")))[:40], *details]
    )


def digest(value: object) -> str:
    """Six hex digits of a json-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]


def clean(name: str) -> str:
    """A file name that pastes unquoted: letters, digits, dot (not first), underscore and hyphen."""
    return re.sub(r"[^A-Za-z0-9._-]+|^\.+", "_", name)


def _name_of_root(_root_: DictConfig) -> str:
    return run_name(without_hydra(_root_), _root_.hydra.runtime.choices)


def without_hydra(cfg: DictConfig) -> dict[str, Any]:
    """The resolved settings of a configuration that holds Hydra's own, too."""
    return plain(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))


def _folder_name(folder: str) -> str:
    return Path(folder).resolve().name or "pictures"


OmegaConf.register_new_resolver("run_name", _name_of_root, replace=True)
OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)


def settle(cfg: DictConfig, spec: "ImageSpec") -> dict[str, str]:
    """Tell the model what it must know of its data: the images' shape, the number of classes if it asks, and what
    likelihood=auto stands for. Returns the choices that this made, for `record`.

    Raises UserError where the model asks for classes and the data have no labels, ValueError for no likelihood.
    """
    cfg.model.image_shape = spec.image_shape
    if "num_classes" in list(cfg.model):  # "in" itself does not see what is still missing
        if not spec.num_classes:
            model = HydraConfig.get().runtime.choices["model"]
            raise UserError(f"model={model}: needs labels, but {spec.name} has none")
        cfg.model.num_classes = spec.num_classes
    return _settle_likelihood(cfg, _kind(spec.image_shape))


def _settle_likelihood(cfg: DictConfig, kind: str) -> dict[str, str]:
    """Put what likelihood=auto names for gray images or for colours in its place."""
    if "_target_" in cfg.get("likelihood", {"_target_": None}):
        return {}
    name, paths = (
        cfg.likelihood[kind],
        {path.stem: path for path in sorted((CONF / "likelihood").glob("*.yaml"))},
    )
    concrete = [choice for choice in paths if choice != "auto"]
    require(name in concrete, kind, name, f"one of {', '.join(concrete)}")
    cfg.likelihood = OmegaConf.load(paths[name])
    return {"likelihood": name}


def _kind(image_shape: Sequence[int]) -> str:
    return "gray" if image_shape[0] == 1 else "colour"


def _usual_likelihood(settings: Mapping) -> str:
    """What likelihood=auto stands for with the images of these flat settings."""
    auto = cast(DictConfig, OmegaConf.load(CONF / "likelihood/auto.yaml"))
    return str(auto[_kind(settings["model.image_shape"])])


def record(cfg: DictConfig, settled: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The resolved configuration with the group choices that made it, also those that were settled later: what
    config.yaml holds."""
    config = plain(cfg)
    choices = {
        group: choice
        for group, choice in HydraConfig.get().runtime.choices.items()
        if choice is not None and not str(group).startswith("hydra/")
    }
    return config | {
        "choices": {str(group).partition("@")[0]: choice for group, choice in choices.items()}
        | dict(settled or {})
    }


def sweep_name() -> str | None:
    """The folder's name of the sweep that this job belongs to, None for a single run."""
    hydra = HydraConfig.get()
    return Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None


def save(folder: Path, settings: Mapping) -> None:
    """Write config.yaml."""
    files.write_text(folder / run_files.CONFIG, OmegaConf.to_yaml(OmegaConf.create(dict(settings))))


def read(folder: Path) -> dict[str, Any]:
    """What config.yaml of a run folder says, {} where there is none."""
    path = folder / run_files.CONFIG
    return plain(cast(DictConfig, OmegaConf.load(path))) if path.exists() else {}


def refuse_other_settings(folder: Path, settings: Mapping) -> None:
    """Raise UserError where the folder holds a run with other numbers-changing settings, naming them."""
    if (folder / run_files.CONFIG).exists():
        before, now = numbers(read(folder)), numbers(settings)
        other = [
            f"{key} ({show(before.get(key))} there, {show(now.get(key))} now)"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        ]
        if other:
            raise UserError(
                f"{folder} holds a run with other settings: {', '.join(other[:6])}. "
                "Choose another hydra.run.dir, or overwrite=true to lose that run"
            )


def refuse_other_data(folder: Path, before: str | None, now: str) -> None:
    """Raise UserError where a run began with other images than those that are there now."""
    if before not in (None, now):
        raise UserError(
            f"{folder} began with other data (checksum {before}, now {now}). Put those back, choose "
            "another hydra.run.dir, or overwrite=true to lose that run"
        )


def price(about: Mapping) -> float | None:
    """The KL weight of a run, if it is what a nat of code costs: under the plain objective. Others make their own."""
    plainly = about["choices"].get("objective", "elbo") == "elbo"
    return about["settings"].get("kl_weight") if plainly else None


def caption(about: Mapping, step: int) -> str:
    """Data set, model, KL weight, seed and step in one line, as far as there are such, for under a picture; objective
    and likelihood where they are not the usual ones."""
    settings, choices = about["settings"], about["choices"]
    parts = [data_name(settings, choices), choices["model"]]
    if dimensions := settings.get("model.latent_dim"):
        parts.append(f"{dimensions} latent dimension{'' if dimensions == 1 else 's'}")
    if choices.get("objective", "elbo") != "elbo":
        parts.append(f"objective {choices['objective']}")
    if "adversarial_loss" in choices:
        parts.append(f"{choices['adversarial_loss']} loss")
    if (
        likelihood := choices.get("likelihood", "auto")
    ) != "auto" and likelihood != _usual_likelihood(settings):
        parts.append(f"likelihood {likelihood}")
    if "kl_weight" in settings:
        parts.append(f"KL weight {settings['kl_weight']:g} ({choices['kl_schedule']})")
    return " \N{MIDDLE DOT} ".join([*parts, f"seed {settings['seed']}", f"step {step}"])


def wandb_id(known: str | None) -> str | None:
    """The id to give to wandb: that of its agent, which takes no other, or else the run's so far."""
    return os.environ.get("WANDB_RUN_ID", known) if "WANDB_SWEEP_ID" in os.environ else known


def wandb_mode(mode: str | None) -> str | None:
    """The mode to give to wandb: the setting, else WANDB_MODE; None where it is disabled."""
    mode = mode or os.environ.get("WANDB_MODE", "disabled")
    return None if mode == "disabled" else mode
