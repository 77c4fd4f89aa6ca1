"""Images as one uint8 tensor, batched by index: no Python code per image in the hot path.

images: (B, C, H, W) float in [0, 1]; labels: (B,) int64, -1 where a data set has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from genmodels import hardware, parallel
from genmodels.data.augmentation import NO_AUGMENTATION, Augmentation
from genmodels.randomness import generator, uniform

EVALUATION_BATCH = 500  # images that evaluations take at once
DEVICE_SHARE = 0.5  # of an accelerator's free memory: a larger data set stays in main memory


def to_float(images: Tensor) -> Tensor:
    """uint8 images to floats in [0, 1]."""
    return images.float().div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """The inverse of `to_float`; values outside [0, 1] are clamped."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def binarise(images: Tensor) -> Tensor:
    """Draw each pixel black or white, its gray value being the probability of white.

    Source: Burda et al. 2015, section 5.
    """
    return (uniform(images.shape, device=images.device) < images).to(images.dtype)


def drop_labels(labels: Tensor, share: float) -> Tensor:
    """Replace each of the labels (B,) by -1, "no label", with this probability.

    A conditional model learns to do without labels by it (Ho & Salimans 2022, algorithm 1).
    A share of 0 draws no random numbers.
    """
    if not share:
        return labels
    kept = uniform(labels.shape, device=labels.device) >= share
    return labels.where(kept, -1)


@dataclass(frozen=True)
class ImageSpec:
    """What is known of a data set before it is read: all that a model needs.

    Arguments:
    name: as in the name of a run.
    image_shape: (C, H, W).
    classes: their names in the order of the labels; empty where there are no labels.
    why_unlabelled: why there are none, where that may surprise.
    """

    name: str
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...] = ()
    why_unlabelled: str = ""

    @property
    def num_classes(self) -> int:
        """How many classes there are, 0 where the data set has no labels."""
        return len(self.classes)


class Batch(NamedTuple):
    """Images (B, C, H, W) in [0, 1] with their labels (B,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ImageSet:
    """One split (train, validation or test) of a data set: rows of a shared uint8 tensor.

    Arguments:
    images: (all, C, H, W) uint8, shared by the splits.
    labels: (all,) int64.
    rows: (N,) int64, those of this split.
    device: where batches go, if not to where the images are.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    device: torch.device | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Tensor | slice) -> Batch:
        """The images at these positions of the split, as floats in [0, 1], with their labels."""
        rows = self.rows[indices]
        images = self.images.index_select(0, rows)
        labels = self.labels.index_select(0, rows)
        return Batch(to_float(images.to(self.device)), labels.to(self.device))

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The whole split in order, once; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(slice(start, start + batch_size))

    def subset(self, n: int, generator: torch.Generator, *, in_order: bool = False) -> "ImageSet":
        """n random images of the split, or all of them where n is larger.

        Arguments:
        n: how many.
        generator: of the random choice.
        in_order: sort them into the split's order, instead of the order of the draw.
        """
        chosen = torch.randperm(len(self), generator=generator)[:n]
        if in_order:
            chosen = chosen.sort().values
        return replace(self, rows=self.rows[chosen.to(self.rows.device)])


@dataclass(frozen=True)
class ImageData:
    """A data set: its spec and its three splits, which are the same for every run and seed.

    Arguments:
    spec: what was known of it before it was read.
    train, validation, test: the splits.
    checksum: of images, labels and splits, in hex: the same for the same data on any machine.
    """

    spec: ImageSpec
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    checksum: str = ""

    @property
    def splits(self) -> dict[str, ImageSet]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device, or with batches that go there one by one.

        The latter where the data would take more than DEVICE_SHARE of the free memory there.
        """
        images, labels = self.train.images, self.train.labels
        if images.device == device:
            return self
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else hardware.memory()
        if images.nbytes > DEVICE_SHARE * free:
            splits = [replace(split, device=device) for split in self.splits.values()]
        else:
            images, labels = images.to(device), labels.to(device)
            all_rows = [split.rows.to(device) for split in self.splits.values()]
            splits = [ImageSet(images, labels, rows) for rows in all_rows]
        train, validation, test = splits
        return replace(self, train=train, validation=validation, test=test)


class BatchStream:
    """An endless shuffled stream of full batches; batch `step` is a pure function of (seed, step).

    Epochs follow each other without a gap: a batch at their border takes the end of one and the
    start of the next. So every image comes once an epoch and every batch is full, also where
    there are fewer images than `batch_size`. Of several processes each gets its share of a batch.
    """

    def __init__(
        self,
        split: ImageSet,
        batch_size: int,
        seed: int,
        augment: Augmentation = NO_AUGMENTATION,
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        # epoch -> permutation (N,), only of the epochs in the latest batch
        self._orders: dict[int, Tensor] = {}

    def batch(self, step: int) -> Batch:
        """Batch number `step`, from 0."""
        start, stop = step * self.batch_size, (step + 1) * self.batch_size
        size = len(self.split)
        epochs = range(start // size, (stop - 1) // size + 1)
        self._orders = {epoch: self._order(epoch) for epoch in epochs}
        indices = []
        for epoch, order in self._orders.items():
            epoch_start = epoch * size
            first, last = max(start - epoch_start, 0), stop - epoch_start
            indices.append(order[first:last])
        batch = self.split.batch(parallel.share(torch.cat(indices)))
        if not self.augment.active:
            return batch
        images = self.augment(batch.images, generator(self.seed, "augmentation", step))
        return batch._replace(images=images)

    def _order(self, epoch: int) -> Tensor:
        if epoch in self._orders:
            return self._orders[epoch]
        draws = generator(self.seed, "data order", epoch)
        order = torch.randperm(len(self.split), generator=draws)
        return order.to(self.split.rows.device)
