"""The charts of report.html, as data that charts.js draws: all by the validation split."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from genmodels.figures.plotting import COLOURS
from genmodels.figures.sweeps import RateDistortionCurve
from genmodels.quantities import quantity
from genmodels.report.anova import Estimate
from genmodels.report.cells import setting_word
from genmodels.report.influence import format_estimate
from genmodels.report.overview import (
    coloured_runs,
    is_one_number,
    rate_distortion_curves,
    validation_metrics,
)
from genmodels.report.sweep import Sweep

Chart = dict[str, Any]
MAX_INTERACTIONS = 6  # charts
MAX_POINTS = 60_000  # of all learning curves; of longer ones some are left out


def charts(sweep: Sweep) -> dict[str, list[Chart]]:
    """Of the parts of the page: the rate-distortion curves, the main effects of the settings, their
    interactions, and the learning curves."""
    return {
        "rate_distortion": _rate_distortion(rate_distortion_curves(sweep)),
        "main_effects": _main_effects(sweep),
        "interactions": _interactions(sweep),
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


def _main_effects(sweep: Sweep) -> list[Chart]:
    """For each metric with a direction, its mean at each value of each setting, the strongest
    first."""
    made = []
    for metric in sweep.compared_metrics:
        known, analysis = quantity(metric), sweep.anovas[metric]
        rows = []
        for factor in analysis.ranked_factors:
            effect = analysis.main_effects[factor]
            if effect is None:
                continue
            points = []
            for level, mean in effect.means.items():
                points.append({"label": level} | _interval(mean))
            name = f"{setting_word(factor)}: {format_estimate(effect.difference)}"
            rows.append({"name": name, "points": points})
        if len(rows) < 2:
            continue
        chart = {
            "title": f"Mean validation {known.label} at each value",
            "x": {"label": known.axis},
            "note": "With the other settings at their means; bars: 90 % intervals. The number is "
            "the difference between the two ends.",
            "rows": rows,
        }
        made.append(chart)
    return made


def _interactions(sweep: Sweep) -> list[Chart]:
    """For the strongest interactions of two settings a chart of the ranking metric's means."""
    metric, analysis = sweep.ranking_metric, sweep.ranking_anova
    if metric is None or analysis is None:
        return []
    made = []
    for pair in analysis.ranked_interactions[:MAX_INTERACTIONS]:
        interaction = analysis.interactions[pair]
        first, second = pair
        places = list(dict.fromkeys(level for level, _ in interaction.means))
        lines: dict[str, list[Chart]] = {}
        for (level, other), mean in interaction.means.items():
            lines.setdefault(other, []).append(_point(places.index(level), mean, math.nan))
        series = []
        for index, (other, points) in enumerate(lines.items()):
            points[-1]["label"] = other
            name = f"{setting_word(second)} {other}"
            colour = COLOURS[index % len(COLOURS)]
            series.append({"name": name, "colour": colour, "lines": [points]})
        chart = {
            "title": f"{_capitalised(setting_word(first))}, by {setting_word(second)}",
            "x": {"label": setting_word(first), "places": places},
            "y": {"label": f"validation {quantity(metric).axis}"},
            "note": f"The effect of one changes by {format_estimate(interaction.change)} with the "
            "other.",
            "series": series,
        }
        made.append(chart)
    return made


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


def _interval(estimate: Estimate) -> Chart:
    """A number and, where there is one, its interval."""
    made: Chart = {"value": _number(estimate.value)}
    if estimate.low is not None and estimate.high is not None:
        made |= {"low": _number(estimate.low), "high": _number(estimate.high)}
    return made


def _number(value: float) -> float | None:
    """Six digits; None for what is not finite."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
