"""The pictures of a sweep: what its runs trade, how they went, and what they make now."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genmodels.figures.plotting import stacked_axes, styled

WIDTH = 13  # inches
HEIGHT = 3.9  # of a row of axes
UNITS = {
    "accuracy": "share of the images",
    "active_units": "latent dimensions",
    "spread": "times that of real images",
    "twins": "share of the samples",
    "real_above_fake": "share of the pairs",
    "fd": "squared units of the features",
    "kid": "in units of the features",
}  # where not in nats per image

Curve = tuple[Sequence[int], Sequence[float]]  # steps, values


@dataclass(frozen=True)
class Point:
    """The runs of one setting: a KL weight, and what it came to, over the seeds."""

    weight: float
    rate: tuple[float, float]  # mean and standard deviation, nats per image
    distortion: tuple[float, float]
    active: tuple[float, float]  # latent dimensions in use


@styled
def overview(
    trades: Mapping[str, Sequence[Point]],
    curves: Mapping[str, Mapping[str, Sequence[Curve]]],
    sheets: Sequence[tuple[str, np.ndarray]],
    *,
    ordered: bool = False,
) -> Figure:
    """Rows of axes: what the KL weight trades, if there is such; the curves of each metric, with a colour for each
    setting and a line for each of its runs; sheets of samples.

    trades: line -> its points, by rising weight. curves: metric -> setting -> one curve a run. sheets: titles, and
    images (H, W, 3 or 4). ordered: the settings are by rising value of one number, and so are their colours.
    """
    heights = [WIDTH / len(sheets) * sheet.shape[0] / sheet.shape[1] + 0.5 for _, sheet in sheets]
    figure, (first, second, third) = stacked_axes(
        WIDTH,
        [HEIGHT if trades else 0.01, HEIGHT, max(heights, default=0.01)],
        [3 if trades else 0, len(curves), len(sheets)],
    )
    if trades:
        _draw_trades(first, trades)
    _draw_curves(second, curves, ordered)
    for axes, (title, sheet) in zip(third, sheets, strict=True):
        axes.imshow(sheet, interpolation="nearest")
        axes.set_title(textwrap.fill(title or "samples", 150 // len(sheets)), fontsize=9)
        axes.set_axis_off()
    return figure


def _draw_trades(axes: Sequence[Axes], trades: Mapping[str, Sequence[Point]]) -> None:
    """The rate-distortion curve with the weights along it; rate, and dimensions in use, over the weight."""
    plane, rates, units = axes
    for index, (line, points) in enumerate(trades.items()):
        style: dict[str, Any] = {
            "color": f"C{index % 8}",
            "marker": "o",
            "markersize": 4,
            "capsize": 2,
        }
        weights = [point.weight for point in points]
        columns = {
            name: np.array([getattr(point, name) for point in points]).T
            for name in ("rate", "distortion", "active")
        }  # means and deviations, (2, N) each
        (rate, rate_spread), (distortion, distortion_spread) = (
            columns["rate"],
            columns["distortion"],
        )
        plane.errorbar(
            rate, distortion, distortion_spread, rate_spread, label=line or None, **style
        )
        if index == 0:
            for point in points:
                plane.annotate(
                    f"{point.weight:g}",
                    (point.rate[0], point.distortion[0]),
                    xytext=(5, 5),
                    textcoords="offset points",
                    fontsize=8,
                )
        rates.errorbar(weights, rate, rate_spread, **style)
        units.errorbar(weights, *columns["active"], **style)
    plane.set(
        title="gray: slope of minus the KL weight",
        xlabel="rate (nats per image)",
        ylabel="distortion (nats per image)",
    )
    tried = sorted({point.weight for points in trades.values() for point in points})
    smallest = next(filter(None, tried), 1.0)
    _draw_slopes(plane, [point for points in trades.values() for point in points])
    for panel, title, unit in (
        (rates, "rate", "nats per image"),
        (units, "active units", "latent dimensions"),
    ):
        panel.set(title=title, xlabel="KL weight", ylabel=unit)
        panel.set_xscale("symlog", linthresh=smallest)  # 0 has its place, at the left
        panel.set_xticks(tried, [f"{weight:g}" for weight in tried])
        panel.minorticks_off()
    rates.set_yscale("symlog", linthresh=1)
    rates.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    rates.set_ylim(0, None)
    units.set_ylim(0, None)
    if len(trades) > 1:
        plane.legend(fontsize=8)


def _draw_slopes(plane: Axes, points: Sequence[Point]) -> None:
    """At each point a line of the slope that it has at the optimum. Weight 0 puts no price on the rate, which may then
    be anything: where it is far to the right, it is said instead of drawn."""
    priced = [point for point in points if point.weight > 0]
    if not priced:
        return
    width = max(1.1 * max(point.rate[0] + point.rate[1] for point in priced), 1e-9)
    height = max(float(np.ptp([point.distortion[0] for point in points])), 1e-9)
    for point in priced:
        along = 0.12 / np.hypot(1 / width, point.weight / height)  # an eighth of the axes
        shift = np.array([-along, along])
        plane.plot(
            point.rate[0] + shift,
            point.distortion[0] - point.weight * shift,
            color="0.6",
            lw=1,
            zorder=0,
        )
    free = [point for point in points if point.weight == 0 and point.rate[0] > width]
    plane.text(
        0.98,
        0.97,
        "\n".join(
            f"KL weight 0: rate {point.rate[0]:.0f}, distortion {point.distortion[0]:.0f}"
            for point in free
        ),
        transform=plane.transAxes,
        ha="right",
        va="top",
        fontsize=8,
    )
    plane.set_xlim(0, width if free else None)


def _draw_curves(
    row: Sequence[Axes], curves: Mapping[str, Mapping[str, Sequence[Curve]]], ordered: bool
) -> None:
    for axes, (metric, settings) in zip(row, curves.items(), strict=True):
        shades = colormaps["viridis"](np.linspace(0, 0.92, len(settings)))
        for index, (setting, runs) in enumerate(settings.items()):
            for number, (steps, values) in enumerate(runs):
                axes.plot(
                    steps,
                    values,
                    color=shades[index] if ordered else f"C{index % 8}",
                    marker=".",
                    label=setting if number == 0 else None,
                )
        axes.set(
            title=f"validation {metric}", xlabel="step", ylabel=UNITS.get(metric, "nats per image")
        )
    if row and len(next(iter(curves.values()))) > 1:
        handles, names = row[0].get_legend_handles_labels()
        row[0].figure.legend(
            handles, names, loc="outside upper left", ncols=8, fontsize=8, frameon=False
        )
