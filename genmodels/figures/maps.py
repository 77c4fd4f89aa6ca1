"""Maps of the latent space: what is decoded where, where the data lie, and where samples come from."""

from typing import Any

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse
from torch import Tensor

from genmodels.errors import require
from genmodels.figures.canvas import (
    Picture,
    Request,
    axes_grid,
    class_colour,
    coloured,
    image_table,
    show_images,
    styled,
    tile,
)
from genmodels.figures.grids import latent_table
from genmodels.metrics.posterior import HOLE, Plane, Posteriors, density, posteriors, prior_density, share_in_holes
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import generator

GRID = 20               # images along each side of a grid
STRIP = 30              # images of a one-dimensional latent space
ATLAS = 25              # images along each side of the atlas
CELLS = 121             # points along each side at which densities are computed
SHOWN = 5000            # points of a scatter; more would hide each other
DRAWS = 400             # draws from the prior that are marked
NAMED = 26              # classes of which each has its name in the legend
OUTLINE = [patheffects.withStroke(linewidth=2.5, foreground="white")]
QUIET = "#666666"


@torch.no_grad()
def latent_grid(model: VAE, request: Request) -> Picture:
    """The latent plane decoded at the prior's quantiles (i + 1/2) / n: each image stands for the same share of samples.

    One dimension: a strip. More than two: the plane of the first two principal components of the posterior means, the
    others held at their mean. Numbers: each image's coordinates.
    """
    plane = _plane(model, request)
    flat = len(plane.keys) == 2
    values = quantiles(GRID if flat else STRIP)
    labels: dict[str, Any] = {"column_labels": [], "row_labels": []}
    points = values[:, None]
    if flat:
        points = torch.cartesian_prod(values.flip(0), values).flip(1)       # row by row, the largest y at the top
        marks = [f"{value:.1f}" if index % 3 == 1 else "" for index, value in enumerate(values.tolist())]
        labels = {"column_labels": marks, "row_labels": marks[::-1], "x_label": plane.names[0],
                  "y_label": plane.names[1]}
    title = (f"The latent {'plane' if flat else 'line'} at equal steps of the prior's probability"
             + ("" if flat else f", from {values[0]:.1f} to {values[-1]:.1f}"))
    figure = image_table(_decoded(model, plane, points), GRID if flat else 10, title, gap=0, **labels)
    return Picture(figure, [{"image": index, **dict(zip(plane.keys, point, strict=True))}
                            for index, point in enumerate(points.tolist())])


@torch.no_grad()
@styled
def latent_scatter(model: VAE, request: Request) -> Picture:
    """Posterior means of the test images by class, on the prior's one- and two-sigma circles.

    A cross for each class at the mean of its means, an ellipse with the mean of its standard deviations. More than two
    dimensions: principal components. Numbers: these means and standard deviations for each class and for all.
    """
    assert request.part is not None
    found = posteriors(model, request.part)
    plane = Plane.of(found)
    table = class_table(found, plane, request.classes)
    figure, (axes,) = axes_grid(8.8, 6.9)
    if len(plane.keys) == 1:
        _draw_ridges(axes, found, table)
    else:
        _draw_points(axes, found, plane, request, size=6)
        _draw_prior(axes)
        _draw_classes(axes, table, plane)
        _frame(axes, found, plane)
    axes.set_title(f"Posterior means of {len(found.mean):,} test images")
    _legend(axes, table, Line2D([], [], marker="x", color="black", linestyle="", label="mean of the means"),
            Line2D([], [], marker="o", color="black", linestyle="", markersize=9, fillstyle="none",
                   label="mean standard deviation"))
    return Picture(figure, table)


