"""Images as one uint8 tensor, batched by index: no Python per image in the hot path.

images: (B, C, H, W) float in [0, 1]; labels: (B,) int64, -1 where a set has none.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from torch import Tensor

from genmodels import tensorfiles
from genmodels.files import DamagedFileError
from genmodels.randomness import CONSTANT_SEED, generator

log = logging.getLogger(__name__)


def to_float(images: Tensor) -> Tensor:
    """uint8 images to floats in [0, 1]."""
    return images.float().div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """The inverse of `to_float`; values outside [0, 1] are clamped."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def binarise(images: Tensor) -> Tensor:
    """Each pixel black or white, white with the probability of its gray value (Burda et al. 2015, section 5)."""
    return (torch.rand_like(images) < images).to(images.dtype)


@dataclass(frozen=True)
class ImageSpec:
    """What is known of a data set before it is read: all that a model needs."""

    name: str
    image_shape: tuple[int, int, int]   # (C, H, W)
    classes: tuple[str, ...] = ()       # names in the order of the labels; empty where there are no labels

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

    images: Tensor      # (all, C, H, W) uint8, shared by the parts
    labels: Tensor      # (all,) int64
    rows: Tensor        # (N,) int64, those of this part

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Tensor | slice) -> Batch:
        """The images at these positions of the part, as floats in [0, 1], with their labels."""
        rows = self.rows[indices]
        return Batch(to_float(self.images.index_select(0, rows)), self.labels.index_select(0, rows))

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The whole part in order, once; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(slice(start, start + batch_size))


@dataclass(frozen=True)
class ImageData:
    """A data set: its spec and its three parts. Parts and their order are the same for every run and seed."""

    spec: ImageSpec
    train: ImageSet
    validation: ImageSet
    test: ImageSet

    def to(self, device: torch.device) -> "ImageData":
        """The same data on a device: batches are then made there, without a copy a step."""
        if self.train.images.device == device:
            return self
        images, labels = self.train.images.to(device), self.train.labels.to(device)
        parts = (ImageSet(images, labels, part.rows.to(device)) for part in (self.train, self.validation, self.test))
        return ImageData(self.spec, *parts)


class BatchStream:
    """An endless shuffled stream of full batches in which batch `step` is a pure function of (seed, step).

    Epochs follow each other without a gap: a batch at their border takes the end of one and the start of the next, so
    every image comes once an epoch and every batch is full, also where there are fewer images than `batch_size`.
    """

    def __init__(self, part: ImageSet, batch_size: int, seed: int) -> None:
        self.part = part
        self.batch_size = batch_size
        self.seed = seed
        self._orders: dict[int, Tensor] = {}    # epoch -> permutation, of the epochs in the current batch only

    def batch(self, step: int) -> Batch:
        """Batch number `step`, from 0."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        size = len(self.part)
        epochs = range(positions[0] // size, positions[-1] // size + 1)
        self._orders = {epoch: self._orders[epoch] if epoch in self._orders else self._shuffle(epoch)
                        for epoch in epochs}
        indices = [self._orders[epoch][max(positions.start - epoch * size, 0):positions.stop - epoch * size]
                   for epoch in epochs]
        return self.part.batch(torch.cat(indices))

    def _shuffle(self, epoch: int) -> Tensor:
        order = torch.randperm(len(self.part), generator=generator(self.seed, "data order", epoch))
        return order.to(self.part.rows.device)


class Decoded(NamedTuple):
    """What a data set's files hold, in their order."""

    images: Tensor              # (N, C, H, W) uint8
    labels: Tensor              # (N,) int64
    test_from: int | None       # the test part begins at this row; None: there is no official one


@dataclass(frozen=True)
class ImageSource:
    """A data set that is not read yet: its spec is there at once, its images come with `load`."""

    spec: ImageSpec
    decode: Callable[[], Decoded]   # slow; raises ValueError where files are missing or damaged
    cache: Path                     # folder of decoded data sets
    origin: str = ""                # where the images come from; part of the cache's key
    state: str = ""                 # sizes and times of the files there; "" where they are gone: the cache is then all

    @property
    def path(self) -> Path:
        """The cache's file."""
        key = hashlib.sha256(f"{self.spec.name} {self.origin}".encode()).hexdigest()[:8]
        return self.cache / f"{self.spec.name}-{key}.safetensors"

    def load(self) -> ImageData:
        """Read the images from the cache, or decode them and fill it. One process decodes, others wait for it.

        A cache that is damaged, or older than the files that it was made from, is built again.
        """
        path = self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            tensors = self._read_cache(path)
            if tensors is None:
                decoded = self.decode()
                tensors = {"images": decoded.images, "labels": decoded.labels,
                           "part": split(len(decoded.images), decoded.test_from)}
                tensorfiles.save(path, tensors, {"state": self.state})
        train, validation, test = (
            ImageSet(tensors["images"], tensors["labels"], (tensors["part"] == part).nonzero().flatten())
            for part in range(3))
        return ImageData(self.spec, train, validation, test)

    def _read_cache(self, path: Path) -> dict[str, Tensor] | None:
        try:
            tensors, metadata = tensorfiles.load(path)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            log.warning("%s: building it again", error)
            return None
        return tensors if self.state in ("", metadata["state"]) else None


def split(size: int, test_from: int | None) -> Tensor:
    """The part of each of `size` images: 0 train, 1 validation, 2 test, (size,) uint8, by a constant seed.

    Where there is no official test part, a fifth of the images, drawn at random, becomes it; of the rest, a tenth but
    at most 5,000 images, drawn at random, is the validation part.
    """
    if size < 10:
        raise ValueError(f"{size} images are too few for train, validation and test parts: at least 10 are needed")
    part = torch.zeros(size, dtype=torch.uint8)
    if test_from is None:
        order = torch.randperm(size, generator=generator(CONSTANT_SEED, "test part"))
        part[order[:size // 5]] = 2
    else:
        part[test_from:] = 2
    rest = (part == 0).nonzero().flatten()
    order = torch.randperm(len(rest), generator=generator(CONSTANT_SEED, "validation part"))
    part[rest[order[:min(5000, max(1, len(rest) // 10))]]] = 1
    return part
