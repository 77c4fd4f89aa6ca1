"""What a data set looks like, before a model is trained on it."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from genmodels.data.images import to_float
from genmodels.data.statistics import DatasetStatistics
from genmodels.figures.plotting import FigureResult, pad_images, show_images, styled

MAX_CLASS_ROWS = 12  # rows of images, one for each class; of more classes, evenly spaced ones
COLUMNS = 12
UNLABELLED_ROWS = 4
MODEL_IMAGES = 24  # shown as the model sees them
MAX_NAMED_CLASSES = 30
MAX_NAME_LETTERS = 16
CHANNELS = {
    1: [("gray", "#444444")],
    3: [("red", "#d55e00"), ("green", "#009e73"), ("blue", "#0072b2")],
}
WIDTH_INCHES = 13
ROW_INCHES = 0.56


@styled
def draw_dataset(statistics: DatasetStatistics, seen: Tensor) -> FigureResult:
    """Training images by class, images as the model sees them, pixel values and class sizes.

    Arguments:
    statistics: of the data set.
    seen: images (B, C, H, W) as an update takes them: augmented, binarised.
    """
    data, classes = statistics.data, statistics.classes
    shown = _shown_classes(len(classes))
    rows = _example_rows(statistics, shown)
    title = f"{data.spec.name}: training images"
    if len(shown) < len(classes):
        title += f", {len(shown)} of {len(classes)} classes"
    row_labels = []
    if data.spec.classes:
        sizes = np.sum(list(statistics.counts.values()), axis=0)  # (K,)
        row_labels = [f"{classes[label]}  {sizes[label]:,}" for label in shown]

    heights = [ROW_INCHES * len(rows) + 0.5, 1.6, 3.2]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
    subfigures = figure.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]
    examples, as_seen, charts = subfigures
    show_images(examples.subplots(), torch.cat(rows), COLUMNS, title, row_labels=row_labels)
    show_images(
        as_seen.subplots(),
        seen[:MODEL_IMAGES],
        MODEL_IMAGES // 2,
        "as the model sees them: the first of the first batch",
    )
    values_axes, classes_axes = charts.subplots(1, 2)
    _draw_values(values_axes, statistics.values.sum(axis=0))
    _draw_classes(classes_axes, statistics)
    return FigureResult(figure, statistics.table())


def _shown_classes(count: int) -> list[int]:
    """Up to MAX_CLASS_ROWS labels, evenly spaced."""
    spaced = np.linspace(0, count - 1, MAX_CLASS_ROWS).round().astype(int)
    return np.unique(spaced).tolist()


def _example_rows(statistics: DatasetStatistics, classes: Sequence[int]) -> list[Tensor]:
    """Rows of training images: the first of each of these classes, if there are labels."""
    train = statistics.data.train
    if statistics.data.spec.classes:
        labels = train.labels[train.rows]
        positions = [(labels == label).nonzero().flatten()[:COLUMNS] for label in classes]
    else:
        count = min(len(train), UNLABELLED_ROWS * COLUMNS)
        positions = list(torch.arange(count).split(COLUMNS))
    rows = []
    for indices in positions:
        images = to_float(train.images[train.rows[indices]])
        rows.append(pad_images(images, COLUMNS))
    return rows


def _draw_values(axes: Axes, values: np.ndarray) -> None:
    """How often each value occurs in each channel; values: (C, 256)."""
    edges = np.arange(257) / 256
    for counts, (name, colour) in zip(values, CHANNELS[len(values)], strict=True):
        axes.stairs(counts / counts.sum(), edges, color=colour, linewidth=1.5, label=name)
    axes.set(
        title="pixel values",
        xlabel="value (0 black, 1 white)",
        ylabel="share of pixels",
        yscale="log",
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
    if len(values) > 1:
        axes.legend()


def _draw_classes(axes: Axes, statistics: DatasetStatistics) -> None:
    classes = statistics.classes
    bottom = np.zeros(len(classes))
    for split, counts in statistics.counts.items():
        label = f"{split} ({counts.sum():,})"
        axes.bar(np.arange(len(counts)), counts, bottom=bottom, label=label, width=0.8)
        bottom += counts
    axes.set_title("images by class" if statistics.data.spec.classes else "images by split")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0, columnspacing=1)
    axes.grid(axis="x", visible=False)
    if len(classes) <= MAX_NAMED_CLASSES:
        names = [name[:MAX_NAME_LETTERS] for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=40, ha="right")
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(classes)} classes, in the order of their names")
