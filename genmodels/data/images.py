"""Images as one uint8 tensor, batched by index: no Python per image in the hot path.

images: (B, C, H, W) float in [0, 1]; labels: (B,) int64, -1 where a set has none.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from genmodels import hardware
from genmodels.errors import require
from genmodels.randomness import generator

EVALUATION_BATCH = 500  # images that evaluations take at once
DEVICE_SHARE = 0.5  # of an accelerator's free memory: a larger data set stays in main memory


def to_float(images: Tensor) -> Tensor:
    """uint8 images to floats in [0, 1]."""
    return images.float().div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """The inverse of `to_float`; values outside [0, 1] are clamped."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def binarise(images: Tensor) -> Tensor:
    """Each pixel black or white, white with the probability of its gray value (Burda et al. 2015, section 5)."""
    return (torch.rand_like(images) < images).to(images.dtype)


def drop_labels(labels: Tensor, share: float) -> Tensor:
    """Labels (B,), each replaced by -1, "no label", with this probability (Ho & Salimans 2022, algorithm 1).

    So a conditional model learns to do without. A share of 0 draws no random numbers.
    """
    return (
        labels.where(torch.rand(labels.shape, device=labels.device) >= share, -1)
        if share
        else labels
    )


@dataclass(frozen=True)
class Augmentation:
    """Random changes that leave an image what it is, drawn anew for each image of each batch."""

    flip: bool = False  # left and right exchanged, for every other image
    crop: int = (
        0  # moved by up to so many pixels each way; the edges are repeated where nothing was
    )

    def __post_init__(self) -> None:
        require(self.crop >= 0, "crop", self.crop, "an integer >= 0 (pixels)")

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.flip or self.crop > 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) to images of the same shape. Drawn on the CPU, the same on any device."""
        batch, _, height, width = images.shape
        shifts = torch.randint(-self.crop, self.crop + 1, (2, batch, 1), generator=generator)
        rows, columns = moved(height, shifts[0]), moved(width, shifts[1])
        if self.flip:
            flipped = torch.rand(batch, 1, generator=generator) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        return rearranged(images, rows, columns)


NO_AUGMENTATION = Augmentation()


def moved(side: int, shifts: Tensor) -> Tensor:
    """Where each row (or column) of images that are moved by `shifts` (B, 1) pixels comes from, (B, side): beyond the
    edges, from the edge."""
    return (torch.arange(side) + shifts).clamp(0, side - 1)


def rearranged(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (B, C, H, W) whose rows (B, H) and columns (B, W) come from these positions."""
    rows, columns = rows.to(images.device), columns.to(images.device)
    images = images.gather(2, rows[:, None, :, None].expand(images.shape))
    return images.gather(3, columns[:, None, None, :].expand(images.shape))


