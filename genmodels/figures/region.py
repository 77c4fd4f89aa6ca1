"""Samples from a chosen region of the latent space."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from torch import Tensor

from genmodels.errors import require
from genmodels.figures.grids import latent_table
from genmodels.figures.labels import labels_in_turn
from genmodels.figures.latent_plane_plots import draw_prior
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import (
    FigureResult,
    axes_grid,
    image_table,
    show_images,
    styled,
)
from genmodels.metrics.aggregated_posterior import LatentPlane, PriorDensity
from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import Prior, StandardNormal
from genmodels.randomness import generator

MAX_IMAGES = 60
COLUMNS = 10
MAX_LISTED_NUMBERS = 4  # of the center, in the title
MIN_REACH = 3.0  # of the map


@torch.no_grad()
@styled
def region(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """Samples from a chosen region, z ~ N(center, stddev^2 I); in two dimensions also where it is.

    The encoder of a VAE tells where images lie, so that a region can be chosen; a GAN has none.

    Numbers: each image's z. Raises ValueError for a center of another dimension.
    """
    center = [0.0] * model.latent_dim if options.center is None else list(options.center)
    center = [float(value) for value in center]
    words = f"{model.latent_dim} numbers, one for each dimension"
    require(len(center) == model.latent_dim, "center", center, words)
    count = min(options.n, MAX_IMAGES)
    unit_normal = StandardNormal(model.latent_dim)
    noise = unit_normal.sample(count, generator=generator(options.seed, "region"))
    z = torch.tensor(center) + options.stddev * noise
    labels = labels_in_turn(model, options, count, max_classes=1)
    images = model.generate(z.to(model.device), labels.values)
    title = (
        f"{count} samples around {_format_center(center)}, "
        f"standard deviation {options.stddev:g}{labels.title}"
    )
    columns = min(COLUMNS, count)
    table = latent_table(z, **labels.column)
    if model.latent_dim > 2:
        return FigureResult(image_table(images, columns, title), table)
    rows = -(-count // COLUMNS)
    figure, (map_axes, image_axes) = axes_grid(
        9.5, max(3.2, 0.6 * rows + 0.9), columns=2, widths=[1, 2.4]
    )
    _draw_map(map_axes, model.prior, z, center, options.stddev)
    show_images(image_axes, images, columns, title)
    return FigureResult(figure, table)


def _format_center(center: Sequence[float]) -> str:
    numbers = [f"{value:g}" for value in center[:MAX_LISTED_NUMBERS]]
    if len(center) > MAX_LISTED_NUMBERS:
        numbers.append("...")
    return f"({', '.join(numbers)})"


def _draw_map(axes: Axes, prior: Prior, z: Tensor, center: Sequence[float], stddev: float) -> None:
    """Where the points z (N, 1 or 2) are; a line lies in the middle of the map."""
    count, dimensions = z.shape
    points = torch.cat([z, torch.zeros(count, 2 - dimensions)], dim=1)
    x, y = [*center, 0.0][:2]
    if dimensions == 2 or isinstance(prior, StandardNormal):
        draw_prior(axes, PriorDensity(prior), LatentPlane.whole(2))
    axes.scatter(points[:, 0], points[:, 1], s=8, color="C1", zorder=3)
    axes.add_patch(Circle((x, y), stddev, fill=False, color="C1"))
    reach = max(MIN_REACH, 1.2 * points.abs().max().item())
    axes.set(
        title="where",
        xlim=(-reach, reach),
        ylim=(-reach, reach),
        aspect="equal",
        xlabel="z0",
    )
    if dimensions == 2:
        axes.set_ylabel("z1")
