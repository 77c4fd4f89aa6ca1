"""How a run came to make what it makes: the same noise and the same test images at stored steps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from genmodels.data.images import to_float
from genmodels.errors import require
from genmodels.figures.image_sheet import as_rgb, tile
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, Row, styled
from genmodels.models.generative import GenerativeModel
from genmodels.quantities import quantity
from genmodels.run_files import HISTORY, read_rows

MAX_STEPS = 14  # stored steps that are shown; of more, evenly spaced ones
IMAGES = {"samples": 6, "reconstructions": 3}  # that are shown of each kind of snapshot
TITLES = {
    "samples": "the same noise, decoded as training goes",
    "reconstructions": "the same test images, decoded as training goes",
}
CURVES = (
    "kl_weight",
    "kl",
    "distortion",
    "discriminator_loss",
    "generator_loss",
    "real_above_fake",
)
CELL_INCHES = 0.6
CURVE_INCHES = 0.75
TITLE_INCHES = 0.4
LEFT_INCHES = 1.0
RIGHT_INCHES = 0.15
BOTTOM_INCHES = 0.85
MIN_WIDTH_INCHES = 6.0  # that titles and caption need


@styled
def training_progress(_: GenerativeModel, options: FigureOptions) -> FigureResult:
    """One column for each stored step: images from the same noise and of the same test images.

    Under them are curves of training, as far as the run has them: KL weight, KL and distortion of a
    VAE; both losses of a GAN and how well its discriminator tells images apart.

    Numbers: the curves and the epoch at those steps. Raises ValueError for a run without them.
    """
    assert options.run is not None
    steps = _spaced(stored_steps(options.run))
    strips = _stored_strips(options.run, steps)
    rows = [row for row in read_rows(options.run) if "train" in row]
    require(bool(rows), "figures", "training_progress", "drawn of a run with rows of training")
    logged_steps = [row["step"] for row in rows]
    curves = _curves(rows)
    epochs = np.interp(steps, logged_steps, [row["epoch"] for row in rows])
    # whole numbers where they are different enough
    epoch_format = ".0f" if epochs[-1] >= 2 * len(steps) else ".3g"
    table: list[Row] = []
    for step, epoch in zip(steps, epochs, strict=True):
        table.append({"step": step, "epoch": f"{epoch:{epoch_format}}"})

    figure, all_axes = _empty_figure(list(strips.values()), len(steps), len(curves))
    for axes, (name, strip) in zip(all_axes, strips.items(), strict=False):
        _draw_strip(axes, strip, TITLES[name])
    count = len(strips)
    for axes, (name, values) in zip(all_axes[count:], curves.items(), strict=True):
        at_steps = np.interp(steps, logged_steps, values)
        for row, value in zip(table, at_steps, strict=True):
            row[name] = float(value)
        # all logged values, and dots under the columns of images
        positions = np.interp(logged_steps, [0, *steps], range(-1, len(steps)))
        axes.plot(positions, values, linewidth=1.8)
        axes.scatter(range(len(steps)), at_steps, s=16)
        axes.set_title(quantity(name).axis)
        axes.set(xlim=(-1, len(steps) - 0.5), xticks=range(len(steps)), xticklabels=[])
        axes.margins(y=0.15)
    all_axes[-1].set(
        xticks=range(len(steps)),
        xticklabels=[row["epoch"] for row in table],
        xlabel="epoch",
    )
    return FigureResult(figure, table)


def stored_steps(run: Path) -> list[int]:
    """The steps at which a run stored snapshots, rising."""
    paths = (run / HISTORY).glob(f"samples-{'[0-9]' * 8}.npz")
    return sorted(int(path.stem.rpartition("-")[2]) for path in paths)


def _spaced(steps: Sequence[int]) -> list[int]:
    """Up to MAX_STEPS of the steps, evenly spaced."""
    indices = np.linspace(0, len(steps) - 1, MAX_STEPS).round().astype(int)
    return [steps[index] for index in np.unique(indices)]


def _stored_strips(run: Path, steps: Sequence[int]) -> dict[str, Tensor]:
    """For each kind of snapshot its first images at all steps, (n, S, C, H, W) in [0, 1]."""
    strips = {}
    for name, count in IMAGES.items():
        if _path(run, name, steps[0]).exists():
            at_steps = [stored_images(run, name, step)[:count] for step in steps]
            strips[name] = torch.stack(at_steps, dim=1)
    return strips


def stored_images(run: Path, name: str, step: int) -> Tensor:
    """The images of a kind of snapshot at a stored step, (n, C, H, W) in [0, 1]."""
    with np.load(_path(run, name, step)) as file:
        images = torch.from_numpy(file["images"])
    return to_float(images)


def _path(run: Path, name: str, step: int) -> Path:
    return run / HISTORY / f"{name}-{step:08d}.npz"


def _curves(rows: Sequence[Row]) -> dict[str, list[float]]:
    """The values of each of CURVES that all training rows have."""
    curves = {}
    for name in CURVES:
        if all(name in row["train"] for row in rows):
            curves[name] = [row["train"][name] for row in rows]
    return curves


def _empty_figure(strips: Sequence[Tensor], steps: int, curves: int) -> tuple[Figure, list[Axes]]:
    """Axes below each other for strips of images and for curves, with a common right edge.

    Columns of images stand exactly over the points of the curves, which begin half a column to the
    left of the images.
    """
    heights = [CELL_INCHES * len(strip) for strip in strips] + [CURVE_INCHES] * curves
    columns = [steps] * len(strips) + [steps + 0.5] * curves
    right = LEFT_INCHES + CELL_INCHES * steps
    width = max(right + RIGHT_INCHES, MIN_WIDTH_INCHES)
    height = sum(heights) + TITLE_INCHES * len(heights) + BOTTOM_INCHES
    figure = Figure(figsize=(width, height))
    bottom = height
    for count, axes_height in zip(columns, heights, strict=True):
        bottom -= TITLE_INCHES + axes_height
        axes_width = CELL_INCHES * count
        left = right - axes_width
        figure.add_axes((left / width, bottom / height, axes_width / width, axes_height / height))
    return figure, figure.axes


def _draw_strip(axes: Axes, strip: Tensor, title: str) -> None:
    """One row for each image (n, S, C, H, W), one column for each step."""
    images, steps = strip.shape[:2]
    axes.imshow(
        as_rgb(tile(strip.flatten(0, 1), steps)),
        interpolation="nearest",
        aspect="auto",
        extent=(-0.5, steps - 0.5, images, 0),
    )
    axes.set_title(title)
    axes.set_axis_off()