@torch.no_grad()
@styled
def latent_atlas(model: VAE, request: Request) -> Picture:
    """The decoded plane with the data on it: density of the aggregated posterior, and the holes where samples land.

    A hole is where the aggregated posterior's density is under a tenth of the prior's: samples of the prior come from
    there, data do not. Numbers: both densities on a grid, and whether it is a hole.
    """
    assert request.part is not None
    found = posteriors(model, request.part)
    plane = Plane.of(found)
    reach = 3.3
    axis = torch.linspace(-reach, reach, CELLS, dtype=torch.float64)
    grid = [axis] * len(plane.keys)
    data, prior = density(found, plane, grid), prior_density(grid)
    holes = data < HOLE * prior
    share = share_in_holes(found, plane)
    if len(plane.keys) == 1:
        figure = _draw_line_atlas(model, plane, axis, data, prior, holes)
    else:
        figure, (axes,) = axes_grid(9.4, 7.2)
        _draw_ground(axes, model, plane, reach)
        _draw_points(axes, found, plane, request, size=4)
        axes.contour(axis, axis, data.T, levels=levels_of_mass(data, [0.9, 0.5]), colors="black", linewidths=[0.8, 1.6])
        inside = prior > np.exp(-0.5 * 3**2) / (2 * np.pi)
        axes.contourf(axis, axis, (holes & inside).T.double(), levels=[0.5, 1.5], colors="none", hatches=["////"])
        _draw_prior(axes, radii=(1, 2, 3))
        samples = _draw_samples(axes, model, plane, request, axis, holes)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal",
                 xlabel=plane.names[0], ylabel=plane.names[1])
        axes.grid(False)
        _legend(axes, class_table(found, plane, request.classes), *samples,
                Line2D([], [], color="black", linewidth=1.2, label="50 % and 90 % of the data"))
    figure.axes[0].set_title(f"Where data and samples lie: {share:.0%} of the samples come from holes (hatched)")
    shape = (len(axis),) * len(plane.keys)
    table = [dict(zip(plane.keys, (axis[i].item() for i in index), strict=True))
             | {"aggregated_posterior": data[index].item(), "prior": prior[index].item(), "hole": bool(holes[index])}
             for index in np.ndindex(*shape)]
    return Picture(figure, table)