@dataclass(frozen=True)
class DiffAugment:
    """Random changes of real and generated images alike, before a discriminator sees them; gradients pass through.

    So it cannot learn a small data set by heart, and the generator does not learn the changes (Zhao et al. 2020,
    "Differentiable augmentation for data-efficient GAN training").
    """

    color_jitter: bool  # brightness, saturation and contrast
    translation: (
        float | None
    )  # moved by up to this share of the side, edges repeated; None: 0.125 of colour images
    cutout: float  # side of a gray square somewhere, as a share of the image's

    def __post_init__(self) -> None:
        require(
            self.translation is None or 0 <= self.translation <= 1,
            "translation",
            self.translation,
            "a number in [0, 1], or null",
        )
        require(0 <= self.cutout <= 1, "cutout", self.cutout, "a number in [0, 1]")

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to images of the same shape; with `colour`, values may leave [0, 1]."""
        usual = 0.125 if images.shape[1] == 3 else 0.0
        translation = usual if self.translation is None else self.translation
        if self.color_jitter:
            images = recoloured(images)
        if translation:
            images = translated(images, translation)
        return blotted(images, self.cutout) if self.cutout else images


def recoloured(images: Tensor) -> Tensor:
    """Brightness plus up to 0.25 either way, saturation times 0 to 2, contrast times 0.5 to 1.5, for each image."""
    brightness, saturation, contrast = torch.rand(3, len(images), 1, 1, 1).to(images.device)
    images = images + 0.5 * (brightness - 0.5)
    gray = images.mean(dim=1, keepdim=True)
    images = gray + 2 * saturation * (images - gray)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (0.5 + contrast) * (images - mean)


def translated(images: Tensor, share: float) -> Tensor:
    """Each image moved by up to this share of its height and width."""
    batch, _, height, width = images.shape
    most = [round(share * side) for side in (height, width)]
    rows, columns = (
        moved(side, torch.randint(-far, far + 1, (batch, 1)))
        for side, far in zip((height, width), most, strict=True)
    )
    return rearranged(images, rows, columns)


def blotted(images: Tensor, share: float) -> Tensor:
    """In each image a square of this share of height and width, centred anywhere, made mid-gray."""
    batch, _, *sides = images.shape
    inside = []
    for side in sides:
        long = round(share * side)
        start = torch.randint(-(long // 2), side - long // 2 + (1 - long % 2), (batch, 1))
        place = torch.arange(side)
        inside.append((place >= start) & (place < start + long))  # (B, side)
    blot = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.device)
    return images.masked_fill(blot, 0.5)


@dataclass(frozen=True)
class ImageSpec:
    """What is known of a data set before it is read: all that a model needs."""

    name: str
    image_shape: tuple[int, int, int]  # (C, H, W)
    classes: tuple[
        str, ...
    ] = ()  # names in the order of the labels; empty where there are no labels

    @property
    def num_classes(self) -> int:
        """How many classes there are, 0 where the set has no labels."""
        return len(self.classes)


class Batch(NamedTuple):
    """Images (B, C, H, W) in [0, 1] with their labels (B,)."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ImageSet:
    """One part (train, validation or test) of a data set: rows of a shared uint8 tensor."""

    images: Tensor  # (all, C, H, W) uint8, shared by the parts
    labels: Tensor  # (all,) int64
    rows: Tensor  # (N,) int64, those of this part
    device: torch.device | None = None  # where batches go to, if not to where the images are

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Tensor | slice) -> Batch:
        """The images at these positions of the part, as floats in [0, 1], with their labels."""
        rows = self.rows[indices]
        images, labels = self.images.index_select(0, rows), self.labels.index_select(0, rows)
        return Batch(to_float(images.to(self.device)), labels.to(self.device))

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The whole part in order, once; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(slice(start, start + batch_size))

    def subset(self, n: int, generator: torch.Generator, *, in_order: bool = False) -> "ImageSet":
        """n images of the part at random, or all where there are no more; as they are drawn, or in the part's order."""
        chosen = torch.randperm(len(self), generator=generator)[:n]
        chosen = chosen.sort().values if in_order else chosen
        return replace(self, rows=self.rows[chosen.to(self.rows.device)])


@dataclass(frozen=True)
class ImageData:
    """A data set: its spec and its three parts. Parts and their order are the same for every run and seed."""

    spec: ImageSpec
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    checksum: str = (
        ""  # of images, labels and parts, in hex: the same for the same data on any machine
    )

    @property
    def splits(self) -> dict[str, ImageSet]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def to(self, device: torch.device) -> "ImageData":
        """The same data for a device: there, where it has room for them; else their batches go there one by one."""
        images, labels = self.train.images, self.train.labels
        if images.device == device:
            return self
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else hardware.memory()
        if images.nbytes > DEVICE_SHARE * free:
            parts = [replace(part, device=device) for part in self.splits.values()]
        else:
            images, labels = images.to(device), labels.to(device)
            parts = [
                ImageSet(images, labels, part.rows.to(device)) for part in self.splits.values()
            ]
        train, validation, test = parts
        return replace(self, train=train, validation=validation, test=test)


class BatchStream:
    """An endless shuffled stream of full batches in which batch `step` is a pure function of (seed, step).

    Epochs follow each other without a gap: a batch at their border takes the end of one and the start of the next, so
    every image comes once an epoch and every batch is full, also where there are fewer images than `batch_size`.
    """

    def __init__(
        self, split: ImageSet, batch_size: int, seed: int, augment: Augmentation = NO_AUGMENTATION
    ) -> None:
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self._orders: dict[
            int, Tensor
        ] = {}  # epoch -> permutation, of the epochs in the current batch only

    def batch(self, step: int) -> Batch:
        """Batch number `step`, from 0."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        size = len(self.split)
        epochs = range(positions[0] // size, positions[-1] // size + 1)
        self._orders = {
            epoch: self._orders[epoch] if epoch in self._orders else self._shuffle(epoch)
            for epoch in epochs
        }
        indices = [
            self._orders[epoch][
                max(positions.start - epoch * size, 0) : positions.stop - epoch * size
            ]
            for epoch in epochs
        ]
        batch = self.split.batch(torch.cat(indices))
        if self.augment.active:
            return batch._replace(
                images=self.augment(batch.images, generator(self.seed, "augmentation", step))
            )
        return batch

    def _shuffle(self, epoch: int) -> Tensor:
        order = torch.randperm(len(self.split), generator=generator(self.seed, "data order", epoch))
        return order.to(self.split.rows.device)
