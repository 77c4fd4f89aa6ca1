"""What a setting may be, and how a configuration becomes the settings of a run.

`resolve` is the one place where a configuration is read: it fills in what depends on the data and
the machine, checks everything, and gives settings that nobody changes afterwards.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from annotated_types import Ge, Gt, Le, Len
from omegaconf import DictConfig, OmegaConf
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from genmodels import files, hardware, run_files, wandb_mirror
from genmodels.composition import CONF, to_dict
from genmodels.data.images import ImageSpec
from genmodels.formatting import format_setting
from genmodels.quantities import QUANTITIES
from genmodels.user_errors import UserError
from genmodels.validation import DEVICE_PATTERN, FINAL_METRIC_PATTERN, check_type, validate

ANY_SPEC = ImageSpec("any", (1, 28, 28), tuple("0123456789"))  # to check settings before the data

NODES = ("dataset", "model", "trainer", "augment", "wandb")  # that hold other settings

# The one in C is ten times as fast, and not everywhere
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

PositiveInt = Annotated[int, Ge(1)]
Threads = Annotated[int, Ge(1), Le(1024)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
PositiveFloat = Annotated[float, Gt(0), Field(allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Ge(0), Field(allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
Device = Annotated[str, StringConstraints(pattern=DEVICE_PATTERN)]
FinalMetric = Annotated[str, StringConstraints(pattern=FINAL_METRIC_PATTERN)]
Features = Literal["classifier", "pixels", "inception"]


def _as_list(value: Any) -> Any:
    """A list of one name, where only that is given; an empty one for "none"."""
    if value == "none":
        return []
    if value == "none":
        return []
    return [value] if isinstance(value, str) and value != "all" else value


Names = Annotated[list[str] | Literal["all"], BeforeValidator(_as_list)]
Node = dict[str, Any]  # names a class or function by _target_


class WandbSettings(BaseModel):
    """The node `wandb`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    mode: Literal["offline", "online", "disabled"] | None
    project: str
    entity: str | None
    group: str | None
    tags: list[str]
    notes: str | None
    timeout: PositiveFloat


class TrainSettings(BaseModel):
    """The settings of train.py; what is not named here must be a node."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    epochs: PositiveInt
    max_steps: PositiveInt | None
    batch_size: Annotated[int, Ge(1), Le(65_536)]
    seed: Seed
    lr: PositiveFloat
    kl_weight: NonNegativeFloat | None = None
    init_from: str | None
    device: Device
    threads: Threads | None
    precision: Literal["auto", "fp32", "bf16"]
    compile: bool
    deterministic: bool
    evaluate_every: PositiveInt | None
    checkpoint_every: PositiveInt | None
    features: Features | None
    select: str | None
    sweep_metric: FinalMetric
    figures: Names | None
    overwrite: bool
    preview: bool
    doctor: bool
    wandb: WandbSettings
    dataset: Node
    augment: Node
    model: Node
    trainer: Node
    choices: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain nested values, as config.yaml has them."""
        return self.model_dump(exclude_unset=True)


class DataSettings(BaseModel):
    """The node `dataset` of infer.py."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    root: str
    cache: str


class InferSettings(BaseModel):
    """The settings of infer.py."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    checkpoint: str | Annotated[list[str], Len(1)]
    out: str | None
    figures: Names | None
    format: Literal["png", "pdf", "svg"]
    metrics: Names | None
    n: Annotated[int, Ge(1), Le(100_000)]
    temperature: NonNegativeFloat
    density: str
    components: Annotated[int, Ge(1), Le(1000)]
    center: Annotated[list[FiniteFloat], Len(1)] | None
    stddev: NonNegativeFloat
    labels: Annotated[list[Annotated[int, Ge(0)]], Len(1)] | None
    seed: Seed
    split: Literal["train", "validation", "test"]
    samples: Annotated[int, Ge(2), Le(1_000_000)]
    features: Features | None
    k: Annotated[int, Ge(1), Le(100_000)]
    device: Device
    threads: Threads | None
    dataset: DataSettings

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_was_not_asked_for(cls, values: Node) -> Node:
        """Who asks for figures alone gets no metrics, and the other way round."""
        kinds = ("figures", "metrics")
        asked = [kind for kind in kinds if values.get(kind) not in (None, "none", [])]
        if len(asked) == 1:
            values = values | {kind: [] for kind in kinds if kind not in asked}
        return values


