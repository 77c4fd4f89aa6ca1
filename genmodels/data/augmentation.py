"""Random changes of images: of training images, and of all images that a discriminator sees."""

from dataclasses import dataclass

import torch
from torch import Tensor

from genmodels.errors import require
from genmodels.randomness import integers, uniform


@dataclass(frozen=True)
class Augmentation:
    """Random flips and shifts of training images, drawn anew for each image of each batch.

    Arguments:
    flip: mirror every other image left to right.
    crop: shift by up to this many pixels each way; the edges are repeated.
    """

    flip: bool = False
    crop: int = 0

    def __post_init__(self) -> None:
        require(self.crop >= 0, "crop", self.crop, "an integer >= 0 (pixels)")

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.flip or self.crop > 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, C, H, W) to images of the same shape.

        The random numbers are drawn on the CPU, so they are the same on any device.
        """
        batch, _, height, width = images.shape
        largest = self.crop
        shifts = integers(-largest, largest + 1, (2, batch, 1), dim=1, generator=generator)
        rows = shift_indices(height, shifts[0])
        columns = shift_indices(width, shifts[1])
        if self.flip:
            flipped = uniform((batch, 1), generator=generator) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        return gather_pixels(images, rows, columns)


NO_AUGMENTATION = Augmentation()


@dataclass(frozen=True)
class DiffAugment:
    """Random changes of real and generated images alike, before a discriminator sees them.

    The discriminator cannot memorise a small data set then. Gradients pass through, so the
    generator does not learn the changes (Zhao et al. 2020, "Differentiable augmentation for
    data-efficient GAN training").

    Arguments:
    color_jitter: change brightness, saturation and contrast.
    translation: shift by up to this share of the side; the edges are repeated.
    cutout: side of a gray square somewhere in the image, as a share of the image's side.
    """

    color_jitter: bool
    translation: float
    cutout: float

    def __post_init__(self) -> None:
        share = "a number in [0, 1]"
        require(0 <= self.translation <= 1, "translation", self.translation, share)
        require(0 <= self.cutout <= 1, "cutout", self.cutout, share)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to images of the same shape.

        With `color_jitter`, values may leave [0, 1].
        """
        if self.color_jitter:
            images = color_jitter(images)
        if self.translation:
            images = translate(images, self.translation)
        if self.cutout:
            images = cutout(images, self.cutout)
        return images


def color_jitter(images: Tensor) -> Tensor:
    """Change the brightness, saturation and contrast of each image (B, C, H, W).

    Up to 0.25 is added or subtracted; the saturation is multiplied by 0 to 2, the contrast by
    0.5 to 1.5.
    """
    random = uniform((3, len(images), 1, 1, 1), dim=1).to(images.device)
    brightness, saturation, contrast = random
    images = images + 0.5 * (brightness - 0.5)
    gray = images.mean(dim=1, keepdim=True)
    images = gray + 2 * saturation * (images - gray)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (0.5 + contrast) * (images - mean)


def translate(images: Tensor, share: float) -> Tensor:
    """Shift each image (B, C, H, W) by up to this share of its height and width."""
    batch, _, height, width = images.shape
    row_shifts = _random_shifts(batch, round(share * height))
    column_shifts = _random_shifts(batch, round(share * width))
    rows = shift_indices(height, row_shifts)
    columns = shift_indices(width, column_shifts)
    return gather_pixels(images, rows, columns)


def cutout(images: Tensor, share: float) -> Tensor:
    """Make a square of each image (B, C, H, W) mid-gray (DeVries & Taylor 2017).

    Its sides are this share of height and width; its centre lies anywhere in the image.
    """
    batch, _, height, width = images.shape
    rows = _random_interval(batch, height, share)
    columns = _random_interval(batch, width, share)
    square = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, H, W)
    return images.masked_fill(square.to(images.device), 0.5)


def shift_indices(side: int, shifts: Tensor) -> Tensor:
    """Source positions (B, side) of rows or columns that are shifted by `shifts` (B, 1) pixels.

    Positions beyond an edge become the edge.
    """
    return (torch.arange(side) + shifts).clamp(0, side - 1)


def gather_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (B, C, H, W) whose rows and columns are read from positions (B, H) and (B, W)."""
    rows = rows.to(images.device)[:, None, :, None]
    columns = columns.to(images.device)[:, None, None, :]
    images = images.gather(2, rows.expand(images.shape))
    return images.gather(3, columns.expand(images.shape))


def _random_shifts(batch: int, largest: int) -> Tensor:
    return integers(-largest, largest + 1, (batch, 1))


def _random_interval(batch: int, side: int, share: float) -> Tensor:
    """A mask (B, side) of one interval for each image, of this share of the side."""
    length = round(share * side)
    half = length // 2
    start = integers(-half, side - half + (1 - length % 2), (batch, 1))
    positions = torch.arange(side)
    return (positions >= start) & (positions < start + length)
