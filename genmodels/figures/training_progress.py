"""How a run came to make what it makes: the same noise and the same test images at stored steps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from genmodels.data.images import to_float
from genmodels.figures.image_sheet import as_rgb, tile
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, styled
from genmodels.models.generative import GenerativeModel
from genmodels.quantities import quantity
from genmodels.run_files import FIGURES, read_rows

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

    Numbers: the curves and the epoch at those steps.
    """
    assert options.run is not None
    steps = _spaced(stored_steps(options.run))
    strips = _stored_strips(options.run, steps)
    rows = [row for row in read_rows(options.run) if "train" in row]
    logged_steps = [row["step"] for row in rows]
    epochs = np.interp(steps, logged_steps, [row["epoch"] for row in rows])
    epoch_names = [f"{epoch:.3g}" for epoch in epochs]
    curves = _curves(rows)

    figure, strip_axes, curve_axes = _empty_figure(strips, len(steps), len(curves))
    for axes, (name, strip) in zip(strip_axes, strips.items(), strict=True):
        _draw_strip(axes, strip, TITLES[name])
    for axes, (name, values) in zip(curve_axes, curves.items(), strict=True):
        _draw_curve(axes, steps, logged_steps, values)
        axes.set_title(quantity(name).axis)
    last = figure.axes[-1]
    last.set(xticks=range(len(steps)), xticklabels=epoch_names, xlabel="epoch")
    table = []
    for step, epoch in zip(steps, epoch_names, strict=True):
        row: dict[str, Any] = {"step": step, "epoch": epoch}
        for name, values in curves.items():
            row[name] = float(np.interp(step, logged_steps, values))
        table.append(row)
    return FigureResult(figure, table)


def stored_steps(run: Path) -> list[int]:
    """The steps at which a run stored snapshots, rising."""
    paths = (run / FIGURES).glob("samples-*.npz")
    return sorted(int(path.stem.rpartition("-")[2]) for path in paths)


def _spaced(steps: Sequence[int]) -> list[int]:
    """Up to MAX_STEPS of the steps, evenly spaced."""
    indices = np.linspace(0, len(steps) - 1, MAX_STEPS).round().astype(int)
    return [steps[index] for index in np.unique(indices)]


def _stored_strips(run: Path, steps: Sequence[int]) -> dict[str, Tensor]:
    """For each kind of snapshot its first images at all steps, (n, S, C, H, W) in [0, 1]."""
    strips = {}
    for name, count in IMAGES.items():
        paths = [run / FIGURES / f"{name}-{step:08d}.npz" for step in steps]
        if paths[0].exists():
            strips[name] = torch.stack([_read_images(path)[:count] for path in paths], dim=1)
    return strips


def _read_images(path: Path) -> Tensor:
    """(n, C, H, W) in [0, 1]."""
    with np.load(path) as file:
        return to_float(torch.from_numpy(file["images"]))


def _curves(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """The values of each of CURVES that all training rows have."""
    curves = {}
    for name in CURVES:
        if all(name in row["train"] for row in rows):
            curves[name] = [row["train"][name] for row in rows]
    return curves


def _empty_figure(
    strips: dict[str, Tensor], steps: int, curves: int
) -> tuple[Figure, list[Axes], list[Axes]]:
    """Axes for the strips of images, and below them for the curves, with a common right edge.

    Columns of images stand exactly over the points of the curves.
    """
    strip_heights = [CELL_INCHES * len(strip) for strip in strips.values()]
    heights = strip_heights + [CURVE_INCHES] * curves
    right = LEFT_INCHES + CELL_INCHES * steps
    width = max(right + RIGHT_INCHES, MIN_WIDTH_INCHES)
    height = sum(heights) + TITLE_INCHES * len(heights) + BOTTOM_INCHES
    figure = Figure(figsize=(width, height))
    bottom = height
    all_axes = []
    for index, axes_height in enumerate(heights):
        bottom -= TITLE_INCHES + axes_height
        # a curve begins half a column to the left of the images
        columns = steps if index < len(strips) else steps + 0.5
        axes_width = CELL_INCHES * columns
        left = right - axes_width
        rectangle = (left / width, bottom / height, axes_width / width, axes_height / height)
        all_axes.append(figure.add_axes(rectangle))
    return figure, all_axes[: len(strips)], all_axes[len(strips) :]


def _draw_strip(axes: Axes, strip: Tensor, title: str) -> None:
    """One row for each image (n, S, C, H, W), one column for each step."""
    images, steps = strip.shape[:2]
    sheet = as_rgb(tile(strip.flatten(0, 1), steps))
    extent = (-0.5, steps - 0.5, images, 0)
    axes.imshow(sheet, interpolation="nearest", aspect="auto", extent=extent)
    axes.set_title(title)
    axes.set_axis_off()


def _draw_curve(
    axes: Axes, steps: Sequence[int], logged_steps: Sequence[int], values: Sequence[float]
) -> None:
    """All logged values as a line, those at the stored steps as dots under their columns."""
    columns = range(len(steps))
    positions = np.interp(logged_steps, [0, *steps], range(-1, len(steps)))
    axes.plot(positions, values, linewidth=1.8)
    axes.scatter(columns, np.interp(steps, logged_steps, values), s=16)
    axes.set(xlim=(-1, len(steps) - 0.5), xticks=columns, xticklabels=[])
    axes.margins(y=0.15)
