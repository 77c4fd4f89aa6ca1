"""The path of a run through the plane of rate and distortion (Alemi et al. 2018)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.ticker import MaxNLocator

from genmodels.errors import require
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import REFERENCE_LINE, FigureResult, axes_grid, styled
from genmodels.models.vae import VAE
from genmodels.quantities import quantity
from genmodels.run_files import read_rows

Row = dict[str, Any]

MIN_SPAN = 0.5  # nats that the axes span, also where nothing moves
HIDDEN_SHARE = 0.05  # of the training rows: the first ones, far above all others
# without the yellow end, which is hard to see on white
COLOURS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
MIN_LABEL_DISTANCE = 34  # points between the names of steps
CONTOUR_GRID = 60
OUTLINE = [patheffects.withStroke(linewidth=2.5, foreground="white")]


@styled
def rate_distortion(_: VAE, options: FigureOptions) -> FigureResult:
    """Rate (the KL) against distortion: each validation, and training batches between them.

    On the dashed lines distortion + rate is constant, and with it the ELBO: a run gains by crossing
    them, and trades by moving along them (Alemi et al. 2018, "Fixing a broken ELBO"). The colour is
    the KL weight of training, or the step where that does not change. Validation uses averaged
    weights, which follow those of the batches.

    Numbers: those of validation, in nats per image. Raises ValueError for a run without them.
    """
    assert options.run is not None
    rows = read_rows(options.run)
    table, batches = _evaluations(rows), _training_rows(rows)
    words = "drawn of a run with KL and distortion among its evaluations"
    require(bool(table), "figures", "rate_distortion", words)
    _add_weights(table, batches)
    colour_key = _colour_key(table, batches)

    figure, (axes,) = axes_grid(8.6, 5.6)
    _set_limits(axes, _points(table), _points(batches))
    _draw_elbo_lines(axes)
    values = [row[colour_key] for row in [*batches, *table]]
    scale: dict[str, Any] = {"cmap": COLOURS, "norm": Normalize(min(values), max(values))}
    _draw_batches(axes, batches, colour_key, scale)
    dots = _draw_evaluations(axes, table, colour_key, scale)
    _name_steps(axes, table)
    label = "step" if colour_key == "step" else quantity(colour_key).axis
    figure.colorbar(dots, ax=axes, label=label, pad=0.02, aspect=30)
    axes.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="white")
    axes.set_title(_title(table))
    return FigureResult(figure, table)


def _evaluations(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Step, rate, distortion and ELBO of each evaluation that has them."""
    table = []
    for row in rows:
        validation = row.get("validation", {})
        rate, distortion = validation.get("kl"), validation.get("distortion")
        if rate is None or distortion is None:
            continue
        elbo = -rate - distortion
        table.append({"step": row["step"], "rate": rate, "distortion": distortion, "elbo": elbo})
    return table


