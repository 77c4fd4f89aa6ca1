"""What maps of the latent plane have in common: the prior, the data by class, decoded images."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from torch import Tensor

from genmodels.figures.labels import labels_in_turn
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import REFERENCE_LINE, class_colour
from genmodels.metrics.aggregated_posterior import LatentPlane, Posteriors, PriorDensity
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE
from genmodels.randomness import generator

DECODED_AT_ONCE = 500
MAX_POINTS = 5000  # of a scatter; more would hide each other
MAX_LEGEND_CLASSES = 26
GRID_POINTS = 121  # along each side of a plane, at which densities are computed
SEEN_SHARE = 0.9995  # of the draws of a prior, that axes hold
MASS_WITHIN = {1: 0.393, 2: 0.865, 3: 0.989}  # of N(0, I) in the plane, by standard deviations


def decode_plane(model: VAE, plane: LatentPlane, points: Tensor, options: FigureOptions) -> Tensor:
    """Images (N, C, H, W) at the points (N, P) of a plane, all of the first requested class."""
    z = plane.embed(points).float().to(model.device)
    images = []
    for batch in z.split(DECODED_AT_ONCE):
        labels = labels_in_turn(model, options, len(batch), max_classes=1)
        images.append(model.generate(batch, labels.values))
    return torch.cat(images)


def grid_axis(reach: float) -> Tensor:
    """Positions (GRID_POINTS,) float64 of a grid from -reach to reach."""
    return torch.linspace(-reach, reach, GRID_POINTS, dtype=torch.float64)


def draw_prior(
    axes: Axes, prior: PriorDensity, plane: LatentPlane, sigmas: Sequence[int] = (1, 2)
) -> Line2D:
    """Where the prior's mass lies in a plane; returns the entry of the legend.

    For N(0, I) it is circles at these standard deviations, for other priors contours of highest
    density that hold the same shares of the mass.
    """
    if isinstance(prior.prior, StandardNormal):
        for radius in sigmas:
            axes.add_patch(Circle((0, 0), radius, fill=False, zorder=2.5, **REFERENCE_LINE))
        names = [str(radius) for radius in sigmas]
        unit = " sigma"
    else:
        shares = [MASS_WITHIN[radius] for radius in sigmas]
        axis = grid_axis(prior.reach(plane, max(sigmas), SEEN_SHARE))
        draw_contours(
            axes,
            axis,
            prior.on_grid(plane, [axis, axis]),
            shares[::-1],
            colors=REFERENCE_LINE["color"],
            linewidths=REFERENCE_LINE["linewidth"],
            linestyles=[REFERENCE_LINE["linestyle"]],
            zorder=2.5,
        )
        names = [f"{share:.0%}" for share in shares]
        unit = ""
    label = f"{', '.join(names[:-1])} and {names[-1]}{unit} of the prior"
    return Line2D([], [], label=label, **REFERENCE_LINE)


def draw_contours(
    axes: Axes, axis: Tensor, density: Tensor, shares: Sequence[float], **style: Any
) -> None:
    """Contours of a density (G, G) on the grid of `axis` (G,) around falling shares of its mass."""
    axes.contour(axis, axis, density.T, levels=levels_of_mass(density, shares), **style)


def levels_of_mass(density: Tensor, shares: Sequence[float]) -> list[float]:
    """The levels of a density on a grid above which these shares of its mass lie."""
    falling = density.flatten().sort(descending=True).values
    mass = falling.cumsum(0) / falling.sum()
    levels = []
    for share in shares:
        index = (mass < share).sum().clamp(max=len(mass) - 1)
        levels.append(falling[index].item())
    return levels


def draw_points(axes: Axes, posterior: Posteriors, plane: LatentPlane, size: float) -> None:
    """Posterior means, coloured by class."""
    points = plane.project(posterior.mean)[:MAX_POINTS]
    # in random order, so that no class covers all others
    order = torch.randperm(len(points), generator=generator(0, "scatter"))
    points, labels = points[order], posterior.labels[order].tolist()
    colours = [class_colour(label) for label in labels]
    axes.scatter(points[:, 0], points[:, 1], s=size, c=colours, alpha=0.55, linewidths=0)


def draw_legend(
    axes: Axes, classes: Sequence[tuple[str, int]], other_entries: Sequence[Line2D]
) -> None:
    """The classes, by name and label, and other entries, to the right of the axes."""
    handles = []
    for name, label in classes[:MAX_LEGEND_CLASSES]:
        colour = class_colour(label)
        handles.append(Line2D([], [], marker="o", linestyle="", color=colour, label=name))
    title = "classes" if classes else None
    if len(classes) > MAX_LEGEND_CLASSES:
        title = f"classes (of {len(classes)})"
    axes.legend(
        handles=[*handles, *other_entries],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        title=title,
        fontsize=9,
    )
