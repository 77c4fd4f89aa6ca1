"""The confusion matrix of a classifier."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, axes_grid, styled
from genmodels.metrics.predictions import predict
from genmodels.models.classifier import Classifier

MIN_FULL_COLOUR = 5.0  # percent of mistakes that have the full colour, or more if there are
MAX_NUMBERED_CLASSES = 30  # up to which cells have numbers, and classes names
CELL_INCHES = 0.5
MARGIN_INCHES = 1.6
MAX_SIDE_INCHES = 10.0
MAX_UPRIGHT_LETTERS = 3  # of a class's name; with a longer one all names are slanted


@styled
def confusion(model: Classifier, options: FigureOptions) -> FigureResult:
    """A row for each class of the test images, a column for each prediction, in percent of the row.

    Mistakes are coloured, right predictions are gray.

    Numbers: for each pair of classes the images and their share of the row.
    """
    assert options.test is not None
    predictions = predict(model, options.test)
    counts = predictions.confusion.numpy()  # (K, K)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [options.class_name(label) for label in range(len(counts))]

    side = min(CELL_INCHES * len(counts) + MARGIN_INCHES, MAX_SIDE_INCHES)
    figure, (axes,) = axes_grid(side + 1.0, side)
    full_colour = _draw_cells(axes, counts, shares)
    if len(counts) <= MAX_NUMBERED_CLASSES:
        _draw_numbers(axes, counts, shares, full_colour)
        _name_classes(axes, names)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    numbers = predictions.numbers()
    axes.set(
        title=f"{numbers['accuracy']:.2%} of {numbers['n']:,} test images are recognised",
        xlabel="the classifier's prediction",
        ylabel="class of the image",
    )
    table = []
    for (row, column), count in np.ndenumerate(counts):
        pair = {"class": names[row], "answer": names[column]}
        table.append(pair | {"images": int(count), "share": shares[row, column].item()})
    return FigureResult(figure, table)


def _draw_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> float:
    """Colour the cells, with a colour bar; returns the percent of mistakes of the full colour."""
    right = np.eye(len(counts), dtype=bool)
    mistakes = np.where(right | (counts == 0), np.nan, 100 * shares)
    full_colour = float(max(MIN_FULL_COLOUR, np.nanmax(mistakes, initial=0)))
    axes.imshow(np.where(right, 0.9, 1), cmap="gray", vmin=0, vmax=1)
    image = axes.imshow(mistakes, cmap="OrRd", vmin=0, vmax=full_colour)
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(
        image,
        ax=axes,
        fraction=0.04,
        pad=0.02,
        label="mistakes (% of the class)",
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    return full_colour


def _draw_numbers(axes: Axes, counts: np.ndarray, shares: np.ndarray, full_colour: float) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if not counts[row, column]:
            continue
        is_right = row == column
        is_dark = not is_right and 100 * share > 0.6 * full_colour
        axes.text(
            column,
            row,
            f"{100 * share:.1f}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if is_dark else "#222222",
            weight="bold" if is_right else "normal",
        )


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    upright = max(map(len, names)) <= MAX_UPRIGHT_LETTERS
    axes.set_xticks(
        range(len(names)),
        names,
        rotation=0 if upright else 40,
        ha="center" if upright else "right",
        rotation_mode="anchor",
    )
    axes.set_yticks(range(len(names)), names)
