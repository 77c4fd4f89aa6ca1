"""Nearest neighbours: the training images that are most like what a model makes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.figures.grids import sample_latents
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, Row, axes_grid, pad_images, show_images, styled
from genmodels.metrics.neighbours import Neighbours, neighbours
from genmodels.models.generative import GenerativeModel

MAX_COMPARED = 1000  # samples, and as many test images
COLUMNS = 8  # of them that are shown
NEIGHBOURS = 10  # of each image in the table
RANKS = ("nearest", "2nd", "3rd", "4th")  # of the neighbours that are shown
WIDTH_INCHES = 14
TEXT_INCHES = 1.2  # above and below the images
SHEET_SHARE = 0.31  # of the figure's width, for each sheet of images
STYLES: dict[str, Any] = {"sample": {"color": "C1", "zorder": 3}, "test image": {"color": "C7"}}
TINY = torch.finfo(torch.float64).tiny


@torch.no_grad()
@styled
def nearest_neighbours(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """Samples above the training images nearest to them, and test images above theirs.

    The samples are the first ones of `samples`. The model has not seen test images: one that copies
    is much nearer to the training images than they are. The distance is the squared one, summed
    over pixels in [0, 1]. Blurred images are nearer to all others, so the distance is also shown as
    a share of that to the tenth neighbour, which blur lowers too: a copy has one neighbour that is
    much nearer than the others (in the spirit of Carlini et al. 2023, "Extracting training data
    from diffusion models"). Where data have near duplicates, test images lie at the bottom as well:
    compare the two.

    Numbers: for each of min(n, 1000) samples, and as many test images, its ten neighbours by their
    position in the training split, with their distances.
    """
    assert options.test is not None and options.train is not None
    z, labels = sample_latents(model, options)
    generated = model.generate(z, labels.values)[:MAX_COMPARED].cpu()
    real = options.test.batch(slice(0, len(generated))).images.cpu()
    of_both = neighbours(torch.cat([generated, real]), options.train, NEIGHBOURS)
    count = len(generated)
    nearest = {"sample": of_both[:count], "test image": of_both[count:]}

    _, height, width = model.image_shape
    rows = 1 + min(len(RANKS), len(options.train))
    sheet_height = rows * height / (COLUMNS * width) * SHEET_SHARE * WIDTH_INCHES
    figure, (left, middle, right) = axes_grid(
        WIDTH_INCHES, sheet_height + TEXT_INCHES, columns=3, widths=[1, 1, 0.75]
    )
    _draw_neighbours(left, "sample", generated, nearest["sample"], options.train)
    left.set_title("Samples above the nearest training images")
    _draw_neighbours(middle, "test image", real, nearest["test image"], options.train)
    middle.set_title("Test images above theirs")
    _draw_distances(right, nearest)
    return FigureResult(figure, _table(nearest))


def _draw_neighbours(
    axes: Axes, kind: str, images: Tensor, nearest: Neighbours, train: ImageSet
) -> None:
    """Images in a row, below each its neighbours, and under them the distance of the nearest."""
    first = nearest[:COLUMNS]
    rows = [pad_images(images[:COLUMNS], COLUMNS)]
    for positions in first.index.T[: len(RANKS)]:
        neighbour_images = train.batch(positions.to(train.rows.device)).images.cpu()
        rows.append(pad_images(neighbour_images, COLUMNS))
    show_images(
        axes,
        torch.cat(rows),
        COLUMNS,
        row_labels=[kind, *RANKS[: len(rows) - 1]],
        x_label="squared distance of the nearest",
        column_labels=[f"{distance:.3g}" for distance in first.distance[:, 0].tolist()],
    )


def _draw_distances(axes: Axes, nearest: Mapping[str, Neighbours]) -> None:
    """A dot for each image: how far its nearest neighbour is, and in relation to the last one."""
    last_rank = 0
    for kind, of_kind in nearest.items():
        distance = of_kind.distance[:, 0]
        share = distance / of_kind.distance[:, -1].clamp(min=TINY)
        label = f"{kind}s, medians {distance.median():.3g} and {share.median():.0%}"
        axes.scatter(distance, share, s=14, alpha=0.7, linewidths=0, label=label, **STYLES[kind])
        last_rank = of_kind.distance.shape[1]
    axes.set(
        xlim=(0, None),
        ylim=(0, 1.02),
        xlabel="squared distance of the nearest",
        ylabel=f"divided by that of neighbour {last_rank}",
        title="Copies lie at the bottom",
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right", fontsize=9, handletextpad=0.2)


def _table(nearest: Mapping[str, Neighbours]) -> list[Row]:
    table = []
    for kind, of_kind in nearest.items():
        for (image, rank), distance in np.ndenumerate(of_kind.distance.numpy()):
            row = {
                "kind": kind,
                "image": image,
                "rank": rank + 1,
                "train_image": int(of_kind.index[image, rank]),
                "distance": float(distance),
            }
            table.append(row)
    return table
