"""The picture of what a classifier takes for what."""

import numpy as np

from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, axes_grid, styled
from genmodels.metrics.predictions import predict
from genmodels.models.classifier import Classifier

LEAST = 5.0  # percent of mistakes that have the full colour, or more if there are
NUMBERED = 30  # classes up to which each cell has its number, and each class its name
CELL, MARGIN, WIDEST = 0.5, 1.6, 10.0  # inches


@styled
def confusion(model: Classifier, options: FigureOptions) -> FigureResult:
    """A row for each class of the test images, a column for each answer: the shares of the row's images, in percent.

    Mistakes are coloured, right answers are gray. Numbers: for each pair the images and their share of the row.
    """
    assert options.test is not None
    found = predict(model, options.test)
    counts = found.confusion.numpy()  # (K, K)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [options.class_name(label) or str(label) for label in range(len(counts))]
    right = np.eye(len(counts), dtype=bool)
    mistakes = np.where(right | (counts == 0), np.nan, 100 * shares)

    side = min(CELL * len(counts) + MARGIN, WIDEST)
    figure, (axes,) = axes_grid(side + 1.0, side)
    most = max(LEAST, np.nanmax(mistakes, initial=0))
    axes.imshow(np.where(right, 0.9, 1), cmap="gray", vmin=0, vmax=1)
    image = axes.imshow(mistakes, cmap="OrRd", vmin=0, vmax=most)
    bar = figure.colorbar(
        image, ax=axes, fraction=0.04, pad=0.02, label="mistakes (% of the class)"
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    if len(counts) <= NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                dark = row != column and 100 * share > 0.6 * most
                axes.text(
                    column,
                    row,
                    f"{100 * share:.1f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "#222222",
                    weight="bold" if row == column else "normal",
                )
        upright = max(map(len, names)) <= 3
        axes.set_xticks(
            range(len(names)),
            names,
            rotation=0 if upright else 40,
            ha="center" if upright else "right",
            rotation_mode="anchor",
        )
        axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    numbers = found.numbers()
    axes.set(
        title=f"{numbers['accuracy']:.2%} of {numbers['n']:,} test images are recognised",
        xlabel="the classifier's answer",
        ylabel="class of the image",
    )
    table = [
        {
            "class": names[row],
            "answer": names[column],
            "images": int(count),
            "share": shares[row, column].item(),
        }
        for (row, column), count in np.ndenumerate(counts)
    ]
    return FigureResult(figure, table)
