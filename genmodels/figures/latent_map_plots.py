"""What maps of the latent space are drawn with: the prior, the data by class, decoded images as the ground."""

from typing import Any

import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse
from torch import Tensor

from genmodels.figures.image_sheet import as_rgb, tile
from genmodels.figures.labels import in_turn
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import axes_grid, class_colour
from genmodels.metrics.aggregated_posterior import LatentPlane, Posteriors
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE
from genmodels.randomness import generator

ATLAS = 25  # images along each side of an atlas
SHOWN = 5000  # points of a scatter; more would hide each other
DRAWS = 400  # draws from the prior that are marked
NAMED = 26  # classes of which each has its name in the legend
OUTLINE = [patheffects.withStroke(linewidth=2.5, foreground="white")]
QUIET: dict[str, Any] = {
    "color": "#666666",
    "linewidth": 1,
    "linestyle": (0, (4, 3)),
}  # of the prior


def decoded(model: VAE, plane: LatentPlane, points: Tensor, options: FigureOptions) -> Tensor:
    """The images at these points (N, P) of a plane, (N, C, H, W), all of the first class asked for."""
    z = plane.embed(points).float().to(model.device)
    return torch.cat(
        [
            model.generate(some, in_turn(model, options, len(some), most=1).values)
            for some in z.split(500)
        ]
    )


def draw_prior(axes: Axes, radii: tuple[int, ...] = (1, 2)) -> None:
    """Circles at so many standard deviations."""
    for radius in radii:
        axes.add_patch(Circle((0, 0), radius, fill=False, zorder=2.5, **QUIET))


def draw_points(axes: Axes, found: Posteriors, plane: LatentPlane, size: float) -> None:
    """Posterior means, coloured by class."""
    points, labels = plane.project(found.mean)[:SHOWN], found.labels[:SHOWN]
    order = torch.randperm(
        len(points), generator=generator(0, "scatter")
    )  # no class lies over all others
    colours = [class_colour(int(label)) for label in labels[order]]
    axes.scatter(points[order, 0], points[order, 1], s=size, c=colours, alpha=0.55, linewidths=0)


def draw_classes(axes: Axes, table: list[dict[str, Any]], plane: LatentPlane) -> None:
    """A cross at each class's mean, an ellipse with its mean standard deviation, and its name."""
    first, second = plane.keys
    placed: list[
        tuple[float, float, float]
    ] = []  # left, bottom and width of the names so far, in points
    for row in sorted(table[:-1] or table, key=lambda row: -row[f"mean_{second}"]):
        x, y = row[f"mean_{first}"], row[f"mean_{second}"]
        axes.add_patch(
            Ellipse(
                (x, y),
                2 * row[f"stddev_{first}"],
                2 * row[f"stddev_{second}"],
                fill=False,
                color="black",
                linewidth=1.6,
                path_effects=OUTLINE,
                zorder=3,
            )
        )
        axes.plot(
            x,
            y,
            marker="x",
            markersize=5,
            markeredgewidth=1.6,
            color="black",
            path_effects=OUTLINE,
            zorder=4,
        )
        across, up = axes.transData.transform((x, y)) * 72 / axes.figure.dpi
        left, bottom, width = across + 6, up + 6, 6.8 * len(row["class"])
        while any(
            abs(bottom - low) < 12 and left < start + size and start < left + width
            for start, low, size in placed
        ):
            bottom -= 3
        placed.append((left, bottom, width))
        axes.annotate(
            row["class"],
            (x, y),
            xytext=(left - across, bottom - up),
            textcoords="offset points",
            fontsize=10,
            weight="bold",
            path_effects=OUTLINE,
            zorder=5,
        ).set_in_layout(False)


def draw_ground(
    axes: Axes, model: VAE, plane: LatentPlane, options: FigureOptions, reach: float
) -> None:
    """Decoded images, each over its own cell of the plane."""
    middles = (torch.arange(ATLAS, dtype=torch.float64) + 0.5) / ATLAS * 2 * reach - reach
    images = decoded(model, plane, torch.cartesian_prod(middles.flip(0), middles).flip(1), options)
    sheet = tile(images if images.mean() > 0.5 else 1 - images, ATLAS, gap=0)  # on white, as ink
    axes.imshow(
        as_rgb(sheet),
        extent=(-reach, reach, -reach, reach),
        alpha=0.4,
        interpolation="nearest",
        zorder=0,
    )


def ground_in_words(model: VAE, options: FigureOptions) -> list[Line2D]:
    """What the legend says of the decoded images, where their model knows classes."""
    words = in_turn(model, options, 1, most=1).words
    return [Line2D([], [], linestyle="", label=f"images{words}")] if words else []


def draw_samples(
    axes: Axes, model: VAE, plane: LatentPlane, options: FigureOptions, axis: Tensor, holes: Tensor
) -> list[Line2D]:
    """Draws from the prior, those in a hole in red; returns what the legend says of them."""
    prior = StandardNormal(model.latent_dim)
    draws = plane.project(prior.sample(DRAWS, generator=generator(options.seed, "atlas")).double())
    cells = ((draws - axis[0]) / (axis[1] - axis[0])).round().long().clamp(0, len(axis) - 1)
    lost = holes[cells[:, 0], cells[:, 1]]
    kinds = [
        ("black", ~lost, f"samples ({(~lost).sum()})"),
        ("#d40000", lost, f"samples in holes ({lost.sum()})"),
    ]
    for colour, chosen, _ in kinds:
        axes.scatter(
            draws[chosen, 0], draws[chosen, 1], s=22, marker="+", color=colour, linewidths=1
        )
    return [
        Line2D([], [], marker="+", linestyle="", color=colour, label=label)
        for colour, _, label in kinds
    ]


