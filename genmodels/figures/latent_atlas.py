"""The latent atlas: decoded images, data, prior samples and holes on one map."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from genmodels.figures.image_sheet import as_rgb, tile
from genmodels.figures.labels import labels_in_turn
from genmodels.figures.latent_plane_plots import (
    MASS_WITHIN,
    SEEN_SHARE,
    decode_plane,
    draw_contours,
    draw_legend,
    draw_points,
    draw_prior,
    grid_axis,
    levels_of_mass,
)
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import (
    HOLE_COLOUR,
    REFERENCE_LINE,
    FigureResult,
    Row,
    axes_grid,
    styled,
)
from genmodels.metrics.aggregated_posterior import (
    HOLE,
    LatentPlane,
    Posteriors,
    PriorDensity,
    density,
    share_in_holes,
)
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE
from genmodels.randomness import generator

REACH = 3.3  # of the map, in standard deviations of N(0, I)
HATCHED_SIGMAS = 3  # within which holes are hatched
IMAGES_PER_SIDE = 25
MARKED_SAMPLES = 400


@dataclass(frozen=True)
class DensityGrid:
    """Densities on the grid of a latent line (G,) or plane (G, G)."""

    axis: Tensor  # (G,) float64, the positions along each coordinate
    data: Tensor  # the aggregated posterior
    prior: Tensor

    @property
    def holes(self) -> Tensor:
        """Where samples land and data do not."""
        return self.data < HOLE * self.prior

    @property
    def reach(self) -> float:
        """The largest coordinate."""
        return self.axis[-1].item()


@torch.no_grad()
@styled
def latent_atlas(model: VAE, options: FigureOptions) -> FigureResult:
    """The decoded plane with the data on it: the aggregated posterior's density, and its holes.

    A hole is where the aggregated posterior's density (smoothed a little) is under a tenth of the
    prior's: samples of the prior come from there, data do not.

    Numbers: both densities on a grid, and whether it is a hole.
    """
    posterior = options.posteriors(model)
    plane = LatentPlane.of(posterior)
    prior = PriorDensity(model.prior)
    axis = grid_axis(prior.reach(plane, REACH, SEEN_SHARE))
    axes = [axis] * len(plane.keys)
    grid = DensityGrid(axis, density(posterior, plane, axes), prior.on_grid(plane, axes))
    if len(axes) == 1:
        figure = _draw_line(model, plane, options, grid)
    else:
        figure = _draw_plane(model, posterior, plane, options, grid)
    share = share_in_holes(posterior, prior, plane)
    title = (
        f"Where data and samples lie: {share:.0%} of the prior's samples come from holes (hatched)"
    )
    if len(plane.directions[0]) > len(plane.keys):
        title = (
            f"In this plane, which has {plane.variance_share:.0%} of the means' variance,\n"
            f"{share:.0%} of the prior's samples come from holes (hatched)"
        )
    figure.axes[0].set_title(title)
    return FigureResult(figure, _table(plane, grid))


def _table(plane: LatentPlane, grid: DensityGrid) -> list[Row]:
    positions = grid.axis.tolist()
    holes = grid.holes
    table = []
    for index in np.ndindex(*grid.data.shape):
        row: Row = {}
        for key, position in zip(plane.keys, index, strict=True):
            row[key] = positions[position]
        row["aggregated_posterior"] = grid.data[index].item()
        row["prior"] = grid.prior[index].item()
        row["hole"] = bool(holes[index])
        table.append(row)
    return table


def _draw_plane(
    model: VAE,
    posterior: Posteriors,
    plane: LatentPlane,
    options: FigureOptions,
    grid: DensityGrid,
) -> Figure:
    """Points and samples over decoded images, contours of the data's density, hatched holes."""
    figure, (axes,) = axes_grid(9.4, 7.2)
    _draw_images(axes, model, plane, options, grid.reach)
    draw_points(axes, posterior, plane, size=4)
    draw_contours(axes, grid.axis, grid.data, [0.9, 0.5], colors="black", linewidths=[0.8, 1.6])
    hatched = grid.holes & _within_prior(model, grid)
    axes.contourf(
        grid.axis,
        grid.axis,
        hatched.T.double(),
        levels=[0.5, 1.5],
        colors="none",
        hatches=["////"],
    )
    prior_entry = draw_prior(axes, PriorDensity(model.prior), plane, sigmas=(1, 2, HATCHED_SIGMAS))
    sample_entries = _draw_samples(axes, model, plane, options, grid)
    axes.set(
        xlim=(-grid.reach, grid.reach),
        ylim=(-grid.reach, grid.reach),
        aspect="equal",
        xlabel=plane.names[0],
        ylabel=plane.names[1],
    )
    axes.grid(False)
    contours = Line2D([], [], color="black", linewidth=1.2, label="50 % and 90 % of the data")
    classes = []
    for label, name in enumerate(options.classes):
        if (posterior.labels == label).any():
            classes.append((name, label))
    entries = [prior_entry, *sample_entries, contours, *_images_entry(model, options)]
    draw_legend(axes, classes, entries)
    return figure


