"""The picture of a data set before a model is trained on it, and its numbers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from genmodels.data.images import ImageData, to_float
from genmodels.figures.plotting import FigureResult, padded, show_images, styled

ROWS, COLUMNS = 12, 12  # of the table of images; of more classes some are shown
UNLABELLED = 4  # rows of images where there are no classes
SEEN = 24  # images as the model sees them
CHUNK = 500  # images whose values are counted at once
CHANNELS = {1: ["#444444"], 3: ["#d55e00", "#009e73", "#0072b2"]}


@dataclass(frozen=True)
class Survey:
    """What there is to count in a data set."""

    data: ImageData
    counts: Mapping[
        str, np.ndarray
    ]  # part -> images of each class, (K,); of all, (1,), where there are no labels
    values: np.ndarray  # (K, C, 256): how often each value of a pixel comes, by class and channel
    repeated: int  # images that are the same as an earlier one, pixel for pixel
    leaked: int  # test images that are in the training or validation part too

    @property
    def classes(self) -> list[str]:
        """Names of the classes; one for all where there are no labels."""
        return list(self.data.spec.classes) or ["all"]

    def table(self) -> list[dict[str, Any]]:
        """One row a class, and one for all: images by part, and the pixel values in [0, 1]."""
        rows = [
            (
                {part: counts[index] for part, counts in self.counts.items()},
                self.values[index],
                name,
            )
            for index, name in enumerate(self.classes)
        ]
        if len(rows) > 1:
            rows.append(
                (
                    {part: counts.sum() for part, counts in self.counts.items()},
                    self.values.sum(axis=0),
                    "all",
                )
            )
        return [
            {
                "class": name,
                **{part: int(count) for part, count in parts.items()},
                **_statistics(values),
            }
            for parts, values, name in rows
        ]

    def in_words(self) -> str:
        """The same in a few lines for the terminal, with what is worth a second look."""
        spec, total = self.data.spec, self.table()[-1]
        sizes = {part: total[part] for part in self.counts}
        lines = [
            f"{spec.name}: {sum(sizes.values()):,} images of shape {spec.image_shape}: "
            + ", ".join(f"{count:,} {part}" for part, count in sizes.items()),
            f"values {total['min']:.3g} to {total['max']:.3g}, mean {total['mean']:.3f}, standard deviation "
            f"{total['stddev']:.3f}, {total['black']:.0%} black, {total['white']:.0%} white",
        ]
        per_class = [
            (int(sum(counts[index] for counts in self.counts.values())), name)
            for index, name in enumerate(self.classes)
        ]
        if spec.classes:
            named = ", ".join(f"{name} {count:,}" for count, name in per_class[:ROWS])
            rest = f" and {len(per_class) - ROWS} more" if len(per_class) > ROWS else ""
            lines.append(f"{len(per_class)} classes: {named}{rest}")
            if max(per_class)[0] > 5 * min(per_class)[0]:
                lines.append(
                    f"uneven: {max(per_class)[0]:,} of {max(per_class)[1]}, {min(per_class)[0]:,} of "
                    f"{min(per_class)[1]}"
                )
        else:
            lines.append("no labels")
        if self.repeated:
            lines.append(
                f"{self.repeated:,} images repeat an earlier one exactly; {self.leaked:,} of "
                f"{sizes['test']:,} test images are in the training or validation part too"
            )
        if total["min"] == total["max"]:
            lines.append("all pixels are the same: is this the right folder?")
        return "\n".join(lines)


def survey(data: ImageData) -> Survey:
    """Count images, classes, values and repetitions. Reads all images once, some hundred at a time."""
    classes, channels = max(1, data.spec.num_classes), data.spec.image_shape[0]
    counts = {
        name: torch.bincount(part.labels[part.rows].clamp(min=0), minlength=classes).numpy()
        for name, part in data.splits.items()
    }
    values = torch.zeros(classes * channels * 256, dtype=torch.long)
    seen: dict[bytes, str] = {}
    repeated = leaked = 0
    for name, part in data.splits.items():
        for rows in part.rows.split(CHUNK):
            images, labels = part.images[rows], part.labels[rows].clamp(min=0)
            groups = (labels[:, None] * channels + torch.arange(channels))[
                ..., None, None
            ]  # (B, C, 1, 1)
            values += torch.bincount((groups * 256 + images).flatten(), minlength=len(values))
            for image in images.numpy():
                key = hashlib.blake2b(image.tobytes(), digest_size=12).digest()
                repeated += key in seen
                leaked += name == "test" and seen.get(key, "test") != "test"
                seen.setdefault(key, name)
    return Survey(data, counts, values.view(classes, channels, 256).numpy(), repeated, leaked)


@styled
def draw_dataset(found: Survey, seen: Tensor) -> FigureResult:
    """Training images by class, images as the model sees them, pixel values and class sizes.

    seen: images (B, C, H, W) as an update takes them: augmented, binarised.
    """
    data = found.data
    labels = data.train.labels[data.train.rows]
    shown = [
        int(index) for index in np.unique(np.linspace(0, len(found.classes) - 1, ROWS).round())
    ]
    if data.spec.classes:
        rows = [(labels == label).nonzero().flatten()[:COLUMNS] for label in shown]
    else:
        rows = list(torch.arange(min(len(labels), UNLABELLED * COLUMNS)).split(COLUMNS))
    sheet = torch.cat(
        [padded(to_float(data.train.images[data.train.rows[row]]), COLUMNS) for row in rows]
    )
    heights = [0.56 * len(rows) + 0.5, 1.6, 3.2]
    figure = Figure(figsize=(13, sum(heights)), layout="constrained")
    above, middle, below = figure.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]
    of = f"{len(shown)} of {len(found.classes)} classes" if len(shown) < len(found.classes) else ""
    names = [
        f"{found.classes[label]}  {sum(counts[label] for counts in found.counts.values()):,}"
        for label in shown
    ]
    show_images(
        above.subplots(),
        sheet,
        COLUMNS,
        f"{data.spec.name}: training images{', ' if of else ''}{of}",
        row_labels=names if data.spec.classes else (),
    )
    show_images(
        middle.subplots(),
        seen[:SEEN],
        SEEN // 2,
        "as the model sees them: the first of the first batch",
    )
    left, right = below.subplots(1, 2)
    _draw_values(left, found.values.sum(axis=0))
    _draw_classes(right, found)
    return FigureResult(figure, found.table())


def _draw_values(axes: Axes, values: np.ndarray) -> None:
    """values: (C, 256)."""
    for counts, colour, name in zip(
        values, CHANNELS[len(values)], ["red", "green", "blue"], strict=False
    ):
        axes.stairs(
            counts / counts.sum(),
            np.arange(257) / 256,
            color=colour,
            linewidth=1.5,
            label=name if len(values) > 1 else None,
        )
    axes.set(
        title="pixel values",
        xlabel="value (0 black, 1 white)",
        ylabel="share of pixels",
        yscale="log",
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
    if len(values) > 1:
        axes.legend()


def _draw_classes(axes: Axes, found: Survey) -> None:
    bottom = np.zeros(len(found.classes))
    for part, counts in found.counts.items():
        axes.bar(
            np.arange(len(counts)),
            counts,
            bottom=bottom,
            label=f"{part} ({counts.sum():,})",
            width=0.8,
        )
        bottom += counts
    axes.set(title="images by class" if found.data.spec.classes else "images by part")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0, columnspacing=1)
    axes.grid(axis="x", visible=False)
    few = len(found.classes) <= 30
    axes.set_xticks(
        range(len(found.classes)) if few else [],
        [name[:16] for name in found.classes] if few else [],
        rotation=40,
        ha="right",
    )
    if not few:
        axes.set_xlabel(f"{len(found.classes)} classes, in the order of their names")


def _statistics(values: np.ndarray) -> dict[str, float]:
    """Of pixel values counted by channel and level, (C, 256)."""
    counts, levels = values.sum(axis=0), np.arange(256) / 255
    total = max(counts.sum(), 1)
    mean = (counts * levels).sum() / total
    there = counts.nonzero()[0] if counts.any() else np.zeros(1, int)
    return {
        "mean": mean,
        "stddev": float(np.sqrt(max((counts * (levels - mean) ** 2).sum() / total, 0))),
        "min": levels[there[0]],
        "max": levels[there[-1]],
        "black": counts[0] / total,
        "white": counts[-1] / total,
    }
