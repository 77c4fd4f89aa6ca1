"""The sweeper `fraction`. Hydra accepts plugins of the namespace package hydra_plugins alone."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from genmodels.formatting import format_setting
from genmodels.user_errors import UserError


class FractionSweeper(Sweeper):
    """Runs some points of the grid instead of all, each with every seed, chosen for main effects.

    Interactions are not identifiable from so few points.
    """

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


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]