def _training_rows(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Step and terms of each training row that has KL and distortion."""
    batches = []
    for row in rows:
        terms = row.get("train", {})
        if terms.get("kl") is not None and terms.get("distortion") is not None:
            batches.append({"step": row["step"], "rate": terms["kl"], **terms})
    return batches


def _add_weights(table: Sequence[Row], batches: Sequence[Row]) -> None:
    """To each evaluation the KL weight of training at its step, where all training rows have it."""
    if not batches or not all("kl_weight" in row for row in batches):
        return
    steps = [row["step"] for row in batches]
    weights = [row["kl_weight"] for row in batches]
    for row in table:
        row["kl_weight"] = float(np.interp(row["step"], steps, weights))


def _colour_key(table: Sequence[Row], batches: Sequence[Row]) -> str:
    """What the colours stand for: "kl_weight" where it changes, else "step"."""
    if "kl_weight" not in table[0]:
        return "step"
    weights = {row["kl_weight"] for row in batches}
    return "kl_weight" if len(weights) > 1 else "step"


def _points(rows: Sequence[Row]) -> np.ndarray:
    """Rate and distortion, (N, 2)."""
    return np.array([[row["rate"], row["distortion"]] for row in rows]).reshape(-1, 2)


def _draw_batches(
    axes: Axes, batches: Sequence[Row], colour_key: str, scale: dict[str, Any]
) -> None:
    points = _points(batches)
    segments = list(np.stack([points[:-1], points[1:]], axis=1))
    colours = [row[colour_key] for row in batches[1:]]
    axes.add_collection(LineCollection(segments, linewidth=1.5, alpha=0.7, array=colours, **scale))
    axes.plot([], [], color="#555555", linewidth=1.5, label="training batches")


def _draw_evaluations(
    axes: Axes, table: Sequence[Row], colour_key: str, scale: dict[str, Any]
) -> PathCollection:
    """A dot for each evaluation, which are returned, and a star for the last."""
    rates, distortions = _points(table).T
    colours = [row[colour_key] for row in table]
    edge: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.8}
    dots = axes.scatter(
        rates, distortions, c=colours, s=52, zorder=3, label="validation", **edge, **scale
    )
    label = f"the end, step {table[-1]['step']}"
    star: dict[str, Any] = {"marker": "*", "s": 330, "color": "C1", "label": label}
    axes.scatter(rates[-1:], distortions[-1:], zorder=4, **star, **edge)
    return dots


def _title(table: Sequence[Row]) -> str:
    first, last = table[0], table[-1]
    elbo = f"Validation ELBO {last['elbo']:.1f} nats"
    if len(table) == 1:
        return f"{elbo}: distortion {last['distortion']:.1f}, rate {last['rate']:.1f}"
    distortion = last["distortion"] - first["distortion"]
    rate = last["rate"] - first["rate"]
    return f"{elbo}; since step {first['step']} distortion {distortion:+.1f}, rate {rate:+.1f}"


def _set_limits(axes: Axes, points: np.ndarray, batch_points: np.ndarray) -> None:
    """Limits that hold all validation points, and all batches but the first ones."""
    hidden = round(HIDDEN_SHARE * len(batch_points))
    shown = np.concatenate([points, batch_points[hidden:]])
    low, high = shown.min(axis=0), shown.max(axis=0)
    span = high - low
    margin = np.maximum(0.08 * span, (MIN_SPAN - span) / 2)
    axes.set(
        xlim=(max(low[0] - margin[0], -0.02), high[0] + margin[0]),
        ylim=(low[1] - margin[1], high[1] + margin[1]),
        xlabel="rate (nats per image)",
        ylabel=quantity("distortion").axis,
    )


def _draw_elbo_lines(axes: Axes) -> None:
    """Lines of constant ELBO over the whole of the axes."""
    rates = np.linspace(*axes.get_xlim(), CONTOUR_GRID)
    distortions = np.linspace(*axes.get_ylim(), CONTOUR_GRID)
    rate, distortion = np.meshgrid(rates, distortions)
    elbo = -(rate + distortion)
    levels = MaxNLocator(9).tick_values(elbo.min(), elbo.max())[1:-1]
    style: dict[str, Any] = {"linewidths": 0.8, "linestyles": "dashed", "zorder": 1}
    colour = REFERENCE_LINE["color"]
    lines = axes.contour(rate, distortion, elbo, levels=levels, colors=colour, **style)
    axes.clabel(lines, fmt="ELBO %g", fontsize=8)


def _name_steps(axes: Axes, table: Sequence[Row]) -> None:
    """The step beside each point that is far enough from other names and from the last point."""
    points = _points(table)
    positions = axes.transData.transform(points) * 72 / axes.figure.dpi
    named = [positions[-1]]
    for row, point, position in zip(table, points, positions, strict=True):
        distances = np.linalg.norm(named - position, axis=1)
        if distances.min() <= MIN_LABEL_DISTANCE:
            continue
        named.append(position)
        axes.annotate(
            str(row["step"]),
            point,
            xytext=(6, 6),
            textcoords="offset points",
            fontsize=9,
            zorder=5,
            path_effects=OUTLINE,
        )
