"""Data sets that are decoded once, into one uint8 file each, and read from that file afterwards."""

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genmodels import files, hardware, safetensors_io
from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.files import DamagedFileError
from genmodels.randomness import CONSTANT_SEED, generator

log = logging.getLogger(__name__)

# Raised when the same files come to give other tensors: older caches are then not used.
DECODER_VERSION = 2
SPLIT_TENSOR = "part"  # its name in the file, on which the checksum of the data depends
TRAIN, VALIDATION, TEST = 0, 1, 2
MAX_VALIDATION = 5000  # images


class DecodedImages(NamedTuple):
    """What the files of a data set hold, in their order.

    Arguments:
    images: (N, C, H, W) uint8.
    labels: (N,) int64, -1 where there are none.
    test_start: the row where the test split begins; None where there is no official one.
    validation_start: the row where the validation split begins, which ends at `test_start`; None
        where there is no official one.
    """

    images: Tensor
    labels: Tensor
    test_start: int | None
    validation_start: int | None = None


@dataclass(frozen=True)
class CachedDataset:
    """A data set that is not read yet: its spec is there at once, its images come with `load`.

    Arguments:
    spec: what is known of it.
    decode: from a workspace to the images; slow. It may make that folder, for downloads; the
        folder is removed once the cache is written. Raises ValueError where files are missing or
        damaged.
    cache: the folder of decoded data sets.
    origin: where the images come from and how they are cut; part of the cache's key.
    file_state: sizes and times of the files there; "" where they are gone and only the cache is
        left.
    memory_share: of the main memory; a larger data set stays in its file, memory-mapped.
    """

    spec: ImageSpec
    decode: Callable[[Path], DecodedImages]
    cache: Path
    origin: str = ""
    file_state: Callable[[], str] = str
    memory_share: float = 0.25

    @property
    def path(self) -> Path:
        """The cache's file."""
        key = f"{DECODER_VERSION} {self.spec.name} {self.origin}"
        content = key.encode(errors="surrogateescape")
        digest = hashlib.sha256(content).hexdigest()
        name = re.sub("[^A-Za-z0-9_-]", "_", self.spec.name)
        return self.cache / f"{name}-{digest[:8]}.safetensors"

    def load(self) -> ImageData:
        """Read the images from the cache, or decode them and fill it.

        Of several processes one decodes and the others wait. A cache that is damaged, or older
        than the files that it was made from, is built again. Raises ValueError where files are
        missing or damaged, OSError with the path where the cache cannot be written.
        """
        content = self._read()  # without a lock: another account's cache may be read-only
        if content is None:
            lock = self.path.with_suffix(".lock")
            with files.locked(lock, f"reads {self.spec.name}"):
                content = self._read(log_damage=True) or self._build()
        tensors, metadata = content
        images, labels = tensors["images"], tensors["labels"]
        splits = []
        for split in (TRAIN, VALIDATION, TEST):
            belongs = tensors[SPLIT_TENSOR] == split
            rows = belongs.nonzero().flatten()
            splits.append(ImageSet(images, labels, rows))
        train, validation, test = splits
        checksum = f"{metadata['crc32']:08x}"
        return ImageData(self.spec, train, validation, test, checksum)

    def _build(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        state = self.file_state()
        workspace = self.path.with_suffix(".files")
        try:
            decoded = self.decode(workspace)
            self._check(decoded)
            size = len(decoded.images)
            tensors = {
                "images": decoded.images,
                "labels": decoded.labels,
                SPLIT_TENSOR: assign_splits(size, decoded.test_start, decoded.validation_start),
            }
            safetensors_io.save(self.path, tensors, {"state": state or self.file_state()})
            shutil.rmtree(workspace, ignore_errors=True)
        finally:
            # After a failure only what a next attempt can use stays.
            _remove_empty_folders(workspace)
        content = self._read()
        assert content is not None, f"{self.path} was just written"
        return content

    def _check(self, decoded: DecodedImages) -> None:
        """Raise ValueError unless the images and labels are those of the spec."""
        images, labels = decoded.images, decoded.labels
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != tuple(self.spec.image_shape):
            raise ValueError(
                f"{self.spec.name}: its images are {tuple(images.shape[1:])} {images.dtype}, "
                f"not {tuple(self.spec.image_shape)} {torch.uint8}"
            )
        if len(labels) != len(images):
            raise ValueError(f"{self.spec.name}: {len(images):,} images, {len(labels):,} labels")
        smallest, largest = int(labels.min()), int(labels.max())
        classes = len(self.spec.classes)
        if smallest < -1 or largest >= classes:
            raise ValueError(
                f"{self.spec.name}: its labels go from {smallest} to {largest}, where there are "
                f"{classes} classes: from 0 to {classes - 1}, or -1 for none"
            )

    def _read(self, log_damage: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        try:
            tensors, metadata = safetensors_io.load(self.path)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            if log_damage:
                log.warning("%s: building it again", error)
            return None
        if self.file_state() not in ("", metadata.get("state")):
            return None
        if tensors["images"].nbytes <= self.memory_share * hardware.memory():
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return tensors, metadata


def assign_splits(size: int, test_start: int | None, validation_start: int | None = None) -> Tensor:
    """The split of each of `size` images: TRAIN, VALIDATION or TEST, (size,) uint8.

    Official splits are kept, as `DecodedImages` has them. Else, by draws with a constant seed, a
    random fifth of the images becomes the test split, and of the remaining images a random tenth,
    but at most 5,000, the validation split. Raises ValueError for fewer than ten images.
    """
    if size < 10:
        raise ValueError(
            f"{size} images are too few for train, validation and test splits: "
            "at least 10 are needed"
        )
    splits = torch.full((size,), TRAIN, dtype=torch.uint8)
    if test_start is None:
        order = torch.randperm(size, generator=generator(CONSTANT_SEED, "test part"))
        splits[order[: size // 5]] = TEST
    else:
        splits[test_start:] = TEST
    if validation_start is not None:
        splits[validation_start:test_start] = VALIDATION
        return splits
    remaining = (splits == TRAIN).nonzero().flatten()
    count = min(MAX_VALIDATION, max(1, len(remaining) // 10))
    order = torch.randperm(len(remaining), generator=generator(CONSTANT_SEED, "validation part"))
    splits[remaining[order[:count]]] = VALIDATION
    return splits


def _remove_empty_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(folder)
