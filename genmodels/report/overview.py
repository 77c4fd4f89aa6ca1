"""report.png: what the KL weights of a sweep trade, its learning curves, and samples."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from genmodels import files
from genmodels.figures import sweeps
from genmodels.figures.plotting import save
from genmodels.figures.sweeps import RateDistortionCurve
from genmodels.files import DamagedFileError
from genmodels.quantities import quantity
from genmodels.report.cells import format_cell, format_settings
from genmodels.report.runs import VALIDATION, RunRecord, scalar_metrics
from genmodels.report.sweep import Column, SeedGroup, Sweep

log = logging.getLogger(__name__)

TRADED = ("kl", "distortion", "active_units")  # metrics that the KL weight trades
MAX_SHEETS = 8  # settings whose samples are shown; report.html shows all
MAX_COLOURS = 8  # settings that the learning curves tell apart


def draw(sweep: Sweep, path: Path) -> None:
    """Draw report.png, all of it by the validation split."""
    colours = coloured_runs(sweep)
    curves: dict[str, dict[str, list[sweeps.Curve]]] = {}
    for metric in validation_metrics(sweep):
        curves[metric] = {}
        for line, runs in colours.items():
            curves[metric][line] = [run.curve(metric) for run in runs]
    ordered = len(colours) == len(sweep.groups) > 3 and is_one_number(sweep)
    figure = sweeps.overview(
        rate_distortion_curves(sweep), curves, _sample_sheets(sweep), ordered=ordered
    )
    save(figure, path)


def rate_distortion_curves(sweep: Sweep) -> dict[str, RateDistortionCurve]:
    """Where KL weights were swept, a line for each of the other settings."""
    lines: dict[str, list[SeedGroup]] = {}
    for group in sweep.groups:
        others = dict(group.settings)
        weight = others.pop("kl_weight", None)
        if weight is not None and all(group.values(metric) for metric in TRADED):
            lines.setdefault(format_settings(others), []).append(group)
    curves = {}
    for name, groups in lines.items():
        if len(groups) > 1:
            weights = [float(group.settings["kl_weight"]) for group in groups]
            estimates = [_estimates(groups, metric) for metric in TRADED]
            curves[name] = RateDistortionCurve(np.array(weights), *estimates)
    return curves


def _estimates(groups: Sequence[SeedGroup], metric: str) -> np.ndarray:
    """Means and standard deviations, (2, N)."""
    means = [group.mean(metric) for group in groups]
    deviations = [group.standard_deviation(metric) for group in groups]
    return np.array([means, deviations])


def validation_metrics(sweep: Sweep) -> list[str]:
    """The metrics with learning curves."""
    names: dict[str, None] = {}
    for run in sweep.runs:
        for row in run.rows:
            names |= dict.fromkeys(scalar_metrics(row.get("validation", {})))
    return [name for name in names if not quantity(name).table_only] or ["elbo"]


def coloured_runs(sweep: Sweep) -> dict[str, list[RunRecord]]:
    """Runs whose learning curves share a colour: those with equal settings, or of many settings
    those with the same value of the factor with the largest effect."""
    analysis = sweep.ranking_anova if len(sweep.groups) > MAX_COLOURS else None
    lines: dict[str, list[RunRecord]] = {}
    for group in sweep.groups:
        label = group.label
        if analysis is not None:
            factor = analysis.ranked_factors[0]
            label = format_settings({factor: group.settings[factor]})
        lines.setdefault(label, []).extend(group.runs)
    return lines


def is_one_number(sweep: Sweep) -> bool:
    """Whether a single setting was swept, and its values are numbers."""
    if len(sweep.factors) != 1:
        return False
    values = [group.settings[sweep.factors[0]] for group in sweep.groups]
    return all(isinstance(value, int | float) for value in values)


def _sample_sheets(sweep: Sweep) -> list[tuple[str, np.ndarray]]:
    """Titles and newest samples of at most MAX_SHEETS settings, evenly spaced along the sweep.

    A damaged picture is left out with a warning.
    """
    paths = []
    for group in sweep.display_order:
        path = group.runs[0].newest_snapshot("samples")
        if path is not None:
            paths.append((_sheet_title(group, sweep), path))
    sheets = []
    for index in sweeps.evenly_spaced(len(paths), MAX_SHEETS):
        title, path = paths[index]
        try:
            with files.reading(path, "no picture"):
                sheets.append((title, imread(path)))
        except DamagedFileError as error:
            log.warning("%s: left out", error)
    return sheets


def _sheet_title(group: SeedGroup, sweep: Sweep) -> str:
    """The settings; of some points of a grid, which have too many to name them, the metric."""
    metric = sweep.ranking_metric
    if sweep.is_grid:
        return group.label
    if metric is None or not group.values(metric):
        return ""
    return f"{Column(VALIDATION, metric).name} {format_cell(group.mean(metric))}"
