"""The way of a run through the plane of rate and distortion, on which the KL weight and its schedule lead it."""

from typing import Any

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from genmodels.errors import require
from genmodels.figures.latent_map_plots import QUIET
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, axes_grid, styled
from genmodels.models.generative import GenerativeModel
from genmodels.run_files import read_rows

LEAST = 0.5  # nats that the axes span, also where nothing moves
FALL = 0.05  # of the training rows are left out of the axes: the first ones, far above all others
COLOURS = ListedColormap(
    colormaps["viridis"](np.linspace(0, 0.9, 256))
)  # without the yellow that white swallows
APART = 34  # points between the labels of steps
WHITE = [patheffects.withStroke(linewidth=2.5, foreground="white")]


@styled
def rate_distortion(_: GenerativeModel, options: FigureOptions) -> FigureResult:
    """Rate against distortion as training went: validation images at each evaluation, training batches between them.

    On the lines distortion + rate is constant, and with it the ELBO: a run gains by crossing them, and trades by moving
    along them (Alemi et al. 2018, "Fixing a broken ELBO"). The colour is the KL weight of training, or the step where
    that does not change. Validation is by averaged weights, which follow the batches'. Numbers: the validation's, in
    nats per image.
    """
    assert options.run is not None
    rows = read_rows(options.run)
    table, way = _evaluations(rows), _way(rows)
    require(
        bool(table),
        "figures",
        "rate_distortion",
        "drawn of a run with rate and distortion among its evaluations",
    )
    points = np.array([[row["rate"], row["distortion"]] for row in table])  # (N, 2)
    weights = np.array([row["kl_weight"] for row in way if "kl_weight" in row])
    if way and len(weights) == len(way):
        for row in table:
            row["kl_weight"] = float(
                np.interp(row["step"], [trained["step"] for trained in way], weights)
            )
    key = (
        "kl_weight" if weights.size and np.ptp(weights) > 0 and "kl_weight" in table[0] else "step"
    )
    batches = np.array([[row["kl"], row["distortion"]] for row in way]).reshape(-1, 2)

    figure, (axes,) = axes_grid(8.6, 5.6)
    _frame(axes, points, batches)
    _draw_bounds(axes)
    values = [row[key] for row in (*way, *table)]
    scale: dict[str, Any] = {"cmap": COLOURS, "norm": Normalize(min(values), max(values))}
    axes.add_collection(
        LineCollection(
            list(np.stack([batches[:-1], batches[1:]], axis=1)),
            linewidth=1.5,
            alpha=0.7,
            array=[row[key] for row in way[1:]],
            **scale,
        )
    )
    dots = axes.scatter(
        points[:, 0],
        points[:, 1],
        c=[row[key] for row in table],
        s=52,
        edgecolor="black",
        linewidth=0.8,
        zorder=3,
        **scale,
    )
    star = axes.scatter(
        points[-1:, 0],
        points[-1:, 1],
        marker="*",
        s=330,
        color="C1",
        edgecolor="black",
        linewidth=0.8,
        zorder=4,
    )
    _name_steps(axes, points, [row["step"] for row in table])
    figure.colorbar(
        dots, ax=axes, label="KL weight" if key == "kl_weight" else "step", pad=0.02, aspect=30
    )
    handles = {
        "training batches": Line2D([], [], color="#555555", linewidth=1.5),
        "validation": dots,
        f"the end, step {table[-1]['step']}": star,
    }
    axes.legend(
        handles.values(),
        handles.keys(),
        loc="upper right",
        frameon=True,
        framealpha=0.9,
        edgecolor="white",
    )
    axes.set_title(_in_words(table))
    return FigureResult(figure, table)


def _evaluations(rows: list[dict]) -> list[dict[str, Any]]:
    """Step, rate, distortion and ELBO of each evaluation that has them."""
    found = [
        (
            row["step"],
            row.get("validation", {}).get("kl"),
            row.get("validation", {}).get("distortion"),
        )
        for row in rows
    ]
    return [
        {"step": step, "rate": rate, "distortion": distortion, "elbo": -rate - distortion}
        for step, rate, distortion in found
        if rate is not None and distortion is not None
    ]


def _way(rows: list[dict]) -> list[dict[str, Any]]:
    """Step and terms of each row of training that has KL and distortion."""
    return [
        {"step": row["step"], **row["train"]}
        for row in rows
        if all(row.get("train", {}).get(term) is not None for term in ("kl", "distortion"))
    ]


def _in_words(table: list[dict[str, Any]]) -> str:
    first, last = table[0], table[-1]
    if len(table) == 1:
        return f"Validation ELBO {last['elbo']:.1f} nats: distortion {last['distortion']:.1f}, rate {last['rate']:.1f}"
    moved = ", ".join(f"{term} {last[term] - first[term]:+.1f}" for term in ("distortion", "rate"))
    return f"Validation ELBO {last['elbo']:.1f} nats; since step {first['step']} {moved}"


def _frame(axes: Axes, points: np.ndarray, batches: np.ndarray) -> None:
    """Limits that hold all points, and the way of the batches but for its beginning."""
    held = np.concatenate([points, batches[round(FALL * len(batches)) :]])
    low, high = held.min(axis=0), held.max(axis=0)
    room = np.maximum(0.08 * (high - low), (LEAST - (high - low)) / 2)
    axes.set(
        xlim=(max(low[0] - room[0], -0.02), high[0] + room[0]),
        ylim=(low[1] - room[1], high[1] + room[1]),
        xlabel="rate (nats per image)",
        ylabel="distortion (nats per image)",
    )


def _draw_bounds(axes: Axes) -> None:
    """Lines of constant ELBO over the whole of the axes."""
    rate, distortion = np.meshgrid(
        np.linspace(*axes.get_xlim(), 60), np.linspace(*axes.get_ylim(), 60)
    )
    elbo = -(rate + distortion)
    lines = axes.contour(
        rate,
        distortion,
        elbo,
        levels=MaxNLocator(9).tick_values(elbo.min(), elbo.max())[1:-1],
        colors=QUIET["color"],
        linewidths=0.8,
        linestyles="dashed",
        zorder=1,
    )
    axes.clabel(lines, fmt="ELBO %g", fontsize=8)


def _name_steps(axes: Axes, points: np.ndarray, steps: list[int]) -> None:
    """The step beside each point that is not too near to one with a name."""
    places = axes.transData.transform(points) * 72 / axes.figure.dpi
    named = [places[-1]]
    for place, point, step in zip(places, points, steps, strict=True):
        if min(np.linalg.norm(place - other) for other in named) > APART:
            named.append(place)
            axes.annotate(
                str(step),
                point,
                xytext=(6, 6),
                textcoords="offset points",
                fontsize=9,
                zorder=5,
                path_effects=WHITE,
            )