def frame(axes: Axes, found: Posteriors, plane: LatentPlane) -> None:
    """Equal scales, wide enough for the prior's circles and almost all points."""
    reach = torch.quantile(plane.project(found.mean).abs().max(dim=1).values, 0.998).item()
    far = max(2.3, 1.08 * reach)
    axes.set(
        xlim=(-far, far),
        ylim=(-far, far),
        aspect="equal",
        xlabel=plane.names[0],
        ylabel=plane.names[1],
    )


def draw_ridges(axes: Axes, found: Posteriors, table: list[dict[str, Any]]) -> None:
    """One dimension: for each class the density of its posterior means, one above the other."""
    rows = table[:-1] or table
    points = found.mean[:, 0]
    far = max(3.0, 1.05 * points.abs().quantile(0.998).item())
    edges = torch.linspace(-far, far, 101, dtype=torch.float64)
    for height, row in enumerate(reversed(rows)):
        chosen = points if row["label"] < 0 else points[found.labels == row["label"]]
        counts = torch.histogram(chosen, edges).hist
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
    axes.set_yticks(range(len(rows)), [row["class"] for row in reversed(rows)])
    for radius in (-2, -1, 1, 2):
        axes.axvline(radius, **QUIET)
    axes.set(
        xlim=(-far, far),
        xlabel="z0 (dashed: 1 and 2 sigma of the prior; cross and bar: a class's mean, and mean "
        "standard deviation)",
    )


def draw_plane_atlas(
    model: VAE,
    found: Posteriors,
    plane: LatentPlane,
    options: FigureOptions,
    table: list[dict[str, Any]],
    axis: Tensor,
    data: Tensor,
    holes: Tensor,
) -> Figure:
    """Two dimensions: points and samples over decoded images, contours of the data's density, holes within 3 sigma."""
    reach = axis[-1].item()
    figure, (axes,) = axes_grid(9.4, 7.2)
    draw_ground(axes, model, plane, options, reach)
    draw_points(axes, found, plane, size=4)
    axes.contour(
        axis,
        axis,
        data.T,
        levels=levels_of_mass(data, [0.9, 0.5]),
        colors="black",
        linewidths=[0.8, 1.6],
    )
    inside = torch.cartesian_prod(axis, axis).norm(dim=1).view(len(axis), -1) < 3
    axes.contourf(
        axis, axis, (holes & inside).T.double(), levels=[0.5, 1.5], colors="none", hatches=["////"]
    )
    draw_prior(axes, radii=(1, 2, 3))
    samples = draw_samples(axes, model, plane, options, axis, holes)
    axes.set(
        xlim=(-reach, reach),
        ylim=(-reach, reach),
        aspect="equal",
        xlabel=plane.names[0],
        ylabel=plane.names[1],
    )
    axes.grid(False)
    contours = Line2D([], [], color="black", linewidth=1.2, label="50 % and 90 % of the data")
    draw_legend(
        axes,
        table,
        "1, 2 and 3 sigma of the prior",
        *samples,
        contours,
        *ground_in_words(model, options),
    )
    return figure


def draw_line_atlas(
    model: VAE,
    plane: LatentPlane,
    options: FigureOptions,
    axis: Tensor,
    data: Tensor,
    prior: Tensor,
    holes: Tensor,
) -> Figure:
    """One dimension: both densities, holes, and decoded images under their place on the axis."""
    figure, (axes,) = axes_grid(9, 4)
    axes.plot(axis, prior, label="prior", **QUIET)
    axes.plot(axis, data, label="aggregated posterior", linewidth=2)
    axes.fill_between(
        axis, prior, where=holes.numpy(), hatch="////", facecolor="none", label="hole"
    )
    low, high, top = (
        axis[0].item(),
        axis[-1].item(),
        1.1 * max(data.max().item(), prior.max().item()),
    )
    middles = (torch.arange(ATLAS, dtype=torch.float64) + 0.5) / ATLAS * (high - low) + low
    sheet = tile(decoded(model, plane, middles[:, None], options), ATLAS, gap=0)
    axes.imshow(
        as_rgb(sheet), extent=(low, high, -0.12 * top, 0), aspect="auto", interpolation="nearest"
    )
    axes.set(xlabel="z0", ylabel="density", xlim=(low, high), ylim=(-0.12 * top, top))
    axes.legend(handles=[*axes.get_legend_handles_labels()[0], *ground_in_words(model, options)])
    return figure


def draw_legend(axes: Axes, table: list[dict[str, Any]], prior: str, *more: Line2D) -> None:
    """The classes, the prior, and what else is there, to the right of the axes."""
    circles = Line2D([], [], label=prior, **QUIET)
    classes = [
        Line2D(
            [], [], marker="o", linestyle="", color=class_colour(row["label"]), label=row["class"]
        )
        for row in table[:-1]
    ]
    rest = f" (of {len(classes)})" if len(classes) > NAMED else ""
    axes.legend(
        handles=[*classes[:NAMED], circles, *more],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        title=f"classes{rest}" if classes else None,
        fontsize=9,
    )


def levels_of_mass(values: Tensor, shares: list[float]) -> list[float]:
    """The densities above which these shares of the mass of a grid lie: contours of highest density."""
    falling = values.flatten().sort(descending=True).values
    mass = falling.cumsum(0) / falling.sum()
    return [falling[int((mass < share).sum().clamp(max=len(mass) - 1))].item() for share in shares]
