"""The figure of a sweep: what the KL weight trades, learning curves, and samples."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from genmodels.figures.plotting import stacked_axes, styled
from genmodels.quantities import quantity

WIDTH = 13  # inches
ROW_HEIGHT = 3.9  # inches
TITLE_LETTERS = 150  # of all sheets side by side
LEGEND_LETTERS = 190  # in a line
MAX_LEGEND_ENTRIES = 24
SLOPE_COLOUR = "0.6"
MAX_WEIGHTS = 12  # KL weights that an axis and a curve name

Curve = tuple[Sequence[int], Sequence[float]]  # steps, values


@dataclass(frozen=True)
class RateDistortionCurve:
    """One line with a point for each of N rising KL weights.

    weights: (N,).
    kl, distortion, active_units: means and standard deviations over the seeds, (2, N); KL and
        distortion in nats per image.
    """

    weights: np.ndarray
    kl: np.ndarray
    distortion: np.ndarray
    active_units: np.ndarray


def evenly_spaced(length: int, most: int) -> np.ndarray:
    """Indices into a sequence: all, or `most` of them from the first to the last."""
    return np.linspace(0, length - 1, min(length, most)).round().astype(int)


@styled
def overview(
    lines: Mapping[str, RateDistortionCurve],
    curves: Mapping[str, Mapping[str, Sequence[Curve]]],
    sheets: Sequence[tuple[str, np.ndarray]],
    *,
    ordered: bool = False,
) -> Figure:
    """Draw rows of axes: rate-distortion curves, learning curves, samples.

    Arguments:
    lines: name -> a rate-distortion curve; the row is left out where there are none.
    curves: metric -> setting -> one learning curve for each run.
    sheets: titles and images (H, W, 3 or 4).
    ordered: whether the settings are rising values of one number; their colours rise with them.
    """
    heights = [0.01]
    for _, sheet in sheets:
        heights.append(WIDTH / len(sheets) * sheet.shape[0] / sheet.shape[1] + 0.5)
    figure, (first, second, third) = stacked_axes(
        WIDTH,
        [ROW_HEIGHT if lines else 0.01, ROW_HEIGHT, max(heights)],
        [3 if lines else 0, len(curves), len(sheets)],
    )
    if lines:
        _draw_rate_distortion(first, lines)
    _draw_curves(second, curves, ordered)
    for axes, (title, sheet) in zip(third, sheets, strict=True):
        axes.imshow(sheet, interpolation="nearest")
        axes.set_title(textwrap.fill(title or "samples", TITLE_LETTERS // len(sheets)), fontsize=9)
        axes.set_axis_off()
    return figure


def _draw_rate_distortion(row: Sequence[Axes], lines: Mapping[str, RateDistortionCurve]) -> None:
    """The rate-distortion curves; KL and active units over the KL weight."""
    plane, kl_axes, units_axes = row
    for index, (label, line) in enumerate(lines.items()):
        style: dict[str, Any] = {"color": f"C{index % 8}", "marker": "o", "markersize": 4}
        style |= {"label": label, "capsize": 2}
        (kl, kl_error), (distortion, distortion_error) = line.kl, line.distortion
        plane.errorbar(kl, distortion, distortion_error, kl_error, **style)
        kl_axes.errorbar(line.weights, kl, kl_error, **style)
        units_axes.errorbar(line.weights, *line.active_units, **style)
    first = next(iter(lines.values()))
    for index in evenly_spaced(len(first.weights), MAX_WEIGHTS):
        plane.annotate(
            f"{first.weights[index]:g}",
            (first.kl[0][index], first.distortion[0][index]),
            xytext=(5, 5),
            textcoords="offset points",
            fontsize=8,
        )
    _draw_slopes(plane, list(lines.values()))
    plane.set(
        title="rate-distortion curve",
        xlabel=quantity("kl").axis,
        ylabel=quantity("distortion").axis,
    )
    weights = np.unique(np.concatenate([line.weights for line in lines.values()]))
    for axes, name in ((kl_axes, "kl"), (units_axes, "active_units")):
        axes.set(title=f"{quantity(name).label} over the KL weight", ylabel=quantity(name).unit)
        _set_weight_scale(axes, weights)
    if kl_axes.get_ylim()[1] > 1:
        kl_axes.set_yscale("symlog", linthresh=1)
        kl_axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    kl_axes.set_ylim(0, None)
    units_axes.set_ylim(0, None)
    units_axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    entries = plane.get_legend_handles_labels() if len(lines) > 1 else ([], [])
    slope = Line2D([], [], color=SLOPE_COLOUR, linewidth=1)
    plane.legend([*entries[0], slope], [*entries[1], "slope: minus the KL weight"], fontsize=8)


def _set_weight_scale(axes: Axes, weights: np.ndarray) -> None:
    """A logarithmic axis of rising KL weights; 0 has its place at the left, before a break."""
    smallest = weights[weights > 0].min(initial=1)
    axes.set_xscale("symlog", linthresh=smallest)
    named = weights[evenly_spaced(len(weights), MAX_WEIGHTS)]
    axes.set_xticks(named, [f"{weight:g}" for weight in named])
    axes.minorticks_off()
    axes.set_xlabel(quantity("kl_weight").label)
    if weights[0] == 0:
        axes.text(
            smallest / 2,
            0,
            "//",
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="center",
            bbox={"color": "white", "pad": 0.5},
        )


def _draw_slopes(plane: Axes, lines: Sequence[RateDistortionCurve]) -> None:
    """At each point a line with the slope that the curve has there at the optimum.

    Weight 0 leaves the KL free, so that it may be very large; such a point is written down instead
    of drawn.
    """
    weights = np.concatenate([line.weights for line in lines])
    kl, kl_error = np.concatenate([line.kl for line in lines], axis=1)
    distortion = np.concatenate([line.distortion[0] for line in lines])
    weighted = weights > 0
    if not weighted.any():
        return
    width = max(1.1 * (kl + np.nan_to_num(kl_error))[weighted].max(), 1e-9)
    height = max(np.ptp(distortion), 1e-9)
    half = 0.12 / np.hypot(1 / width, weights / height)  # an eighth of the axes
    ends_x = np.stack([kl - half, kl + half])
    ends_y = np.stack([distortion + weights * half, distortion - weights * half])
    plane.plot(ends_x[:, weighted], ends_y[:, weighted], color=SLOPE_COLOUR, lw=1, zorder=0)
    outside = ~weighted & (kl > width)
    notes = []
    for free_kl, free_distortion in zip(kl[outside], distortion[outside], strict=True):
        notes.append(f"KL weight 0: KL {free_kl:.0f}, distortion {free_distortion:.0f}")
    corner = plane.transAxes
    plane.text(0.02, 0.03, "\n".join(notes), transform=corner, fontsize=8)
    plane.set_xlim(0, width if notes else None)


def _one_line(curves: Sequence[Curve]) -> np.ndarray:
    """Curves with gaps between them, (2, N): one line of many curves is drawn sooner than many."""
    parts = [np.full((2, 1), np.nan)]
    for curve in curves:
        parts += [np.array(curve, dtype=float), parts[0]]
    return np.concatenate(parts, axis=1)


def _draw_curves(
    row: Sequence[Axes], curves: Mapping[str, Mapping[str, Sequence[Curve]]], ordered: bool
) -> None:
    """One panel for each metric, a colour for each setting, a line for each run."""
    names = list(next(iter(curves.values()), {}))
    colours: list[Any] = [f"C{index % 8}" for index in range(len(names))]
    if ordered:
        colours = list(colormaps["viridis"](np.linspace(0, 0.92, len(names))))
    for axes, (metric, settings) in zip(row, curves.items(), strict=True):
        for colour, runs in zip(colours, settings.values(), strict=True):
            axes.plot(*_one_line(runs), color=colour, marker=".")
        known = quantity(metric)
        axes.set(title=f"validation {known.label}", xlabel="step", ylabel=known.unit)
    if len(names) > 1:
        shown = evenly_spaced(len(names), MAX_LEGEND_ENTRIES)
        row[0].figure.legend(
            [Line2D([], [], color=colours[index], marker=".") for index in shown],
            [names[index] for index in shown],
            loc="outside upper left",
            ncols=max(LEGEND_LETTERS // (5 + max(map(len, names))), 1),
            fontsize=8,
            frameon=False,
        )
