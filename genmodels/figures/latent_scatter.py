"""Posterior means of the test images by class."""

from collections.abc import Sequence

import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from torch import Tensor

from genmodels.figures.latent_plane_plots import (
    SEEN_SHARE,
    draw_legend,
    draw_points,
    draw_prior,
)
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import (
    REFERENCE_LINE,
    FigureResult,
    Row,
    axes_grid,
    class_colour,
    styled,
)
from genmodels.metrics.aggregated_posterior import LatentPlane, Posteriors, PriorDensity
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE

OUTLINE = [patheffects.withStroke(linewidth=2.5, foreground="white")]
SHOWN_SHARE = 0.998  # of the points that the axes hold
HISTOGRAM_BINS = 100
NAME_OFFSET = 6.0  # points between a class's mean and its name
LETTER_WIDTH = 6.8  # points
NAME_HEIGHT = 12  # points
NAME_STEP = 3  # points that a name moves down at a time, away from others


@torch.no_grad()
@styled
def latent_scatter(model: VAE, options: FigureOptions) -> FigureResult:
    """Posterior means of the test images by class, on the prior's one- and two-sigma circles.

    A cross for each class is at the mean of its means, an ellipse has the mean of its standard
    deviations. More than two latent dimensions: principal components.

    Numbers: these means and standard deviations for each class and for all.
    """
    posterior = options.posteriors(model)
    plane = LatentPlane.of(posterior)
    table = class_table(posterior, plane, options.classes)
    prior = PriorDensity(model.prior)
    figure, (axes,) = axes_grid(8.8, 6.9)
    if len(plane.keys) == 1:
        _draw_histograms(axes, posterior, table, prior)
    else:
        _draw_plane(axes, posterior, plane, table, prior)
    axes.set_title(f"Posterior means of {len(posterior.mean):,} test images")
    return FigureResult(figure, table)


def class_table(posterior: Posteriors, plane: LatentPlane, classes: Sequence[str]) -> list[Row]:
    """One row for each class that has images, and one for all.

    Columns are the number of images, the mean of their posterior means and the mean of their
    standard deviations, in the coordinates of the plane.
    """
    groups = []
    for label, name in enumerate(classes):
        of_class = posterior.of_class(label)
        if len(of_class.labels):
            groups.append((label, name, of_class))
    groups.append((-1, "all", posterior))
    table = []
    for label, name, group in groups:
        row: Row = {"class": name, "label": label, "images": len(group.labels)}
        means = plane.project(group.mean).mean(dim=0)
        stddevs = plane.project_stddev(group.stddev).mean(dim=0)
        for statistic, values in (("mean", means), ("stddev", stddevs)):
            for key, value in zip(plane.keys, values.tolist(), strict=True):
                row[f"{statistic}_{key}"] = value
        table.append(row)
    return table


def _draw_plane(
    axes: Axes, posterior: Posteriors, plane: LatentPlane, table: list[Row], prior: PriorDensity
) -> None:
    draw_points(axes, posterior, plane, size=6)
    prior_entry = draw_prior(axes, prior, plane)
    distance = plane.project(posterior.mean).abs().max(dim=1).values
    data_reach = 1.08 * torch.quantile(distance, SHOWN_SHARE).item()
    reach = max(prior.reach(plane, 2.3, SEEN_SHARE), data_reach)
    axes.set(
        xlim=(-reach, reach),
        ylim=(-reach, reach),
        aspect="equal",
        xlabel=plane.names[0],
        ylabel=plane.names[1],
    )
    _draw_classes(axes, table, plane)
    cross = Line2D([], [], marker="x", linestyle="", color="black", label="mean of the means")
    ellipse = Line2D(
        [],
        [],
        marker="o",
        linestyle="",
        color="black",
        markersize=9,
        fillstyle="none",
        label="mean standard deviation",
    )
    classes = [(row["class"], row["label"]) for row in table[:-1]]
    draw_legend(axes, classes, [prior_entry, cross, ellipse])


