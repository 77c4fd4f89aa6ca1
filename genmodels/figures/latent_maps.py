"""Maps of the latent space: what is decoded where, where the data lie, and where samples come from."""

from typing import Any

import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from torch import Tensor

from genmodels.errors import require
from genmodels.figures import latent_map_plots
from genmodels.figures.grids import latent_table
from genmodels.figures.labels import in_turn
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import (
    FigureResult,
    axes_grid,
    image_table,
    show_images,
    styled,
)
from genmodels.metrics.aggregated_posterior import (
    HOLE,
    LatentPlane,
    Posteriors,
    density,
    posteriors,
    prior_density,
    share_in_holes,
)
from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE
from genmodels.randomness import generator

GRID = 20  # images along each side of a grid
STRIP = 30  # images of a one-dimensional latent space
CELLS = 121  # points along each side at which densities are computed
REACH = 3.3  # how far the atlas goes, in standard deviations of the prior


@torch.no_grad()
def latent_grid(model: VAE, options: FigureOptions) -> FigureResult:
    """The latent plane decoded at the prior's quantiles (i + 1/2) / n: each image stands for the same share of samples.

    One dimension: a strip. More than two: the plane of the first two principal components of the posterior means, the
    others held at their mean. Numbers: each image's coordinates.
    """
    plane = _plane(model, options)
    flat = len(plane.keys) == 2
    values = quantiles(GRID if flat else STRIP)
    labels: dict[str, Any] = {"column_labels": [], "row_labels": []}
    points = values[:, None]
    if flat:
        points = torch.cartesian_prod(values.flip(0), values).flip(
            1
        )  # row by row, the largest y at the top
        marks = [
            f"{value:.1f}" if index % 3 == 1 else "" for index, value in enumerate(values.tolist())
        ]
        labels = {
            "column_labels": marks,
            "row_labels": marks[::-1],
            "x_label": plane.names[0],
            "y_label": plane.names[1],
        }
    else:
        labels["x_label"] = f"z0 from {values[0]:.1f} to {values[-1]:.1f}, row by row"
    chosen = in_turn(model, options, len(points), most=1)
    title = f"The latent {'plane' if flat else 'line'} at equal steps of probability{chosen.words}"
    images = latent_map_plots.decoded(model, plane, points, options)
    figure = image_table(images, GRID if flat else 10, title, gap=0, **labels)
    return FigureResult(
        figure,
        [
            {name: values[index] for name, values in chosen.column.items()}
            | {"image": index, **dict(zip(plane.keys, point, strict=True))}
            for index, point in enumerate(points.tolist())
        ],
    )


@torch.no_grad()
@styled
def latent_scatter(model: VAE, options: FigureOptions) -> FigureResult:
    """Posterior means of the test images by class, on the prior's one- and two-sigma circles.

    A cross for each class at the mean of its means, an ellipse with the mean of its standard deviations. More than two
    dimensions: principal components. Numbers: these means and standard deviations for each class and for all.
    """
    assert options.test is not None
    found = posteriors(model, options.test)
    plane = LatentPlane.of(found)
    table = class_table(found, plane, options.classes)
    figure, (axes,) = axes_grid(8.8, 6.9)
    if len(plane.keys) == 1:
        latent_map_plots.draw_ridges(axes, found, table)
    else:
        latent_map_plots.draw_points(axes, found, plane, size=6)
        latent_map_plots.draw_prior(axes)
        latent_map_plots.frame(axes, found, plane)
        latent_map_plots.draw_classes(axes, table, plane)
        cross = Line2D([], [], marker="x", color="black", linestyle="", label="mean of the means")
        ellipse = Line2D(
            [],
            [],
            marker="o",
            color="black",
            linestyle="",
            markersize=9,
            fillstyle="none",
            label="mean standard deviation",
        )
        latent_map_plots.draw_legend(axes, table, "1 and 2 sigma of the prior", cross, ellipse)
    axes.set_title(f"Posterior means of {len(found.mean):,} test images")
    return FigureResult(figure, table)


