"""The figure of a sweep: what the KL weight trades, learning curves, and samples."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genmodels.figures.plotting import stacked_axes, styled
from genmodels.quantities import quantity

WIDTH = 13  # inches
ROW_HEIGHT = 3.9  # inches
TITLE_LETTERS = 150  # of all sheets side by side
LEGEND_LETTERS = 190  # in a line

Curve = tuple[Sequence[int], Sequence[float]]  # steps, values


class Estimate(NamedTuple):
    """Mean and standard deviation over the seeds."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class KLWeightPoint:
    """The runs with one KL weight: KL and distortion in nats per image, active units."""

    weight: float
    kl: Estimate
    distortion: Estimate
    active_units: Estimate


@styled
def overview(
    points: Mapping[str, Sequence[KLWeightPoint]],
    curves: Mapping[str, Mapping[str, Sequence[Curve]]],
    sheets: Sequence[tuple[str, np.ndarray]],
    *,
    ordered: bool = False,
) -> Figure:
    """Draw rows of axes: rate-distortion curves, learning curves, samples.

    Arguments:
    points: line -> its points by rising KL weight; the row is left out where there are none.
    curves: metric -> setting -> one learning curve for each run.
    sheets: titles and images (H, W, 3 or 4).
    ordered: whether the settings are rising values of one number; their colours rise with them.
    """
    heights = [0.01]
    for _, sheet in sheets:
        heights.append(WIDTH / len(sheets) * sheet.shape[0] / sheet.shape[1] + 0.5)
    figure, (first, second, third) = stacked_axes(
        WIDTH,
        [ROW_HEIGHT if points else 0.01, ROW_HEIGHT, max(heights)],
        [3 if points else 0, len(curves), len(sheets)],
    )
    if points:
        _draw_kl_weights(first, points)
    _draw_curves(second, curves, ordered)
    for axes, (title, sheet) in zip(third, sheets, strict=True):
        axes.imshow(sheet, interpolation="nearest")
        axes.set_title(textwrap.fill(title or "samples", TITLE_LETTERS // len(sheets)), fontsize=9)
        axes.set_axis_off()
    return figure


def _draw_kl_weights(row: Sequence[Axes], points: Mapping[str, Sequence[KLWeightPoint]]) -> None:
    """The rate-distortion curves; KL and active units over the weight."""
    plane, kl_axes, units_axes = row
    all_points = [point for line in points.values() for point in line]
    weights = sorted({point.weight for point in all_points})
    _draw_slopes(plane, all_points)
    for index, (line, line_points) in enumerate(points.items()):
        style: dict[str, Any] = {"color": f"C{index % 8}", "marker": "o", "markersize": 4}
        _draw_line(row, line_points, label=line or None, capsize=2, **style)
    _name_weights(plane, next(iter(points.values())))
    plane.set_title("gray: slope of minus the KL weight")
    plane.set(xlabel=quantity("kl").axis, ylabel=quantity("distortion").axis)
    for axes, name in ((kl_axes, "kl"), (units_axes, "active_units")):
        axes.set(title=quantity(name).label, ylabel=quantity(name).unit)
        _set_weight_scale(axes, weights)
    if max(point.kl.mean for point in all_points) > 1:
        kl_axes.set_yscale("symlog", linthresh=1)
        kl_axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    kl_axes.set_ylim(0, None)
    units_axes.set_ylim(0, None)
    if len(points) > 1:
        plane.legend(fontsize=8)


def _draw_line(row: Sequence[Axes], points: Sequence[KLWeightPoint], **style: Any) -> None:
    """One line in each of the three panels, with error bars of a standard deviation."""
    plane, kl_axes, units_axes = row
    weights = [point.weight for point in points]
    kl, kl_deviation = np.array([point.kl for point in points]).T
    distortion, distortion_deviation = np.array([point.distortion for point in points]).T
    units, units_deviation = np.array([point.active_units for point in points]).T
    plane.errorbar(kl, distortion, distortion_deviation, kl_deviation, **style)
    kl_axes.errorbar(weights, kl, kl_deviation, **style)
    units_axes.errorbar(weights, units, units_deviation, **style)


def _name_weights(plane: Axes, points: Sequence[KLWeightPoint]) -> None:
    """The KL weight beside each point."""
    for point in points:
        place = (point.kl.mean, point.distortion.mean)
        offset: dict[str, Any] = {"xytext": (5, 5), "textcoords": "offset points"}
        plane.annotate(f"{point.weight:g}", place, fontsize=8, **offset)


def _set_weight_scale(axes: Axes, weights: Sequence[float]) -> None:
    """A logarithmic axis of KL weights, on which 0 has its place at the left."""
    smallest = next(filter(None, weights), 1.0)
    axes.set_xscale("symlog", linthresh=smallest)
    axes.set_xticks(weights, [f"{weight:g}" for weight in weights])
    axes.minorticks_off()
    axes.set_xlabel(quantity("kl_weight").label)


def _draw_slopes(plane: Axes, points: Sequence[KLWeightPoint]) -> None:
    """At each point a line with the slope that the curve has there at the optimum.

    Weight 0 leaves the KL free, so that it may be very large; such a point is written down instead
    of drawn.
    """
    weighted = [point for point in points if point.weight > 0]
    if not weighted:
        return
    width = max(1.1 * max(sum(point.kl) for point in weighted), 1e-9)
    height = max(float(np.ptp([point.distortion.mean for point in points])), 1e-9)
    for point in weighted:
        half_length = 0.12 / np.hypot(1 / width, point.weight / height)  # an eighth of the axes
        shift = np.array([-half_length, half_length])
        kl, distortion = point.kl.mean + shift, point.distortion.mean - point.weight * shift
        plane.plot(kl, distortion, color="0.6", lw=1, zorder=0)
    outside = [point for point in points if point.weight == 0 and point.kl.mean > width]
    lines = []
    for point in outside:
        lines.append(f"KL weight 0: KL {point.kl.mean:.0f}, distortion {point.distortion.mean:.0f}")
    corner: dict[str, Any] = {"transform": plane.transAxes, "ha": "right", "va": "top"}
    plane.text(0.98, 0.97, "\n".join(lines), fontsize=8, **corner)
    plane.set_xlim(0, width if outside else None)


def _draw_curves(
    row: Sequence[Axes], curves: Mapping[str, Mapping[str, Sequence[Curve]]], ordered: bool
) -> None:
    """One panel for each metric, a colour for each setting, a line for each run."""
    for axes, (metric, settings) in zip(row, curves.items(), strict=True):
        rising = colormaps["viridis"](np.linspace(0, 0.92, len(settings)))
        for index, (setting, runs) in enumerate(settings.items()):
            colour = rising[index] if ordered else f"C{index % 8}"
            for number, (steps, values) in enumerate(runs):
                label = setting if number == 0 else None
                axes.plot(steps, values, color=colour, marker=".", label=label)
        known = quantity(metric)
        axes.set(title=f"validation {known.label}", xlabel="step", ylabel=known.unit)
    if row and len(next(iter(curves.values()))) > 1:
        handles, names = row[0].get_legend_handles_labels()
        columns = max(LEGEND_LETTERS // (5 + max(map(len, names))), 1)
        place: dict[str, Any] = {"loc": "outside upper left", "ncols": columns}
        row[0].figure.legend(handles, names, fontsize=8, frameon=False, **place)
