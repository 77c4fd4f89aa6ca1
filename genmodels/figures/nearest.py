"""The picture of what a model has seen that is most like what it makes."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.figures.grids import noise
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import (
    FigureResult,
    axes_grid,
    padded,
    show_images,
    styled,
)
from genmodels.metrics.neighbours import Neighbours, neighbours
from genmodels.models.generative import GenerativeModel

MOST = 1000  # samples, and test images, that are compared
COLUMNS = 8  # of them that are shown
FOUND, SHOWN = 10, 4  # neighbours of each that are looked for, and that are shown
STYLES: dict[str, Any] = {"sample": {"color": "C1", "zorder": 3}, "test image": {"color": "C7"}}
RANKS = ("nearest", "2nd", "3rd", "4th")
WIDTH, TEXT = 14, 1.2  # inches: of the figure; above and below the images
TINY = torch.finfo(torch.float64).tiny


@torch.no_grad()
@styled
def nearest_neighbours(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """The first images of `samples` above the training images nearest to them, and test images above theirs.

    The model has not seen test images: one that copies is much nearer to the training images than they are. The
    distance is the squared one, summed over pixels in [0, 1]. Blurred images are nearer to all others, so it is also
    shown as a share of the distance to the tenth neighbour, which blur lowers too: a copy has one neighbour that is
    much nearer than the rest (in the spirit of Carlini et al. 2023, "Extracting training data from diffusion models").
    Where data have near duplicates, test images lie at the bottom as well: compare the two.

    Numbers: for each of min(n, 1000) samples, and as many test images, its ten neighbours by their position in the
    training part, with their distances.
    """
    assert options.test is not None and options.train is not None
    z, chosen = noise(model, options)
    made = model.generate(z, chosen.values)[:MOST].cpu()
    real = options.test.batch(slice(0, len(made))).images.cpu()
    found = neighbours(torch.cat([made, real]), options.train, FOUND)
    kinds = {"sample": found[: len(made)], "test image": found[len(made) :]}

    ranks, (_, height, width) = min(SHOWN, len(options.train)), model.image_shape
    figure, (left, middle, right) = axes_grid(
        WIDTH,
        (1 + ranks) * height / (COLUMNS * width) * 0.31 * WIDTH + TEXT,
        columns=3,
        widths=[1, 1, 0.75],
    )
    _draw_neighbours(
        left,
        made,
        kinds["sample"],
        options.train,
        "sample",
        "Samples above the nearest training images",
    )
    _draw_neighbours(
        middle, real, kinds["test image"], options.train, "test image", "Test images above theirs"
    )
    _draw_distances(right, kinds)
    return FigureResult(figure, list(_rows(kinds)))


def _draw_neighbours(
    axes: Axes, images: Tensor, near: Neighbours, train: ImageSet, kind: str, title: str
) -> None:
    """The first images in a row, below each its neighbours, and at the foot how far the nearest is."""
    shown = near[:COLUMNS]
    rows = [images[:COLUMNS]] + [
        train.batch(index.to(train.rows.device)).images.cpu() for index in shown.index.T[:SHOWN]
    ]
    show_images(
        axes,
        torch.cat([padded(row, COLUMNS) for row in rows]),
        COLUMNS,
        title,
        row_labels=[kind, *RANKS[: len(rows) - 1]],
        x_label="squared distance of the nearest",
        column_labels=[f"{distance:.3g}" for distance in shown.distance[:, 0].tolist()],
    )


def _draw_distances(axes: Axes, kinds: Mapping[str, Neighbours]) -> None:
    """A dot for each image: how far its nearest neighbour is, and how much nearer that is than the last one found."""
    for kind, near in kinds.items():
        first, last = near.distance[:, 0], near.distance[:, -1]
        share = first / last.clamp(min=TINY)
        axes.scatter(
            first,
            share,
            s=14,
            alpha=0.7,
            linewidths=0,
            **STYLES[kind],
            label=f"{kind}s, medians {first.median():.3g} and {share.median():.0%}",
        )
    axes.set(
        xlim=(0, None),
        ylim=(0, 1.02),
        xlabel="squared distance of the nearest",
        ylabel=f"divided by that of neighbour {near.distance.shape[1]}",
        title="Copies lie at the bottom",
    )
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right", fontsize=9, handletextpad=0.2)


def _rows(kinds: Mapping[str, Neighbours]) -> Iterator[dict[str, Any]]:
    for kind, near in kinds.items():
        for image, (places, distances) in enumerate(
            zip(near.index.tolist(), near.distance.tolist(), strict=True)
        ):
            for rank, (place, distance) in enumerate(zip(places, distances, strict=True), start=1):
                yield {
                    "kind": kind,
                    "image": image,
                    "rank": rank,
                    "train_image": place,
                    "distance": distance,
                }
