"""Which jobs a sweep has, and where they go: what Hydra calls where train.py is called with -m."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from genmodels import run_files
from genmodels.composition import group_choices, to_dict, without_hydra
from genmodels.formatting import format_setting
from genmodels.run_name import clean, data_name, digest, number_settings
from genmodels.user_errors import UserError

MAX_NAME = 80


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


class FractionSweeper(Sweeper):
    """Runs some points of the grid instead of all, each with every seed, chosen for main effects.

    Interactions are not identifiable from so few points.
    """

    __module__ = "hydra_plugins.genmodels"  # Hydra accepts sweepers of this package alone

    def __init__(self, points: int, params: Mapping[str, str] | None = None) -> None:
        """Arguments:
        points: of the grid; a grid that has no more is run in full.
        params: what is swept besides the command line's.
        """
        self.points = points
        self.params = params or {}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take the launcher that the configuration names."""
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the jobs.

        Raises what the first one that failed raised, and UserError for too few points.
        """
        assert self.launcher is not None
        planned = [f"{key}={value}" for key, value in self.params.items()]
        values: dict[str, list[str]] = {}
        for override in OverridesParser.create().parse_overrides([*planned, *arguments]):
            values[override.get_key_element()] = _values(override)  # the last of a key counts
        seeds = [[f"seed={seed}"] for seed in values.pop("seed", [])] or [[]]
        jobs = []
        for point in self._points(list(values.values())):
            settings = [f"{key}={value}" for key, value in zip(values, point, strict=True)]
            jobs += [settings + seed for seed in seeds]
        results = self.launcher.launch(jobs, initial_job_idx=0)
        return [result.return_value for result in results]

    def _points(self, values: list[list[str]]) -> Iterable[Sequence[str]]:
        from genmodels.d_optimal import fractional_design  # numpy

        effects = 1 + sum(len(levels) - 1 for levels in values)
        is_integer = isinstance(self.points, int) and not isinstance(self.points, bool)
        if not is_integer or self.points < effects:
            raise UserError(
                f"hydra.sweeper.points={format_setting(self.points)}: must be an integer >= "
                f"{effects}, to tell the effects of these settings apart"
            )
        counts = [len(levels) for levels in values]
        if math.prod(counts) <= self.points:
            return itertools.product(*values)
        points = []
        for levels in fractional_design(counts, self.points):
            points.append([names[level] for names, level in zip(values, levels, strict=True)])
        return points


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


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]


Plugins.instance().register(FractionSweeper)
