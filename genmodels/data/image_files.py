"""Image files of any size and mode: made square, decoded in parallel, into one tensor."""

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
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from genmodels import hardware
from genmodels.errors import require
from genmodels.files import name_in_errors
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
# PIL's names; none of these formats runs other programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 64_000_000  # of one image: 8,000 x 8,000
MAX_16_BITS = 65_535
GRAY_TOLERANCE = 12  # levels by which the channels of a gray image may differ, after JPEG
DRAFT_FACTOR = 4  # JPEGs are decoded smaller, but at least this many times larger than needed
GRAY_DRAFT = (256, 256)  # the size in which colours are looked for
BLOCK_SIZE = 512  # items given to the threads at once


class ImageReadError(ValueError):
    """An image file that cannot be read; the message says why, not which."""


@dataclass(frozen=True)
class SquareCrop:
    """How image files become the images of a data set.

    Arguments:
    side: in pixels.
    channels: 1 or 3.
    background: RGB, shows through transparent pixels.
    """

    side: int
    channels: int
    background: tuple[int, int, int] = (255, 255, 255)

    def __post_init__(self) -> None:
        require(8 <= self.side <= 1024, "side", self.side, "an integer >= 8 and <= 1024 (pixels)")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.side, self.side

    def read(self, path: Path) -> np.ndarray:
        """A file's image (C, H, W) uint8. Raises ImageReadError where it cannot be read."""
        with image_read_errors():
            image = _open(path)
            draft_side = DRAFT_FACTOR * self.side
            image.draft(None, (draft_side, draft_side))
            return self.cut(ImageOps.exif_transpose(image))

    def cut(self, image: Image.Image) -> np.ndarray:
        """The centred square of an image of any mode, resized: (C, H, W) uint8."""
        mode = "L" if self.channels == 1 else "RGB"
        image = _flatten(image, self.background).convert(mode)
        image = ImageOps.fit(image, (self.side, self.side), Image.Resampling.LANCZOS)
        pixels = np.asarray(image).reshape(self.side, self.side, self.channels)
        return pixels.transpose(2, 0, 1)


@contextlib.contextmanager
def image_read_errors() -> Iterator[None]:
    """Turn any error inside into an ImageReadError: PIL's readers raise many kinds on damage."""
    try:
        yield
    except ImageReadError:
        raise
    except Image.DecompressionBombError:
        raise ImageReadError(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageReadError("not an image that can be read") from None
    except Exception as error:
        words = " ".join(str(error).split())
        raise ImageReadError(words[:200] or type(error).__name__) from None


def all_gray(paths: Iterable[Path]) -> bool:
    """Whether no image has a colour; files that cannot be read have none."""
    return not any(_has_colour(path) for path in paths)


def decode(
    items: Sequence[Item],
    read: Callable[[Item], np.ndarray],
    shape: tuple[int, int, int],
    workspace: Path,
) -> tuple[Tensor, dict[int, str]]:
    """Decode many images in threads, with a progress bar, into one memory-mapped tensor.

    Returns the images (N, *shape) uint8, mapped from a nameless file in the workspace, and by
    index why which items could not be read; these have no row. Raises OSError, naming the
    workspace, where there is no space for it.

    Arguments:
    items: what to decode.
    read: from an item to its image; may raise ImageReadError.
    shape: (C, H, W) of each image.
    workspace: a folder, made if need be.
    """

    def read_or_error(item: Item) -> np.ndarray | ImageReadError:
        try:
            return read(item)
        except ImageReadError as error:
            return error

    workspace.mkdir(parents=True, exist_ok=True)
    problems = {}
    with (
        name_in_errors(workspace),
        tempfile.TemporaryFile(dir=workspace) as file,
        warnings.catch_warnings(action="ignore"),  # PIL's, on odd metadata
    ):
        for index, result in enumerate(parallel_map(read_or_error, items, "decoding images")):
            if isinstance(result, ImageReadError):
                problems[index] = str(result)
            else:
                file.write(result.tobytes())
        file.flush()
        count = len(items) - len(problems)
        if count == 0:  # nothing to map
            return torch.empty(0, *shape, dtype=torch.uint8), problems
        images = np.memmap(file, np.uint8, "r+", shape=(count, *shape))
        return torch.from_numpy(images), problems


def shuffled_order(count: int) -> list[int]:
    """0 to count - 1 in a constant random order, so that a split begins with any class."""
    constant = generator(CONSTANT_SEED, "order of pictures")
    return torch.randperm(count, generator=constant).tolist()


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], title: str
) -> Iterator[Result]:
    """The results in order, from as many threads as processors, with a progress bar.

    PIL decodes without holding the interpreter's lock.
    """
    iterator = iter(items)
    with (
        ThreadPoolExecutor(hardware.cores()) as pool,
        tqdm(desc=title, total=len(items), unit="file", disable=None, delay=1) as progress,
    ):
        while block := list(itertools.islice(iterator, BLOCK_SIZE)):
            for result in pool.map(function, block):
                progress.update()
                yield result


def printable(name: str) -> str:
    """A file's name without control characters and bytes that are not text."""
    text = os.fsencode(name).decode(errors="replace")
    characters = [
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    ]
    return "".join(characters)


def parse_color(name: str) -> tuple[int, int, int]:
    """RGB of a colour's name or code. Raises ValueError for what is neither."""
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError:
        raise ValueError(f"background={name}: must be a colour such as white or #ff8800") from None
    return red, green, blue


def _open(path: Path) -> Image.Image:
    """A file's image, not decoded yet; its size is checked."""
    content = io.BytesIO(path.read_bytes())
    image = Image.open(content, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise ImageReadError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
    return image


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Any mode as "L" or "RGB": 16 bits scaled to 8, transparency laid on the background."""
    if image.mode.startswith("I"):
        return _scale_16_bits(image)
    if image.mode == "F":
        raise ImageReadError("floating-point numbers, whose range is not known")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(below, image).convert("RGB")
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return image.convert(mode)


def _scale_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > MAX_16_BITS:
        raise ImageReadError("whole numbers beyond 16 bits, whose range is not known")
    scaled = values.astype(np.uint32) * 255
    levels = (scaled + MAX_16_BITS // 2) // MAX_16_BITS
    return Image.fromarray(levels.astype(np.uint8))


def _has_colour(path: Path) -> bool:
    try:
        image = _open(path)
        if image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I"):
            return False
        image.draft(None, GRAY_DRAFT)
        if image.has_transparency_data:  # else Pillow warns of palettes with transparency
            image = image.convert("RGBA")
        channels = np.asarray(image.convert("RGB"), np.int16)  # (H, W, 3)
        difference = channels.max(2) - channels.min(2)
        return bool(difference.max() > GRAY_TOLERANCE)
    except Exception:  # named when it is decoded
        return False
