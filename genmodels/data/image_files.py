"""Pictures as people keep them, of any size and mode: made square, decoded in parallel, into one tensor."""

import contextlib
import io
import itertools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from genmodels import hardware
from genmodels.files import naming
from genmodels.randomness import CONSTANT_SEED, generator

Item = TypeVar("Item")
Result = TypeVar("Result")

SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".webp",
    ".avif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)
FORMATS = (
    "PNG",
    "JPEG",
    "BMP",
    "GIF",
    "TIFF",
    "WEBP",
    "AVIF",
    "JPEG2000",
    "PPM",
)  # none that runs other programs
MAX_PIXELS = 64_000_000  # of one picture: 8,000 x 8,000
GRAY_TOLERANCE = 12  # levels by which the channels of a gray picture may differ, after JPEG
DRAFT = 4  # JPEGs are decoded smaller, but still so many times larger than needed
BLOCK = 512  # pictures given to the threads at once


class ImageReadError(ValueError):
    """A picture that cannot be read; the message says why, not which."""


@dataclass(frozen=True)
class SquareCrop:
    """How pictures become the images of a data set."""

    side: int  # in pixels
    channels: int  # 1 or 3
    background: tuple[int, int, int] = (255, 255, 255)  # shows through transparent pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.side, self.side

    def read(self, path: Path) -> np.ndarray:
        """The picture of a file as an image (C, H, W) uint8. Raises ImageReadError where it cannot be read."""
        with explained():
            image = _open(path)
            image.draft(None, (DRAFT * self.side, DRAFT * self.side))
            return self.cut(ImageOps.exif_transpose(image))

    def cut(self, image: Image.Image) -> np.ndarray:
        """The centred square of an image of any mode, resized with Lanczos' filter: (C, H, W) uint8."""
        image = _flatten(image, self.background).convert("L" if self.channels == 1 else "RGB")
        image = ImageOps.fit(image, (self.side, self.side), Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(self.side, self.side, self.channels).transpose(2, 0, 1)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Whatever goes wrong inside raises ImageReadError with the reason: PIL's readers raise many kinds on damage."""
    try:
        yield
    except ImageReadError:
        raise
    except Image.DecompressionBombError:
        raise ImageReadError(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageReadError("no picture that can be read") from None
    except Exception as error:
        raise ImageReadError(" ".join(f"{error}".split())[:200] or type(error).__name__) from None


def all_gray(paths: Iterable[Path]) -> bool:
    """Whether no picture has a colour. Ends at the first that has one; those that cannot be read have none."""
    return not any(_has_colour(path) for path in paths)


def decode(
    items: Sequence[Item],
    reader: Callable[[Item], np.ndarray],
    shape: tuple[int, int, int],
    workspace: Path,
) -> tuple[Tensor, dict[int, str]]:
    """Decode many pictures in threads, with a progress bar, into one tensor that takes no memory.

    Returns the images (N, *shape) uint8, memory-mapped from a nameless file in the workspace, and why which items could
    not be read; these have no row. Raises OSError, naming the workspace, where there is no space for it.
    """

    def attempt(item: Item) -> np.ndarray | ImageReadError:
        try:
            return reader(item)
        except ImageReadError as error:
            return error

    workspace.mkdir(parents=True, exist_ok=True)
    problems = {}
    with (
        naming(workspace),
        tempfile.TemporaryFile(dir=workspace) as file,
        warnings.catch_warnings(action="ignore"),
    ):  # PIL's, on odd metadata
        for index, result in enumerate(parallel(attempt, items, "decoding pictures")):
            if isinstance(result, ImageReadError):
                problems[index] = str(result)
            else:
                file.write(result.tobytes())
        file.flush()
        if len(problems) == len(items):
            return torch.empty(0, *shape, dtype=torch.uint8), problems
        return torch.from_numpy(
            np.memmap(file, np.uint8, "r+", shape=(len(items) - len(problems), *shape))
        ), problems


def shuffled(count: int) -> list[int]:
    """0 to count - 1 in a constant random order: the first images of a part are then of any class, not of the first."""
    return torch.randperm(count, generator=generator(CONSTANT_SEED, "order of pictures")).tolist()


def parallel(
    function: Callable[[Item], Result], items: Sequence[Item], title: str
) -> Iterator[Result]:
    """The results in order, from as many threads as there are processors: PIL decodes without the interpreter's lock.

    The progress bar comes after a second.
    """
    iterator = iter(items)
    with (
        ThreadPoolExecutor(hardware.cores()) as pool,
        tqdm(desc=title, total=len(items), unit="file", disable=None, delay=1) as bar,
    ):
        while block := list(itertools.islice(iterator, BLOCK)):
            for result in pool.map(function, block):
                bar.update()
                yield result


def printable(name: str) -> str:
    """A file's name as it can be printed: no control characters, no bytes that are no text."""
    text = os.fsencode(name).decode(errors="replace")
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _open(path: Path) -> Image.Image:
    """The picture of a file, not decoded yet; its size is checked."""
    with open(path, "rb") as file:
        image = Image.open(io.BytesIO(file.read()), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ImageReadError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
    return image


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any mode as "L" or "RGB": 16 bits scaled to 8, transparency laid on the background."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65_535:
            raise ImageReadError("whole numbers beyond 16 bits, whose range is not known")
        return Image.fromarray(
            ((values.astype(np.uint32) * 255 + 32_767) // 65_535).astype(np.uint8)
        )
    if image.mode == "F":
        raise ImageReadError("floating-point numbers, whose range is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(
            Image.new("RGBA", image.size, (*background, 255)), image
        ).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _has_colour(path: Path) -> bool:
    try:
        image = _open(path)
        if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
            return False
        image.draft(None, (256, 256))
        channels = np.asarray(image.convert("RGB"), np.int16)  # (H, W, 3)
        return bool((channels.max(2) - channels.min(2)).max() > GRAY_TOLERANCE)
    except Exception:  # named when it is decoded
        return False