@torch.no_grad()
@styled
def region(model: GenerativeModel, request: Request) -> Picture:
    """Samples from a chosen region, z ~ N(center, spread^2 I), with its place on a map where there are two dimensions.

    What a VAE can do and a GAN cannot. Numbers: each image's z.
    """
    center = [0.0] * model.latent_dim if request.center is None else [float(value) for value in request.center]
    require(len(center) == model.latent_dim, "center", center, f"{model.latent_dim} numbers, one for each dimension")
    count = min(request.n, 60)
    noise = model.prior(count, 1.0, generator(request.seed, "region"))
    z = torch.tensor(center).to(noise) + request.spread * noise
    shown = f"({', '.join(f'{value:g}' for value in center[:4])}{', ...' if len(center) > 4 else ''})"
    title = f"{count} samples around {shown}, spread {request.spread:g}"
    images = model.generate(z)
    if model.latent_dim > 2:
        return Picture(image_table(images, min(10, count), title), latent_table(z))
    rows = -(-count // 10)
    figure, (left, right) = axes_grid(9.5, max(3.2, 0.6 * rows + 0.9), columns=2, widths=[1, 2.4])
    points = torch.cat([z.cpu(), torch.zeros(count, 2 - model.latent_dim)], dim=1)
    _draw_prior(left)
    left.scatter(points[:, 0], points[:, 1], s=8, color="#d55e00", zorder=3)
    middle = [*center, 0.0][:2]
    left.add_patch(Circle((middle[0], middle[1]), request.spread, fill=False, color="#d55e00"))
    far = max(3.0, 1.2 * points.abs().max().item())
    left.set(xlim=(-far, far), ylim=(-far, far), aspect="equal", xlabel="z0", title="where")
    if model.latent_dim == 2:
        left.set_ylabel("z1")
    show_images(right, images, min(10, count), title)
    return Picture(figure, latent_table(z))


def levels_of_mass(values: Tensor, shares: list[float]) -> list[float]:
    """The densities above which these shares of the mass of a grid lie: contours of highest density."""
    falling = values.flatten().sort(descending=True).values
    mass = falling.cumsum(0) / falling.sum()
    return [falling[int((mass < share).sum().clamp(max=len(mass) - 1))].item() for share in shares]


def quantiles(count: int) -> Tensor:
    """The standard normal's quantiles at (i + 1/2) / count, (count,) float64, rising."""
    return torch.distributions.Normal(0, 1).icdf((torch.arange(count, dtype=torch.float64) + 0.5) / count)


def class_table(found: Posteriors, plane: Plane, classes: Any) -> list[dict[str, Any]]:
    """For each class, and for all: how many images, the mean of their posterior means, the mean of their standard
    deviations, in the coordinates of the plane."""
    labels = [label for label in range(len(classes)) if (found.labels == label).any()]
    groups = [(label, classes[label], found.of_class(label)) for label in labels] + [(-1, "all", found)]
    rows = []
    for label, name, group in groups:
        means, spreads = plane.project(group.mean).mean(dim=0), plane.spread(group.stddev).mean(dim=0)
        rows.append({"class": name, "label": label, "images": len(group.mean)}
                    | {f"mean_{key}": value for key, value in zip(plane.keys, means.tolist(), strict=True)}
                    | {f"stddev_{key}": value for key, value in zip(plane.keys, spreads.tolist(), strict=True)})
    return rows


def needs_data(model: object) -> bool:
    """Whether the plane that is shown has to be found first, from the test images."""
    return isinstance(model, VAE) and model.latent_dim > 2


def _plane(model: VAE, request: Request) -> Plane:
    if model.latent_dim <= 2:
        return Plane.whole(model.latent_dim)
    assert request.part is not None
    return Plane.of(posteriors(model, request.part))


def _decoded(model: VAE, plane: Plane, points: Tensor) -> Tensor:
    z = plane.embed(points).float().to(next(model.parameters()).device)
    return torch.cat([model.generate(some) for some in z.split(500)])


def _draw_prior(axes: Axes, radii: tuple[int, ...] = (1, 2)) -> None:
    for radius in radii:
        axes.add_patch(Circle((0, 0), radius, fill=False, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5))


def _draw_points(axes: Axes, found: Posteriors, plane: Plane, request: Request, size: float) -> None:
    points, labels = plane.project(found.mean)[:SHOWN], found.labels[:SHOWN]
    order = torch.randperm(len(points), generator=generator(0, "scatter"))      # no class lies over all others
    colours = [class_colour(int(label)) for label in labels[order]]
    axes.scatter(points[order, 0], points[order, 1], s=size, c=colours, alpha=0.55, linewidths=0)


def _draw_classes(axes: Axes, table: list[dict[str, Any]], plane: Plane) -> None:
    first, second = plane.keys
    for row in table[:-1] or table:
        x, y = row[f"mean_{first}"], row[f"mean_{second}"]
        axes.add_patch(Ellipse((x, y), 2 * row[f"stddev_{first}"], 2 * row[f"stddev_{second}"], fill=False,
                               color="black", linewidth=1.6, path_effects=OUTLINE, zorder=3))
        axes.plot(x, y, marker="x", markersize=5, markeredgewidth=1.6, color="black", path_effects=OUTLINE, zorder=4)
        axes.annotate(row["class"], (x, y), xytext=(6, 6), textcoords="offset points", fontsize=10, weight="bold",
                      color="black", path_effects=OUTLINE, zorder=5)


def _draw_ground(axes: Axes, model: VAE, plane: Plane, reach: float) -> None:
    """Decoded images, each over its own cell of the plane."""
    middles = (torch.arange(ATLAS, dtype=torch.float64) + 0.5) / ATLAS * 2 * reach - reach
    images = _decoded(model, plane, torch.cartesian_prod(middles.flip(0), middles).flip(1))
    sheet = tile(images if images.mean() > 0.5 else 1 - images, ATLAS, gap=0)       # on white, as ink
    axes.imshow(coloured(sheet), extent=(-reach, reach, -reach, reach), alpha=0.4, interpolation="nearest", zorder=0)


def _draw_samples(axes: Axes, model: VAE, plane: Plane, request: Request, axis: Tensor, holes: Tensor) -> list[Line2D]:
    """Draws from the prior, those in a hole in red; returns what the legend says of them."""
    draws = plane.project(model.prior(DRAWS, 1.0, generator(request.seed, "atlas")).cpu().double())
    cells = ((draws - axis[0]) / (axis[1] - axis[0])).round().long().clamp(0, len(axis) - 1)
    lost = holes[cells[:, 0], cells[:, 1]]
    kinds = [("black", ~lost, f"samples ({(~lost).sum()})"), ("#d40000", lost, f"samples in holes ({lost.sum()})")]
    for colour, chosen, _ in kinds:
        axes.scatter(draws[chosen, 0], draws[chosen, 1], s=22, marker="+", color=colour, linewidths=1)
    return [Line2D([], [], marker="+", linestyle="", color=colour, label=label) for colour, _, label in kinds]


def _frame(axes: Axes, found: Posteriors, plane: Plane) -> None:
    """Equal scales, wide enough for the prior's circles and almost all points."""
    reach = torch.quantile(plane.project(found.mean).abs().max(dim=1).values, 0.998).item()
    far = max(2.3, 1.08 * reach)
    axes.set(xlim=(-far, far), ylim=(-far, far), aspect="equal", xlabel=plane.names[0], ylabel=plane.names[1])


def _draw_ridges(axes: Axes, found: Posteriors, table: list[dict[str, Any]]) -> None:
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
        axes.errorbar(row["mean_z0"], height - 0.07, xerr=row["stddev_z0"], marker="x", color=colour, capsize=3)
    axes.set_yticks(range(len(rows)), [row["class"] for row in reversed(rows)])
    for radius in (-2, -1, 1, 2):
        axes.axvline(radius, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlabel="z0; cross and bar: class mean and mean standard deviation", xlim=(-far, far))


def _draw_line_atlas(model: VAE, plane: Plane, axis: Tensor, data: Tensor, prior: Tensor, holes: Tensor) -> Figure:
    figure, (axes,) = axes_grid(9, 4)
    axes.plot(axis, prior, color=QUIET, linestyle=(0, (4, 3)), label="prior")
    axes.plot(axis, data, label="aggregated posterior")
    axes.fill_between(axis, prior, where=holes.numpy(), hatch="////", facecolor="none", edgecolor="#d55e00",
                      label="hole")
    low, high = axis[0].item(), axis[-1].item()
    count = 24
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count * (high - low) + low
    sheet = tile(_decoded(model, plane, middles[:, None]), count, gap=0)
    height = (high - low) / count * max(data.max().item(), 0.45) * 2.2 / 7
    axes.imshow(coloured(sheet), extent=(low, high, -height, 0), aspect="auto")
    axes.set(xlabel="z0", ylabel="density", xlim=(low, high), ylim=(-height, None))
    axes.legend()
    return figure


def _legend(axes: Axes, table: list[dict[str, Any]], *more: Line2D) -> None:
    circles = Line2D([], [], color=QUIET, linestyle=(0, (4, 3)), label="the prior's sigmas")
    classes = [Line2D([], [], marker="o", linestyle="", color=class_colour(row["label"]), label=row["class"])
               for row in table[:-1]]
    rest = f" (of {len(classes)})" if len(classes) > NAMED else ""
    axes.legend(handles=[*classes[:NAMED], circles, *more], loc="center left", bbox_to_anchor=(1.01, 0.5),
                title=f"classes{rest}" if classes else None, fontsize=9)