def _draw_images(
    axes: Axes, model: VAE, plane: LatentPlane, options: FigureOptions, reach: float
) -> None:
    """Decoded images, each over its own cell of the plane."""
    middles = _cell_middles(reach)
    points = torch.cartesian_prod(middles.flip(0), middles).flip(1)
    images = decode_plane(model, plane, points, options)
    on_white = images if images.mean() > 0.5 else 1 - images
    axes.imshow(
        as_rgb(tile(on_white, IMAGES_PER_SIDE, gap=0)),
        extent=(-reach, reach, -reach, reach),
        alpha=0.4,
        interpolation="nearest",
        zorder=0,
    )


def _cell_middles(reach: float) -> Tensor:
    """(IMAGES_PER_SIDE,) float64 from -reach to reach."""
    numbers = torch.arange(IMAGES_PER_SIDE, dtype=torch.float64)
    return (numbers + 0.5) / IMAGES_PER_SIDE * 2 * reach - reach


def _within_prior(model: VAE, grid: DensityGrid) -> Tensor:
    """Where nearly all of the prior's mass lies, (G, G) bool."""
    if isinstance(model.prior, StandardNormal):
        radius = torch.cartesian_prod(grid.axis, grid.axis).norm(dim=1)
        return radius.view_as(grid.prior) < HATCHED_SIGMAS
    return grid.prior > levels_of_mass(grid.prior, [MASS_WITHIN[HATCHED_SIGMAS]])[0]


def _draw_samples(
    axes: Axes, model: VAE, plane: LatentPlane, options: FigureOptions, grid: DensityGrid
) -> list[Line2D]:
    """Draws from the prior, those in a hole in red; returns their entries in the legend."""
    z = model.prior.sample(MARKED_SAMPLES, generator=generator(options.seed, "atlas"))
    points = plane.project(z.cpu().double())
    step = grid.axis[1] - grid.axis[0]
    cells = ((points - grid.axis[0]) / step).round().long().clamp(0, len(grid.axis) - 1)
    in_hole = grid.holes[cells[:, 0], cells[:, 1]]
    return [
        _draw_crosses(axes, points[~in_hole], "black", "samples"),
        _draw_crosses(axes, points[in_hole], HOLE_COLOUR, "samples in holes"),
    ]


def _draw_crosses(axes: Axes, points: Tensor, colour: str, name: str) -> Line2D:
    label = f"{name} ({len(points)})"
    axes.scatter(points[:, 0], points[:, 1], s=22, marker="+", color=colour, linewidths=1)
    return Line2D([], [], marker="+", linestyle="", color=colour, label=label)


def _draw_line(model: VAE, plane: LatentPlane, options: FigureOptions, grid: DensityGrid) -> Figure:
    """One dimension: both densities, holes, and decoded images under their place on the axis."""
    figure, (axes,) = axes_grid(9, 4)
    axes.plot(grid.axis, grid.prior, label="prior", **REFERENCE_LINE)
    axes.plot(grid.axis, grid.data, label="aggregated posterior", linewidth=2)
    axes.fill_between(
        grid.axis,
        grid.prior,
        where=grid.holes.numpy(),
        label="hole",
        hatch="////",
        facecolor="none",
    )
    points = _cell_middles(grid.reach)[:, None]
    images = decode_plane(model, plane, points, options)
    top = 1.1 * max(grid.data.max().item(), grid.prior.max().item())
    bottom = -0.12 * top
    axes.imshow(
        as_rgb(tile(images, IMAGES_PER_SIDE, gap=0)),
        extent=(-grid.reach, grid.reach, bottom, 0),
        aspect="auto",
        interpolation="nearest",
    )
    axes.set(
        xlim=(-grid.reach, grid.reach),
        ylim=(bottom, top),
        xlabel="z0",
        ylabel="density",
    )
    entries, _ = axes.get_legend_handles_labels()
    axes.legend(handles=[*entries, *_images_entry(model, options)])
    return figure


def _images_entry(model: VAE, options: FigureOptions) -> list[Line2D]:
    """The legend's entry of the decoded images, where their model knows classes."""
    labels = labels_in_turn(model, options, 1, max_classes=1)
    if not labels.title:
        return []
    return [Line2D([], [], linestyle="", label=f"images{labels.title}")]
