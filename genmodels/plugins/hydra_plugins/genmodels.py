"""The sweepers `fraction` and `leave_one_out`.

Hydra accepts plugins of the namespace package hydra_plugins alone.
"""

import itertools
import math
from abc import abstractmethod
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


class PointsSweeper(Sweeper):
    """Runs some points of the swept grid, each with every seed."""

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        """Arguments:
        params: what is swept besides the command line's.
        """
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

        Raises what the first one that failed raised, and UserError for points that cannot be.
        """
        assert self.launcher is not None
        planned = [f"{key}={value}" for key, value in self.params.items()]
        values: dict[str, list[str]] = {}
        for override in OverridesParser.create().parse_overrides([*planned, *arguments]):
            values[override.get_key_element()] = _values(override)  # the last of a key counts
        seeds = [[f"seed={seed}"] for seed in values.pop("seed", [])] or [[]]
        points = []
        for point in self.points_of(values):
            points.append([f"{key}={value}" for key, value in zip(values, point, strict=True)])
        jobs = [[*point, *seed] for seed, point in itertools.product(seeds, points)]
        results = self.launcher.launch(jobs, initial_job_idx=0)
        return [result.return_value for result in results]

    @abstractmethod
    def points_of(self, values: Mapping[str, Sequence[str]]) -> Iterable[Sequence[str]]:
        """The points to run: a value for each setting, in their order.

        Raises UserError where these values do not allow it.
        """


class FractionSweeper(PointsSweeper):
    """Runs a fraction of the grid instead of all of it (`fractional_design`)."""

    def __init__(
        self,
        points: int,
        resolution: int = 3,
        interacting: Sequence[str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Arguments:
        points: of the grid; a grid that has no more is run in full.
        resolution: which effects the points tell apart; 3, 4 or 5.
        interacting: at resolution 4, the settings whose interactions with one another are told
            apart too.
        params: what is swept besides the command line's.
        """
        super().__init__(params)
        self.points = points
        self.resolution = resolution
        self.interacting = interacting or []

    def points_of(self, values: Mapping[str, Sequence[str]]) -> Iterable[Sequence[str]]:
        """The points of the design."""
        from genmodels.d_optimal import fractional_design  # numpy

        counts = [len(levels) for levels in values.values()]
        interacting = self._interacting_columns(list(values))
        self._check(counts)
        if math.prod(counts) <= self.points:
            return itertools.product(*values.values())
        try:
            design = fractional_design(counts, self.points, self.resolution, interacting)
        except ValueError as error:
            raise UserError(f"hydra.sweeper.points={self.points}: {error}; try more") from None
        points = []
        for levels in design:
            names_and_levels = zip(values.values(), levels, strict=True)
            points.append([names[level] for names, level in names_and_levels])
        return points

    def _interacting_columns(self, names: Sequence[str]) -> list[int]:
        """The places of `interacting` among the settings. Raises UserError where one is not."""
        given = f"hydra.sweeper.interacting={format_setting(self.interacting)}"
        if self.interacting and self.resolution != 4:
            raise UserError(f"{given}: needs hydra.sweeper.resolution=4")
        for name in self.interacting:
            if name not in names:
                raise UserError(f"{given}: {name} is not among the settings: {', '.join(names)}")
        return [names.index(name) for name in self.interacting]

    def _check(self, counts: Sequence[int]) -> None:
        """Raise UserError for a resolution or a number of points that cannot be."""
        from genmodels.d_optimal import RESOLUTIONS, least_points

        resolution = f"hydra.sweeper.resolution={format_setting(self.resolution)}"
        if self.resolution not in RESOLUTIONS:
            raise UserError(f"{resolution}: must be 3, 4 or 5")
        mirrored = self.resolution == 4
        if mirrored and max(counts, default=2) > 2:
            raise UserError(f"{resolution}: must be 3 or 5 where a setting has over two values")
        least = least_points(counts, self.resolution, len(self.interacting))
        is_integer = isinstance(self.points, int) and not isinstance(self.points, bool)
        if not is_integer or self.points < least or (mirrored and self.points % 2):
            kind = "an even integer" if mirrored else "an integer"
            raise UserError(
                f"hydra.sweeper.points={format_setting(self.points)}: must be {kind} >= {least}, "
                "to tell the effects of these settings apart"
            )


class LeaveOneOutSweeper(PointsSweeper):
    """Runs all first values, all second values, and these with each setting in turn at its first.

    So it asks what each of several changes is worth beside the others.
    """

    def points_of(self, values: Mapping[str, Sequence[str]]) -> Iterable[Sequence[str]]:
        """The points; a setting with one value has it everywhere."""
        for key, of_setting in values.items():
            if len(of_setting) > 2:
                raise UserError(f"{key}: must have two values, without and with the change")
        without = [of_setting[0] for of_setting in values.values()]
        changed = [of_setting[-1] for of_setting in values.values()]
        points = [without, changed]
        for index, value in enumerate(without):
            point = changed.copy()
            point[index] = value
            if point not in points:
                points.append(point)
        return points


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.get_value_element_as_str()]