def _draw_classes(axes: Axes, table: list[Row], plane: LatentPlane) -> None:
    """A cross at each class's mean, an ellipse with its mean standard deviation, and its name."""
    first, second = plane.keys
    rows = table[:-1] or table
    names = _NamePlacer(axes)
    for row in sorted(rows, key=lambda row: row[f"mean_{second}"], reverse=True):
        center = (row[f"mean_{first}"], row[f"mean_{second}"])
        size = (2 * row[f"stddev_{first}"], 2 * row[f"stddev_{second}"])
        colour = class_colour(row["label"])
        axes.add_patch(Ellipse(center, *size, color=colour, alpha=0.15, linewidth=0, zorder=3))
        axes.add_patch(Ellipse(center, *size, fill=False, edgecolor=colour, zorder=3))
        axes.plot(
            *center,
            marker="x",
            markersize=5,
            markeredgewidth=1.6,
            color="black",
            path_effects=OUTLINE,
            zorder=4,
        )
        names.place(row["class"], center)


class _NamePlacer:
    """Writes names beside points, lower where they would overlap earlier names."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        # left, bottom and width of earlier names, in points
        self.boxes: list[tuple[float, float, float]] = []

    def place(self, name: str, point: tuple[float, float]) -> None:
        """Write a name beside a point (x, y) of the axes, below the names it would overlap."""
        points_per_pixel = 72 / self.axes.figure.dpi
        x, y = self.axes.transData.transform(point) * points_per_pixel
        left, bottom, width = x + NAME_OFFSET, y + NAME_OFFSET, LETTER_WIDTH * len(name)
        while self._overlaps(left, bottom, width):
            bottom -= NAME_STEP
        self.boxes.append((left, bottom, width))
        annotation = self.axes.annotate(
            name,
            point,
            xytext=(left - x, bottom - y),
            textcoords="offset points",
            fontsize=10,
            weight="bold",
            path_effects=OUTLINE,
            zorder=5,
        )
        annotation.set_in_layout(False)

    def _overlaps(self, left: float, bottom: float, width: float) -> bool:
        for other_left, other_bottom, other_width in self.boxes:
            same_height = abs(bottom - other_bottom) < NAME_HEIGHT
            if same_height and left < other_left + other_width and other_left < left + width:
                return True
        return False


def _draw_histograms(
    axes: Axes, posterior: Posteriors, table: list[Row], prior: PriorDensity
) -> None:
    """One dimension: a histogram of the posterior means of each class, one above the other."""
    rows = list(reversed(table[:-1] or table))
    points = posterior.mean[:, 0]
    data_reach = 1.05 * points.abs().quantile(SHOWN_SHARE).item()
    reach = max(prior.reach(LatentPlane.whole(1), 3.0, SEEN_SHARE), data_reach)
    edges = torch.linspace(-reach, reach, HISTOGRAM_BINS + 1, dtype=torch.float64)
    for height, row in enumerate(rows):
        of_class = points if row["label"] < 0 else points[posterior.labels == row["label"]]
        _draw_histogram(axes, of_class, edges, height, row)
    axes.set_yticks(range(len(rows)), [row["class"] for row in rows])
    label = "cross and bar: a class's mean, and mean standard deviation"
    if isinstance(prior.prior, StandardNormal):
        for position in (-2, -1, 1, 2):
            axes.axvline(position, **REFERENCE_LINE)
        label = f"dashed: 1 and 2 sigma of the prior; {label}"
    axes.set(xlim=(-reach, reach), xlabel=f"z0 ({label})")


def _draw_histogram(axes: Axes, points: Tensor, edges: Tensor, height: int, row: Row) -> None:
    counts = torch.histogram(points, edges).hist
    counts = counts / counts.max().clamp(min=1) * 0.85
    colour = class_colour(row["label"])
    axes.stairs(counts + height, edges, baseline=height, fill=True, color=colour, alpha=0.6)
    axes.errorbar(
        row["mean_z0"],
        height - 0.07,
        xerr=row["stddev_z0"],
        marker="x",
        color=colour,
        capsize=3,
    )
