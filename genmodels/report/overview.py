"""report.png: what the KL weights of a sweep trade, its learning curves, and samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.image import imread

from genmodels.figures import sweeps
from genmodels.figures.plotting import save
from genmodels.figures.sweeps import Curve, Estimate, KLWeightPoint
from genmodels.report.cells import format_cell, format_settings
from genmodels.report.runs import RunRecord, scalar_metrics
from genmodels.report.sweep import SeedGroup, Sweep

TABLE_ONLY = ("bits_per_dimension", "likelihood_stddev")  # metrics without a panel of their own
MAX_SHEETS = 8  # settings whose samples are shown; report.html shows all
MAX_COLOURS = 8  # settings that the learning curves tell apart


def draw(sweep: Sweep, path: Path) -> None:
    """Draw report.png."""
    lines = coloured_runs(sweep)
    curves = {}
    for metric in _validation_metrics(sweep):
        curves[metric] = {line: _curves(runs, metric) for line, runs in lines.items()}
    ordered = len(lines) == len(sweep.groups) > 3 and _is_one_number(sweep.groups)
    points = _kl_weight_points(sweep)
    save(sweeps.overview(points, curves, _sample_sheets(sweep), ordered=ordered), path)


def _kl_weight_points(sweep: Sweep) -> dict[str, list[KLWeightPoint]]:
    """Where KL weights were swept: a line for each of the other settings, its points by weight."""
    lines: dict[str, list[KLWeightPoint]] = {}
    for group in sweep.groups:
        others = dict(group.settings)
        weight = others.pop("kl_weight", None)
        kl, distortion, active_units = (
            _estimate(group, metric) for metric in ("kl", "distortion", "active_units")
        )
        if weight is not None and kl and distortion and active_units:
            point = KLWeightPoint(float(weight), kl, distortion, active_units)
            lines.setdefault(format_settings(others), []).append(point)
    return {
        line: sorted(points, key=lambda point: point.weight)
        for line, points in lines.items()
        if len(points) > 1
    }


def _estimate(group: SeedGroup, metric: str) -> Estimate | None:
    """Mean and standard deviation, 0 for a single run; None where no run has the metric."""
    count = len(group.values(metric))
    if count == 0:
        return None
    return Estimate(group.mean(metric), group.standard_deviation(metric) if count > 1 else 0.0)


def _validation_metrics(sweep: Sweep) -> list[str]:
    """The metrics with learning curves."""
    names: dict[str, None] = {}
    for run in sweep.runs:
        for row in run.rows:
            names |= dict.fromkeys(scalar_metrics(row.get("validation", {})))
    return [name for name in names if name not in TABLE_ONLY] or ["elbo"]


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


def _curves(runs: Sequence[RunRecord], metric: str) -> list[Curve]:
    return [run.curve(metric) for run in runs]


def _is_one_number(groups: Sequence[SeedGroup]) -> bool:
    """Whether a single setting was swept, and its values are numbers."""
    values = [value for group in groups for value in group.settings.values()]
    return len(values) == len(groups) and all(isinstance(value, int | float) for value in values)


def _sample_sheets(sweep: Sweep) -> list[tuple[str, np.ndarray]]:
    """Titles and newest samples of at most MAX_SHEETS settings, evenly spaced along the sweep."""
    sheets = []
    for group in sweep.display_order:
        path = group.runs[0].newest_snapshot("samples")
        if path is not None:
            sheets.append((_sheet_title(group, sweep), path))
    if len(sheets) > MAX_SHEETS:
        spaced = np.linspace(0, len(sheets) - 1, MAX_SHEETS).round().astype(int)
        sheets = [sheets[index] for index in spaced]
    return [(title, imread(path)) for title, path in sheets]


def _sheet_title(group: SeedGroup, sweep: Sweep) -> str:
    """The settings; of some points of a grid, which have too many to name them, the metric."""
    metric = sweep.ranking_metric
    if sweep.is_grid:
        return group.label
    if metric is None or not group.values(metric):
        return ""
    return f"{metric} {format_cell(group.mean(metric))}"