def resolve(cfg: DictConfig, choices: Mapping[str, str], spec: ImageSpec) -> TrainSettings:
    """The settings of a run: concrete numbers and names, checked.

    Arguments:
    cfg: the configuration of train.py; it is left as it is.
    choices: of the groups, such as {"model": "vae"}.
    spec: of the data, from which image shape, classes and likelihood are filled in.

    Raises UserError for unknown keys, wrong types, values out of range, and a model that needs
    labels where there are none.
    """
    values, filled = fill(cfg, choices, spec)
    settings = validate(TrainSettings, values | {"choices": filled})
    if settings.select is not None and not _can_be_selected(settings.select):
        names = [name for name in QUANTITIES if _can_be_selected(name)]
        raise UserError(f"select={settings.select}: must be one of {', '.join(names)}, null")
    return settings


def fill(
    cfg: DictConfig, choices: Mapping[str, str], spec: ImageSpec
) -> tuple[dict[str, Any], dict[str, str]]:
    """Values and choices of a configuration, with what depends on data and machine filled in."""
    cfg = cfg.copy()
    for key in NODES:
        if not isinstance(cfg[key], DictConfig):
            raise UserError(f"{key}={cfg[key]}: must be settings, such as {key}.<name>=<value>")
    device = hardware.choose_device(check_type("device", cfg.device, Device))
    cfg.device = str(device)
    cfg.precision = hardware.choose_precision(cfg.precision, device)
    cfg.wandb.mode = wandb_mirror.choose_mode(cfg.wandb.mode)
    filled = dict(choices)
    for key in ("image_shape", "num_classes"):
        if key in cfg.model and not OmegaConf.is_missing(cfg.model, key):
            raise UserError(
                f"model.{key}={format_setting(to_dict(cfg.model)[key])}: cannot be set; it is that "
                "of the data set, in models that have it"
            )
    cfg.model.image_shape = spec.image_shape
    if "num_classes" in list(cfg.model):  # "in" itself does not see what is still missing
        if not spec.num_classes:
            why = f": {spec.why_unlabelled}" if spec.why_unlabelled else ""
            raise UserError(
                f"model={choices['model']}: needs labels, but {spec.name} has none{why}"
            )
        cfg.model.num_classes = spec.num_classes
    if filled.get("likelihood") == "auto":
        filled["likelihood"] = likelihood_for(spec.image_shape, cfg.likelihood)
        cfg.likelihood = OmegaConf.load(CONF / f"likelihood/{filled['likelihood']}.yaml")
    return to_dict(cfg), filled


def likelihood_for(image_shape: Sequence[int], auto: Mapping[str, Any]) -> str:
    """The likelihood that likelihood=auto stands for with gray or with colour images."""
    kind = "gray" if image_shape[0] == 1 else "colour"
    names = sorted(path.stem for path in (CONF / "likelihood").glob("*.yaml"))
    names.remove("auto")
    if auto[kind] not in names:
        raise UserError(f"likelihood.{kind}={auto[kind]}: must be one of {', '.join(names)}")
    return str(auto[kind])


def usual_likelihood(image_shape: Sequence[int]) -> str:
    """The likelihood of images of this shape where none is chosen."""
    auto = cast(DictConfig, OmegaConf.load(CONF / "likelihood/auto.yaml"))
    return likelihood_for(image_shape, cast(Mapping[str, Any], auto))


def kept_threads(folder: Path) -> int | None:
    """The threads that a run began with, so that it goes on with the same numbers to the last bit;
    None where the folder does not say."""
    threads = read_settings(folder).get("threads")
    return threads if type(threads) is int and threads > 0 else None


def write_settings(folder: Path, values: Mapping[str, Any]) -> None:
    """Write config.yaml of a run folder."""
    text = OmegaConf.to_yaml(OmegaConf.create(dict(values)))
    files.write_text(folder / run_files.CONFIG, text)


def read_settings(folder: Path) -> dict[str, Any]:
    """What config.yaml of a run folder says, {} where there is none.

    Raises DamagedFileError for a file that `write_settings` did not write.
    """
    path = folder / run_files.CONFIG
    try:
        with files.reading(path, "no settings of a run"):
            return files.as_mapping(_plain_yaml(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def _plain_yaml(text: str) -> Any:
    """What YAML says. Raises ValueError for an alias: repetitions may multiply without end."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, YAML_LOADER)):
        raise ValueError("it holds an alias")
    return yaml.load(text, YAML_LOADER)


def _can_be_selected(name: str) -> bool:
    return name in QUANTITIES and QUANTITIES[name].better != 0
