"""Images laid out on one sheet, as arrays: no matplotlib, so that training need not import it."""

import numpy as np
from torch import Tensor

from genmodels.data.images import to_uint8

GAP_PIXELS = 2


def tile(images: Tensor, columns: int, gap: int = GAP_PIXELS, group: int = 0) -> np.ndarray:
    """One sheet (H', W', C) uint8 of images, row by row, with white gaps between them.

    Arguments:
    images: (N, C, H, W) in [0, 1].
    columns: images side by side.
    gap: between images, in pixels.
    group: rows that belong together, with a wider gap after them; 0 for all.
    """
    array = to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()  # (N, H, W, C)
    count, height, width, channels = array.shape
    rows = -(-count // columns)
    tops = row_tops(rows, height, gap, group)
    stride = width + gap
    sheet = np.full((tops[-1] + height, columns * stride - gap, channels), 255, np.uint8)
    for index, image in enumerate(array):
        top = tops[index // columns]
        left = index % columns * stride
        bottom, right = top + height, left + width
        sheet[top:bottom, left:right] = image
    return sheet


def row_tops(rows: int, height: int, gap: int, group: int) -> list[int]:
    """Where each row of a sheet begins, in pixels from its top."""
    extra = height // 4 if group else 0  # pixels after each group
    return [row * (height + gap) + row // max(group, 1) * extra for row in range(rows)]


def as_rgb(sheet: np.ndarray) -> np.ndarray:
    """A sheet (H, W, 1 or 3) as (H, W, 3)."""
    return np.repeat(sheet, 3 // sheet.shape[2], axis=2)