@torch.no_grad()
@styled
def latent_atlas(model: VAE, options: FigureOptions) -> FigureResult:
    """The decoded plane with the data on it: density of the aggregated posterior, and the holes where samples land.

    A hole is where the aggregated posterior's density (smoothed a little) is under a tenth of the prior's: samples of
    the prior come from there, data do not. Numbers: both densities on a grid, and whether it is a hole.
    """
    assert options.test is not None
    found = posteriors(model, options.test)
    plane = LatentPlane.of(found)
    axis = torch.linspace(-REACH, REACH, CELLS, dtype=torch.float64)
    grid = [axis] * len(plane.keys)
    data, prior = density(found, plane, grid), prior_density(model.prior, plane, grid)
    holes = data < HOLE * prior
    if len(plane.keys) == 1:
        figure = latent_map_plots.draw_line_atlas(model, plane, options, axis, data, prior, holes)
    else:
        table = class_table(found, plane, options.classes)
        figure = latent_map_plots.draw_plane_atlas(
            model, found, plane, options, table, axis, data, holes
        )
    share = share_in_holes(found, model.prior, plane)
    figure.axes[0].set_title(
        f"Where data and samples lie: {share:.0%} of the prior's samples come from holes (hatched)"
    )
    shape = (len(axis),) * len(plane.keys)
    table = [
        dict(zip(plane.keys, (axis[i].item() for i in index), strict=True))
        | {
            "aggregated_posterior": data[index].item(),
            "prior": prior[index].item(),
            "hole": bool(holes[index]),
        }
        for index in np.ndindex(*shape)
    ]
    return FigureResult(figure, table)


@torch.no_grad()
@styled
def region(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """Samples from a chosen region, z ~ N(center, spread^2 I), with its place on a map where there are two dimensions.

    Of a VAE, whose encoder tells where images lie, it is a place to be chosen; a GAN has none. Numbers: each image's z.
    """
    center = (
        [0.0] * model.latent_dim
        if options.center is None
        else [float(value) for value in options.center]
    )
    require(
        len(center) == model.latent_dim,
        "center",
        center,
        f"{model.latent_dim} numbers, one for each dimension",
    )
    count = min(options.n, 60)
    noise = StandardNormal(model.latent_dim).sample(
        count, generator=generator(options.seed, "region")
    )
    z = torch.tensor(center) + options.stddev * noise
    shown = (
        f"({', '.join(f'{value:g}' for value in center[:4])}{', ...' if len(center) > 4 else ''})"
    )
    chosen = in_turn(model, options, count, most=1)
    title = f"{count} samples around {shown}, spread {options.stddev:g}{chosen.words}"
    images, table = (
        model.generate(z.to(model.device), chosen.values),
        latent_table(z, **chosen.column),
    )
    if model.latent_dim > 2:
        return FigureResult(image_table(images, min(10, count), title), table)
    rows = -(-count // 10)
    figure, (left, right) = axes_grid(9.5, max(3.2, 0.6 * rows + 0.9), columns=2, widths=[1, 2.4])
    points = torch.cat([z, torch.zeros(count, 2 - model.latent_dim)], dim=1)
    latent_map_plots.draw_prior(left)
    left.scatter(points[:, 0], points[:, 1], s=8, color="C1", zorder=3)
    middle = [*center, 0.0][:2]
    left.add_patch(Circle((middle[0], middle[1]), options.stddev, fill=False, color="C1"))
    far = max(3.0, 1.2 * points.abs().max().item())
    left.set(xlim=(-far, far), ylim=(-far, far), aspect="equal", xlabel="z0", title="where")
    if model.latent_dim == 2:
        left.set_ylabel("z1")
    show_images(right, images, min(10, count), title)
    return FigureResult(figure, table)


def quantiles(count: int) -> Tensor:
    """The standard normal's quantiles at (i + 1/2) / count, (count,) float64, rising."""
    return torch.distributions.Normal(0, 1).icdf(
        (torch.arange(count, dtype=torch.float64) + 0.5) / count
    )


def class_table(found: Posteriors, plane: LatentPlane, classes: Any) -> list[dict[str, Any]]:
    """For each class, and for all: how many images, the mean of their posterior means, the mean of their standard
    deviations, in the coordinates of the plane."""
    labels = [label for label in range(len(classes)) if (found.labels == label).any()]
    groups = [(label, classes[label], found.of_class(label)) for label in labels] + [
        (-1, "all", found)
    ]
    rows = []
    for label, name, group in groups:
        means, spreads = (
            plane.project(group.mean).mean(dim=0),
            plane.project_stddev(group.stddev).mean(dim=0),
        )
        rows.append(
            {"class": name, "label": label, "images": len(group.mean)}
            | {f"mean_{key}": value for key, value in zip(plane.keys, means.tolist(), strict=True)}
            | {
                f"stddev_{key}": value
                for key, value in zip(plane.keys, spreads.tolist(), strict=True)
            }
        )
    return rows


def needs_data(model: object) -> bool:
    """Whether the plane that is shown has to be found first, from the test images."""
    return isinstance(model, VAE) and model.latent_dim > 2


def _plane(model: VAE, options: FigureOptions) -> LatentPlane:
    if model.latent_dim <= 2:
        return LatentPlane.whole(model.latent_dim)
    assert options.test is not None
    return LatentPlane.of(posteriors(model, options.test))
