"""Counts of a data set before a model is trained on it: classes, pixel values, repetitions."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genmodels.data.images import ImageData

MAX_LISTED_CLASSES = 12  # whose sizes `describe` tells
UNEVEN_RATIO = 5  # of the sizes of the largest and the smallest class, worth a warning
COUNTED_AT_ONCE = 500  # images


@dataclass(frozen=True)
class DatasetStatistics:
    """What there is to count in a data set.

    Arguments:
    data: the data set.
    counts: split -> images of each class, (K,); of all, (1,), where there are no labels.
    values: (K, C, 256): how often each pixel value occurs, by class and channel.
    repeated: how many images equal an earlier one, pixel for pixel.
    leaked: how many test images are in the training or validation split too.
    """

    data: ImageData
    counts: Mapping[str, np.ndarray]
    values: np.ndarray
    repeated: int
    leaked: int

    @property
    def classes(self) -> list[str]:
        """Names of the classes; "all" alone where there are no labels."""
        return list(self.data.spec.classes) or ["all"]

    def table(self) -> list[dict[str, Any]]:
        """One row for each class and one for all: images by split, and pixel values in [0, 1]."""
        rows = []
        for index, name in enumerate(self.classes):
            sizes = {split: int(counts[index]) for split, counts in self.counts.items()}
            rows.append({"class": name, **sizes, **_value_statistics(self.values[index])})
        if len(rows) > 1:
            sizes = {split: int(counts.sum()) for split, counts in self.counts.items()}
            values = self.values.sum(axis=0)
            rows.append({"class": "all", **sizes, **_value_statistics(values)})
        return rows

    def describe(self) -> str:
        """The same in a few lines for the terminal, with what deserves a second look."""
        spec, total = self.data.spec, self.table()[-1]
        images = sum(total[split] for split in self.counts)
        sizes = ", ".join(f"{total[split]:,} {split}" for split in self.counts)
        lines = [
            f"{spec.name}: {images:,} images of shape {spec.image_shape}: {sizes}",
            f"values {total['min']:.3g} to {total['max']:.3g}, mean {total['mean']:.3f}, "
            f"standard deviation {total['stddev']:.3f}, {total['black']:.0%} black, "
            f"{total['white']:.0%} white",
        ]
        lines += self._describe_classes() if spec.classes else ["no labels"]
        if self.repeated:
            lines.append(
                f"{self.repeated:,} images repeat an earlier one exactly; {self.leaked:,} of "
                f"{total['test']:,} test images are in the training or validation split too"
            )
        if total["min"] == total["max"]:
            lines.append("all pixels are the same: is this the right folder?")
        return "\n".join(lines)

    def _describe_classes(self) -> list[str]:
        sizes = np.sum(list(self.counts.values()), axis=0)  # (K,)
        listed = zip(self.classes[:MAX_LISTED_CLASSES], sizes, strict=False)
        text = ", ".join(f"{name} {size:,}" for name, size in listed)
        if len(sizes) > MAX_LISTED_CLASSES:
            text += f" and {len(sizes) - MAX_LISTED_CLASSES} more"
        lines = [f"{len(sizes)} classes: {text}"]
        largest, smallest = sizes.argmax(), sizes.argmin()
        if sizes[largest] > UNEVEN_RATIO * sizes[smallest]:
            lines.append(
                f"uneven: {sizes[largest]:,} of {self.classes[largest]}, {sizes[smallest]:,} of "
                f"{self.classes[smallest]}"
            )
        return lines


def dataset_statistics(data: ImageData) -> DatasetStatistics:
    """Count images, classes, pixel values and repetitions.

    Reads all images once, some hundred at a time.
    """
    classes = max(1, data.spec.num_classes)
    channels = data.spec.image_shape[0]
    counts = {}
    values = torch.zeros(classes * channels * 256, dtype=torch.long)
    repetitions = _RepetitionCounter()
    for name, split in data.splits.items():
        labels = split.labels[split.rows].clamp(min=0)
        counts[name] = torch.bincount(labels, minlength=classes).numpy()
        for rows in split.rows.split(COUNTED_AT_ONCE):
            images = split.images[rows]
            labels = split.labels[rows].clamp(min=0)
            groups = labels[:, None] * channels + torch.arange(channels)  # (B, C)
            bins = groups[..., None, None] * 256 + images  # (B, C, H, W)
            values += torch.bincount(bins.flatten(), minlength=len(values))
            repetitions.count(images, name)
    return DatasetStatistics(
        data,
        counts,
        values.view(classes, channels, 256).numpy(),
        repetitions.repeated,
        repetitions.leaked,
    )


class _RepetitionCounter:
    def __init__(self) -> None:
        self.repeated = 0
        self.leaked = 0
        self._splits: dict[bytes, str] = {}  # digest of an image -> the split that had it first

    def count(self, images: Tensor, split: str) -> None:
        for image in images.numpy():
            digest = hashlib.blake2b(image.tobytes(), digest_size=12).digest()
            first = self._splits.get(digest)
            if first is None:
                self._splits[digest] = split
                continue
            self.repeated += 1
            self.leaked += split == "test" and first != "test"


def _value_statistics(values: np.ndarray) -> dict[str, float]:
    """Statistics of pixel values in [0, 1] from counts by channel and level, (C, 256)."""
    counts = values.sum(axis=0)
    levels = np.arange(256) / 255
    total = max(counts.sum(), 1)
    mean = (counts * levels).sum() / total
    variance = (counts * (levels - mean) ** 2).sum() / total
    occurring = counts.nonzero()[0]
    if len(occurring) == 0:
        occurring = np.zeros(1, int)
    return {
        "mean": mean,
        "stddev": float(np.sqrt(max(variance, 0))),
        "min": levels[occurring[0]],
        "max": levels[occurring[-1]],
        "black": counts[0] / total,
        "white": counts[-1] / total,
    }
