"""Which jobs a sweep has, and where they go: what Hydra calls where train.py is called with -m."""

import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from genmodels import run_files, torchrun
from genmodels.command_line import MULTIRUN, explain
from genmodels.composition import group_choices, to_dict, without_hydra
from genmodels.run_name import clean, data_name, digest, number_settings
from genmodels.user_errors import UserError

MAX_NAME = 80
MAX_GRID = 64  # jobs that are all checked before the first one trains: 0.15 s for each
# Where Hydra finds the namespace package hydra_plugins of this project
sys.path.append(str(Path(__file__).parent / "plugins"))


class SweepFolder(Callback):
    """Names the folder of a sweep by what is swept and by the settings that are not.

    So the same command finds its finished jobs again, also with another weight in its list.
    """

    current: Path | None = None  # of the sweep that this process runs

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Set hydra.sweep.dir for the sweep and, as an override, its jobs, unless the user did."""
        overrides = config.hydra.overrides.hydra
        if not any(override.startswith("hydra.sweep.dir=") for override in overrides):
            folder = f"{config.hydra.sweep.dir}/{sweep_name(config)}"
            config.hydra.sweep.dir = folder
            overrides.append(f"hydra.sweep.dir={folder}")
        SweepFolder.current = Path(config.hydra.sweep.dir)


def check_jobs(arguments: Sequence[str]) -> None:
    """Raise UserError for the first setting that a job of a sweep would refuse; nothing trains yet.

    Tries every job of a grid of up to MAX_GRID; of larger ones, and where a sweeper chooses the
    jobs, each value beside the first values of the others: those of the command line, then those
    that a yaml plans (hydra.sweeper.params). Does nothing without -m.

    Arguments:
    arguments: of the command line.
    """
    if not set(MULTIRUN).intersection(arguments):
        return
    if torchrun.processes() > 1:
        raise UserError("-m: torchrun trains one run; a launcher spreads a sweep over machines")
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    given = [override.key_or_group for override in parsed]
    swept = _swept_values(overrides)
    fixed = [text for text in overrides if text.partition("=")[0] not in swept]
    sweeper = _check([*fixed, *_overrides(_first(swept))]).hydra.sweeper
    planned = sweeper.get("params") or {}
    swept |= _swept_values([f"{key}={planned[key]}" for key in planned if key not in given])
    jobs = _one_changed(swept)
    if _is_grid(sweeper) and math.prod(map(len, swept.values())) <= MAX_GRID:
        points = itertools.product(*swept.values())
        jobs = [dict(zip(swept, point, strict=True)) for point in points]
    for job in jobs:
        if job != _first(swept):
            _check([*fixed, *_overrides(job)])


def _is_grid(sweeper: DictConfig) -> bool:
    """Whether a sweeper runs every combination of the values: Hydra's own does."""
    return sweeper._target_.endswith(".BasicSweeper")


def _first(swept: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The first value of each setting."""
    return {key: values[0] for key, values in swept.items()}


def _one_changed(swept: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """The first values with each other value of one setting in its place."""
    jobs = []
    for key, values in swept.items():
        jobs += [_first(swept) | {key: value} for value in values[1:]]
    return jobs


def _overrides(job: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in job.items()]


def _swept_values(overrides: Sequence[str]) -> dict[str, list[str]]:
    """The values of each setting that is swept."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return {
        override.key_or_group: _values(override)
        for override in parsed
        if override.is_sweep_override()
    }


def _check(job: Sequence[str]) -> DictConfig:
    from genmodels.training import check_settings  # imports torch

    try:
        return check_settings(job)
    except HydraException as error:
        raise UserError(explain(error, "train", job)) from None


def _values(override: Override) -> list[str]:
    """The values that a sweep tries; of an interval its ends."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    return list(override.sweep_string_iterator())


def sweep_name(config: DictConfig) -> str:
    """Data, model and experiment, if they are not swept; what is swept, as far as the experiment
    does not say; a digest."""
    overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    asked = {override.key_or_group for override in overrides if override.is_sweep_override()}
    planned = set(config.hydra.sweeper.get("params") or {})
    swept = sorted(asked | planned)
    choices = group_choices(config.hydra.runtime.choices)
    own = without_hydra(config)
    data = {f"dataset.{key}": value for key, value in to_dict(own.dataset).items()}
    names = {"dataset": data_name(data, choices), "model": choices["model"]}
    parts = [name for group, name in names.items() if group not in swept]
    if planned and "experiment" in choices:
        parts += [choices["experiment"], *sorted(asked)]
    else:
        parts += swept
    settings = number_settings(to_dict(own, resolve=False))
    fixed = {key: value for key, value in settings.items() if key not in swept}
    return f"{clean('-'.join(parts))[:MAX_NAME]}-{digest([fixed, swept])}"


def write_report() -> None:
    """At the end of a sweep, also of one in which jobs failed: a table, and report.html."""
    folder = SweepFolder.current
    if folder is not None and any(folder.glob(f"*/{run_files.SUMMARY}")):
        from genmodels.report.write import write  # imports matplotlib

        write([folder])
