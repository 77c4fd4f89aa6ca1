"""Which jobs a sweep has, and where they go: what Hydra calls where train.py is called with -m."""

import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from itertools import starmap
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from genmodels.config import clean, data_name, digest, numbers, without_hydra
from genmodels.legal import UserError, is_a, show


class SweepFolder(Callback):
    """Names the folder of a sweep, once for all of its jobs, by what is swept and by the settings that are not.

    So the same command finds its finished jobs again, and so does one with another weight in its list.
    """

    current: Path | None = None  # of the sweep that this process runs

    def on_multirun_start(self, config: DictConfig, **_: object) -> None:
        """Set hydra.sweep.dir, for the sweep and, as an override, for its jobs, unless the user did."""
        if not any(
            override.startswith("hydra.sweep.dir=") for override in config.hydra.overrides.hydra
        ):
            folder = f"{config.hydra.sweep.dir}/{_name(config)}"
            config.hydra.sweep.dir = folder
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir={folder}")
        SweepFolder.current = Path(config.hydra.sweep.dir)


class FractionSweeper(Sweeper):
    """Runs some points of the grid instead of all, each of them with every seed, chosen for main effects.

    What settings do only together cannot be told from so few.
    """

    __module__ = "hydra_plugins.genmodels"  # see _register

    def __init__(self, points: int, params: dict[str, str] | None = None) -> None:
        """points: of the grid; one that has no more is run in full. params: what is swept besides the command line's."""
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
        """Launch the jobs; raises what the first one that failed raised, and UserError for too few points."""
        assert self.launcher is not None
        parsed = OverridesParser.create().parse_overrides(
            [*starmap("{}={}".format, self.params.items()), *arguments]
        )
        values = {
            override.get_key_element(): _values(override) for override in parsed
        }  # the last of a key counts
        seeds = [[f"seed={seed}"] for seed in values.pop("seed", [])] or [[]]
        jobs = [
            [f"{key}={value}" for key, value in zip(values, point, strict=True)] + seed
            for point in self._points(list(values.values()))
            for seed in seeds
        ]
        return [job.return_value for job in self.launcher.launch(jobs, initial_job_idx=0)]

    def _points(self, values: list[list[str]]) -> Iterable[Sequence[str]]:
        from genmodels.d_optimal import fraction

        effects = 1 + sum(len(of_one) - 1 for of_one in values)
        if not is_a(self.points, int) or self.points < effects:
            raise UserError(
                f"hydra.sweeper.points={show(self.points)}: must be an integer >= {effects}, to tell the "
                "effects of these settings apart"
            )
        if math.prod(map(len, values)) <= self.points:
            return itertools.product(*values)
        return [
            [of_one[level] for of_one, level in zip(values, point, strict=True)]
            for point in fraction([len(of_one) for of_one in values], self.points)
        ]


def _values(override: Override) -> list[str]:
    return (
        list(override.sweep_string_iterator())
        if override.is_sweep_override()
        else [override.get_value_element_as_str()]
    )


def _name(config: DictConfig) -> str:
    """Data, model and experiment, if they are not swept; what is, as far as the experiment does not say; a digest."""
    parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
    asked = {override.key_or_group for override in parsed if override.is_sweep_override()}
    planned = set(config.hydra.sweeper.get("params") or {})
    swept = sorted(asked | planned)
    choices, settings = config.hydra.runtime.choices, numbers(without_hydra(config))
    names = {"dataset": data_name(settings, choices), "model": choices["model"]}
    parts = [name for group, name in names.items() if group not in swept]
    parts += [choices["experiment"], *sorted(asked)] if planned and choices["experiment"] else swept
    fixed = {key: value for key, value in settings.items() if key not in swept}
    return f"{clean('-'.join(parts))[:80]}-{digest([fixed, swept])}"


def _register() -> None:
    """Hydra takes plugins of the package hydra_plugins alone, if there is one: ours is given to it under that name."""
    plugins = (
        Plugins.instance()
    )  # has looked for installed ones, and imported the package if there are some
    package = sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    vars(package)["genmodels"] = sys.modules[__name__]
    plugins.register(FractionSweeper)


_register()
