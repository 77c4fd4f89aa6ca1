"""The files of infer.py: what another call made or measured in another way stays.

Settings that are not the default are in a file's name: `samples-temperature0.8-seed1.png`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from genmodels import files
from genmodels.composition import CONF
from genmodels.formatting import format_setting
from genmodels.run_name import clean
from genmodels.settings import InferSettings

RESULTS = Path("results")
# Settings that change figures besides how many images they have, and metrics
OF_FIGURES = ("temperature", "density", "components", "labels", "seed")
OF_REGION = ("center", "stddev")  # of figures=[region] besides
OF_METRICS = ("split", "samples", "features", "k", "density", "components", "seed")


def folder_of(name: str, settings: InferSettings, alone: bool) -> Path:
    """Where the results of a model go.

    Arguments:
    name: of the model's run.
    settings: `out` is the folder of the only model, or holds a folder for each of several.
    alone: whether there is only this model.
    """
    if settings.out is None:
        return RESULTS / name
    return Path(settings.out) if alone else Path(settings.out) / name


def figure_file(settings: InferSettings, figure: str) -> str:
    """The name of a figure's files without their ending."""
    names = OF_FIGURES + OF_REGION if figure == "region" else OF_FIGURES
    return figure + _not_default(settings, names)


def metrics_file(settings: InferSettings) -> str:
    """The name of the file of metrics."""
    return f"metrics{_not_default(settings, OF_METRICS)}.json"


def _not_default(settings: InferSettings, names: Iterable[str]) -> str:
    """The settings of these names that are not the default, as the end of a file's name."""
    defaults = cast(DictConfig, OmegaConf.load(CONF / "infer.yaml"))
    parts = []
    for name in names:
        value = getattr(settings, name)
        is_used = name != "components" or settings.density != "prior"
        if value != defaults[name] and is_used:
            values = value if isinstance(value, list) else [value]
            parts.append(f"-{name}{'_'.join(map(_format, values))}")
    return "".join(parts)


def _format(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else clean(format_setting(value))


def merge_metrics(path: Path, numbers: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
    """Write metrics.json; metrics that an earlier call measured of the same weights stay.

    Arguments:
    path: of the file.
    numbers: the run and its step, how it was measured, and the metrics.
    seconds: that each metric took.
    """
    before = files.read_json(path)
    if any(before.get(key) != numbers[key] for key in ("checkpoint", "step")):
        before = {}
    time = {**before.get("time", {}), **seconds}
    files.write_json(path, {**before, **numbers, "time": time})
