"""The path of a run through the plane of rate and distortion (Alemi et al. 2018)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.ticker import MaxNLocator

from genmodels.errors import require
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import REFERENCE_LINE, FigureResult, Row, axes_grid, styled
from genmodels.models.vae import VAE
from genmodels.quantities import quantity
from genmodels.run_files import read_rows

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
    table, batches = _terms(rows, "validation"), _terms(rows, "train")
    words = "drawn of a run with KL and distortion among its evaluations"
    require(bool(table), "figures", "rate_distortion", words)
    weight_changes = _add_weights(table, batches)
    colour_key = "kl_weight" if weight_changes else "step"

    figure, (axes,) = axes_grid(8.6, 5.6)
    _set_limits(axes, _points(table), _points(batches))
    _draw_elbo_lines(axes)
    values = [row[colour_key] for row in [*batches, *table]]
    scale: dict[str, Any] = {"cmap": COLOURS, "norm": Normalize(min(values), max(values))}
    _draw_batches(axes, batches, colour_key, scale)
    dots = _draw_evaluations(axes, table, colour_key, scale)
    _name_steps(axes, table)
    label = quantity("kl_weight").axis if weight_changes else "step"
    figure.colorbar(dots, ax=axes, label=label, pad=0.02, aspect=30)
    axes.legend(loc="upper right", frameon=True, framealpha=0.9, edgecolor="white")
    axes.set_title(_title(table))
    return FigureResult(figure, table)


def _terms(rows: Sequence[Row], kind: str) -> list[Row]:
    """The terms of each row of this kind, "train" or "validation", that has KL and distortion."""
    table = []
    for row in rows:
        terms = row.get(kind, {})
        rate, distortion = terms.get("kl"), terms.get("distortion")
        if rate is None or distortion is None:
            continue
        elbo = -rate - distortion
        result = {"step": row["step"], "rate": rate, "distortion": distortion, "elbo": elbo}
        if "kl_weight" in terms:
            result["kl_weight"] = terms["kl_weight"]
        table.append(result)
    return table


def _add_weights(table: Sequence[Row], batches: Sequence[Row]) -> bool:
    """Add the KL weight of training at its step to each evaluation, if training rows have it.

    Returns whether it changes.
    """
    if not batches or not all("kl_weight" in row for row in batches):
        return False
    steps = [row["step"] for row in batches]
    weights = [row["kl_weight"] for row in batches]
    for row in table:
        row["kl_weight"] = float(np.interp(row["step"], steps, weights))
    return max(weights) > min(weights)


def _points(rows: Sequence[Row]) -> np.ndarray:
    """Rate and distortion, (N, 2)."""
    return np.array([[row["rate"], row["distortion"]] for row in rows]).reshape(-1, 2)


def _draw_batches(
    axes: Axes, batches: Sequence[Row], colour_key: str, scale: dict[str, Any]
) -> None:
    points = _points(batches)
    segments = np.stack([points[:-1], points[1:]], axis=1)
    path = LineCollection(
        list(segments),
        array=[row[colour_key] for row in batches[1:]],
        linewidth=1.5,
        alpha=0.7,
        **scale,
    )
    axes.add_collection(path)
    axes.plot([], [], color="#555555", linewidth=1.5, label="training batches")


def _draw_evaluations(
    axes: Axes, table: Sequence[Row], colour_key: str, scale: dict[str, Any]
) -> PathCollection:
    """A dot for each evaluation, which are returned, and a star for the last."""
    rates, distortions = _points(table).T
    dots = axes.scatter(
        rates,
        distortions,
        c=[row[colour_key] for row in table],
        s=52,
        edgecolor="black",
        linewidth=0.8,
        label="validation",
        zorder=3,
        **scale,
    )
    axes.scatter(
        rates[-1:],
        distortions[-1:],
        marker="*",
        s=330,
        color="C1",
        edgecolor="black",
        linewidth=0.8,
        label=f"the end, step {table[-1]['step']}",
        zorder=4,
    )
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
    left, bottom = low - margin
    right, top = high + margin
    axes.set(
        xlim=(max(left, -0.02), right),
        ylim=(bottom, top),
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
    lines = axes.contour(
        rate,
        distortion,
        elbo,
        levels=levels,
        colors=REFERENCE_LINE["color"],
        linewidths=0.8,
        linestyles="dashed",
        zorder=1,
    )
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
