"""The charts of report.html, as data that charts.js draws: all by the validation split."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from genmodels.figures.plotting import COLOURS
from genmodels.figures.sweeps import RateDistortionCurve
from genmodels.quantities import quantity
from genmodels.report.cells import setting_word
from genmodels.report.overview import (
    coloured_runs,
    is_one_number,
    rate_distortion_curves,
    validation_metrics,
)
from genmodels.report.sweep import Sweep

Chart = dict[str, Any]
MAX_POINTS = 60_000  # of all learning curves; of longer ones some are left out


def charts(sweep: Sweep) -> dict[str, list[Chart]]:
    """Of three parts of the page: the rate-distortion curves, the influence of the settings, and
    the learning curves."""
    return {
        "rate_distortion": _rate_distortion(rate_distortion_curves(sweep)),
        "influence": _influence(sweep),
        "learning": _learning_curves(sweep),
    }


def _rate_distortion(curves: Mapping[str, RateDistortionCurve]) -> list[Chart]:
    if not curves:
        return []
    plane: Chart = {
        "title": "Rate-distortion curve",
        "x": {"label": quantity("kl").axis},
        "y": {"label": quantity("distortion").axis},
        "note": "Gray: at each point the slope that the curve has there at the optimum, "
        "minus the KL weight.",
        "series": [],
    }
    over_weight: list[tuple[str, Chart]] = []
    for name in ("kl", "active_units"):
        chart: Chart = {
            "title": f"{_capitalised(quantity(name).label)} over the KL weight",
            "x": {"label": "KL weight", "places": _weights(curves)},
            "y": {"label": quantity(name).axis, "zero": True, "log1p": name == "kl"},
            "series": [],
        }
        over_weight.append((name, chart))
    for index, (name, curve) in enumerate(curves.items()):
        look = {"name": name, "colour": COLOURS[index % len(COLOURS)]}
        points = []
        for place, weight in enumerate(curve.weights):
            (x, x_error), (y, y_error) = curve.kl[:, place], curve.distortion[:, place]
            point = _point(x, y, y_error) | {"label": f"{weight:g}", "slope": -float(weight)}
            points.append(point | {"x_error": _number(x_error)})
        plane["series"].append(look | {"lines": [points]})
        for metric, chart in over_weight:
            values, errors = getattr(curve, metric)
            places = [chart["x"]["places"].index(f"{weight:g}") for weight in curve.weights]
            line = list(map(_point, places, values, errors))
            chart["series"].append(look | {"lines": [line]})
    return [plane, *(chart for _, chart in over_weight)]


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def _weights(curves: Mapping[str, RateDistortionCurve]) -> list[str]:
    weights = np.unique(np.concatenate([curve.weights for curve in curves.values()]))
    return [f"{weight:g}" for weight in weights]


def _influence(sweep: Sweep) -> list[Chart]:
    """The mean of the ranking metric at each value of each setting, the strongest first."""
    metric, analysis = sweep.ranking_metric, sweep.ranking_anova
    if metric is None or analysis is None:
        return []
    rows = []
    for factor in analysis.ranked_factors:
        means = analysis.means.get(factor, {})
        points = [{"label": level, "value": _number(mean)} for level, mean in means.items()]
        if points:
            rows.append({"name": setting_word(factor), "points": points})
    if len(rows) < 2:
        return []
    chart = {
        "title": f"Mean validation {quantity(metric).label} at each value",
        "x": {"label": quantity(metric).axis},
        "note": "With the other settings at their means. The longer a line, the more a setting "
        "matters, among the values that were tried.",
        "rows": rows,
    }
    return [chart]


def _learning_curves(sweep: Sweep) -> list[Chart]:
    """One chart for each metric, a colour for each setting, a line for each run."""
    lines = coloured_runs(sweep)
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(lines))]
    if len(lines) == len(sweep.groups) > 3 and is_one_number(sweep):
        colours = list(map(to_hex, colormaps["viridis"](np.linspace(0, 0.92, len(lines)))))
    metrics = validation_metrics(sweep)
    evaluations = sum(len(run.curve(metric)[0]) for metric in metrics for run in sweep.runs)
    every = max(-(-evaluations // MAX_POINTS), 1)
    made = []
    for metric in metrics:
        series = []
        for (name, runs), colour in zip(lines.items(), colours, strict=True):
            of_runs = [_curve(*run.curve(metric), every) for run in runs]
            series.append({"name": name, "colour": colour, "lines": of_runs, "dense": True})
        known = quantity(metric)
        chart = {
            "title": f"Validation {known.label}",
            "x": {"label": "step"},
            "y": {"label": known.unit},
            "series": series,
        }
        made.append(chart)
    return made


def _curve(steps: Sequence[int], values: Sequence[float], every: int) -> list[list[float | None]]:
    """Pairs of numbers: every n-th evaluation, and the last."""
    chosen = sorted({*range(0, len(steps), every), *range(len(steps) - 1, len(steps))})
    return [[steps[index], _number(values[index])] for index in chosen if index >= 0]


def _point(x: float, y: float, error: float) -> Chart:
    return {"x": _number(x), "y": _number(y), "y_error": _number(error)}


def _number(value: float) -> float | None:
    """Six digits; None for what is not finite."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
