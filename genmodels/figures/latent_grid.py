"""The latent plane decoded at equal steps of probability."""

from typing import Any

import torch
from torch import Tensor

from genmodels.figures.labels import labels_in_turn
from genmodels.figures.latent_plane_plots import decode_plane
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, image_table
from genmodels.metrics.aggregated_posterior import LatentPlane
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE

GRID_SIDE = 20  # images along each side of a plane
LINE_IMAGES = 30  # of a one-dimensional latent space
LINE_COLUMNS = 10
NAMED_EVERY = 3  # so many columns and rows


@torch.no_grad()
def latent_grid(model: VAE, options: FigureOptions) -> FigureResult:
    """The latent plane decoded at the quantiles (i + 1/2) / n of N(0, 1).

    Each image stands for the same share of samples of N(0, I). One latent dimension is a line of
    images. More than two: the plane of the first two principal components of the posterior means,
    the others held at their mean.

    Numbers: each image's coordinates.
    """
    plane = _plane(model, options)
    is_line = len(plane.keys) == 1
    values = quantiles(LINE_IMAGES if is_line else GRID_SIDE)
    points = values[:, None] if is_line else _grid(values)
    labels = labels_in_turn(model, options, len(points), max_classes=1)
    of_other_prior = "" if isinstance(model.prior, StandardNormal) else " of N(0, 1)"
    figure = image_table(
        decode_plane(model, plane, points, options),
        LINE_COLUMNS if is_line else GRID_SIDE,
        f"The latent {'line' if is_line else 'plane'} at equal steps of probability"
        f"{of_other_prior}{labels.title}",
        gap=0,
        **_axis_labels(plane, values),
    )
    table = []
    for index, point in enumerate(points.tolist()):
        row = {name: column[index] for name, column in labels.column.items()}
        coordinates = dict(zip(plane.keys, point, strict=True))
        table.append(row | {"image": index} | coordinates)
    return FigureResult(figure, table)


def quantiles(count: int) -> Tensor:
    """The quantiles of N(0, 1) at (i + 1/2) / count, (count,) float64, rising."""
    shares = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.distributions.Normal(0, 1).icdf(shares)


def needs_data(model: object) -> bool:
    """Whether the plane depends on the test images."""
    return isinstance(model, VAE) and model.latent_dim > 2


def _plane(model: VAE, options: FigureOptions) -> LatentPlane:
    if model.latent_dim <= 2:
        return LatentPlane.whole(model.latent_dim)
    return LatentPlane.of(options.posteriors(model))


def _grid(values: Tensor) -> Tensor:
    """All (x, y) of `values` (n,), row by row, the largest y at the top: (n^2, 2)."""
    return torch.cartesian_prod(values.flip(0), values).flip(1)


def _axis_labels(plane: LatentPlane, values: Tensor) -> dict[str, Any]:
    if len(plane.keys) == 1:
        return {"x_label": f"z0 from {values[0]:.1f} to {values[-1]:.1f}, row by row"}
    names = []
    for index, value in enumerate(values.tolist()):
        names.append(f"{value:.1f}" if index % NAMED_EVERY == 1 else "")
    return {
        "column_labels": names,
        "row_labels": names[::-1],
        "x_label": plane.names[0],
        "y_label": plane.names[1],
    }
