"""Data sets that are not read yet, and the cache from which they are read: decoded once, one uint8 file each."""

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

DECODING = (
    2  # raised when the same files come to give other tensors: older caches are then not taken
)
MEMORY_SHARE = 0.25  # of the memory: a larger data set stays in its file, memory-mapped


class Decoded(NamedTuple):
    """What a data set's files hold, in their order."""

    images: Tensor  # (N, C, H, W) uint8
    labels: Tensor  # (N,) int64, -1 where there are none
    test_from: int | None  # the test part begins at this row; None: there is no official one


@dataclass(frozen=True)
class CachedDataset:
    """A data set that is not read yet: its spec is there at once, its images come with `load`."""

    spec: ImageSpec
    decode: Callable[
        [Path], Decoded
    ]  # slow; raises ValueError where files are missing or damaged. May make the
    #                                     folder that it is given, for downloads; removed once the cache is there
    cache: Path  # folder of decoded data sets
    origin: str = ""  # where the images come from and how they are cut; part of the cache's key
    state: Callable[[], str] = (
        str  # sizes and times of the files there; "" where they are gone: the cache is all
    )

    @property
    def path(self) -> Path:
        """The cache's file."""
        content = f"{DECODING} {self.spec.name} {self.origin}".encode(errors="surrogateescape")
        name = re.sub("[^A-Za-z0-9_-]", "_", self.spec.name)
        return self.cache / f"{name}-{hashlib.sha256(content).hexdigest()[:8]}.safetensors"

    def load(self) -> ImageData:
        """Read the images from the cache, or decode them and fill it. One process decodes, others wait for it.

        A cache that is damaged, or older than the files that it was made from, is built again. Raises ValueError where
        files are missing or damaged, OSError with the path where the cache cannot be written.
        """
        found = self._read()  # without a lock: a cache that another account made may be read-only
        if found is None:
            with files.locked(self.path.with_suffix(".lock"), f"reads {self.spec.name}"):
                found = self._read(again=True) or self._build()
        tensors, metadata = found
        train, validation, test = (
            ImageSet(
                tensors["images"], tensors["labels"], (tensors["part"] == part).nonzero().flatten()
            )
            for part in range(3)
        )
        return ImageData(self.spec, train, validation, test, checksum=f"{metadata['crc32']:08x}")

    def _build(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        state = self.state()
        workspace = self.path.with_suffix(".files")
        try:
            decoded = self.decode(workspace)
            tensors = {
                "images": decoded.images,
                "labels": decoded.labels,
                "part": split(len(decoded.images), decoded.test_from),
            }
            safetensors_io.save(self.path, tensors, {"state": state or self.state()})
            shutil.rmtree(workspace, ignore_errors=True)
        finally:  # of a failure only what a next attempt goes on with stays
            for folder, _, _ in os.walk(workspace, topdown=False):
                with contextlib.suppress(OSError):  # not empty
                    os.rmdir(folder)
        found = self._read()
        assert found is not None, f"{self.path} was just written"
        return found

    def _read(self, again: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        try:
            tensors, metadata = safetensors_io.load(self.path)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            if again:
                log.warning("%s: building it again", error)
            return None
        if self.state() not in ("", metadata["state"]):
            return None
        if tensors["images"].nbytes <= MEMORY_SHARE * hardware.memory():
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return tensors, metadata


def split(size: int, test_from: int | None) -> Tensor:
    """The part of each of `size` images: 0 train, 1 validation, 2 test, (size,) uint8, by a constant seed.

    Where there is no official test part, a fifth of the images, drawn at random, becomes it; of the rest, a tenth but
    at most 5,000 images, drawn at random, is the validation part.
    """
    if size < 10:
        raise ValueError(
            f"{size} images are too few for train, validation and test parts: at least 10 are needed"
        )
    part = torch.zeros(size, dtype=torch.uint8)
    if test_from is None:
        order = torch.randperm(size, generator=generator(CONSTANT_SEED, "test part"))
        part[order[: size // 5]] = 2
    else:
        part[test_from:] = 2
    rest = (part == 0).nonzero().flatten()
    order = torch.randperm(len(rest), generator=generator(CONSTANT_SEED, "validation part"))
    part[rest[order[: min(5000, max(1, len(rest) // 10))]]] = 1
    return part
