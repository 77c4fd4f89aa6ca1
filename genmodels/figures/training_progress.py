"""How a run came to make what it makes: the same noise and the same test images at each stored step."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genmodels.data.images import to_float
from genmodels.figures.image_sheet import as_rgb, tile
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, styled
from genmodels.models.generative import GenerativeModel
from genmodels.run_files import FIGURES, read_rows

COLUMNS = 14  # stored steps that are shown, of more
ROWS = {"samples": 6, "reconstructions": 3}  # of images, for what is stored
TERMS = {
    "kl_weight": "KL weight",
    "kl": "KL (nats per image)",
    "distortion": "distortion (nats per image)",
    "discriminator_loss": "loss of D",
    "generator_loss": "loss of G",
    "real_above_fake": "pairs that D tells apart (share)",
}
CELL, LEFT, RIGHT, CURVE, TITLE, BELOW = 0.6, 1.0, 0.15, 0.75, 0.4, 0.85  # inches
NARROWEST = 6.0  # inches that titles and caption need


@styled
def training_progress(_: GenerativeModel, options: FigureOptions) -> FigureResult:
    """One column for each stored step: images from the same noise, reconstructions of the same test images, and under
    them, where the run has them, KL weight, KL and distortion of training, or how the game stands. Numbers: these terms
    at those steps."""
    assert options.run is not None
    steps = stored_steps(options.run)
    steps = [
        steps[index]
        for index in np.unique(np.linspace(0, len(steps) - 1, COLUMNS).round().astype(int))
    ]
    strips = {
        name: [_stored(options.run, name, step)[:rows] for step in steps]
        for name, rows in ROWS.items()
        if _path(options.run, name, steps[0]).exists()
    }
    rows = [row for row in read_rows(options.run) if "train" in row]
    logged = [row["step"] for row in rows]
    terms = {
        name: [row["train"][name] for row in rows]
        for name in TERMS
        if all(name in row["train"] for row in rows)
    }
    epochs = [f"{epoch:.3g}" for epoch in np.interp(steps, logged, [row["epoch"] for row in rows])]

    sizes = [(len(steps), CELL * len(strip[0])) for strip in strips.values()] + [
        (len(steps) + 0.5, CURVE)
    ] * len(terms)
    axes = _stack(sizes)
    for (name, strip), axis in zip(strips.items(), axes, strict=False):
        sheet = tile(
            torch.stack(strip, dim=1).flatten(0, 1), len(steps)
        )  # one image at all steps in each row
        axis.imshow(
            as_rgb(sheet),
            interpolation="nearest",
            aspect="auto",
            extent=(-0.5, len(steps) - 0.5, len(strip[0]), 0),
        )
        axis.set_title(
            f"the same {'noise' if name == 'samples' else 'test images'}, decoded as training goes"
        )
        axis.set_axis_off()
    for (name, values), axis in zip(terms.items(), axes[len(strips) :], strict=True):
        axis.plot(np.interp(logged, [0, *steps], range(-1, len(steps))), values, linewidth=1.8)
        axis.scatter(range(len(steps)), np.interp(steps, logged, values), s=16)
        axis.set_title(TERMS[name])
        axis.set(xlim=(-1, len(steps) - 0.5), xticks=range(len(steps)), xticklabels=[])
        axis.margins(y=0.15)
    axes[-1].set(xticks=range(len(steps)), xticklabels=epochs, xlabel="epoch")
    table = [
        {"step": step, "epoch": epoch}
        | {name: float(np.interp(step, logged, values)) for name, values in terms.items()}
        for step, epoch in zip(steps, epochs, strict=True)
    ]
    return FigureResult(axes[0].figure, table)  # type: ignore[arg-type]


def stored_steps(run: Path) -> list[int]:
    """The steps at which a run kept what it makes."""
    return sorted(
        int(path.stem.rpartition("-")[2]) for path in (run / FIGURES).glob("samples-*.npz")
    )


def _path(run: Path, name: str, step: int) -> Path:
    return run / FIGURES / f"{name}-{step:08d}.npz"


def _stored(run: Path, name: str, step: int) -> torch.Tensor:
    """(n, C, H, W) in [0, 1]."""
    with np.load(_path(run, name, step)) as file:
        return to_float(torch.from_numpy(file["images"]))


def _stack(sizes: list[tuple[float, float]]) -> list[Axes]:
    """Axes below each other, as wide as so many columns and as high as so many inches, with a common right edge.

    So columns of images stand exactly over the points of curves.
    """
    right = LEFT + CELL * sizes[0][0]
    width, height = (
        max(right + RIGHT, NARROWEST),
        sum(size for _, size in sizes) + TITLE * len(sizes) + BELOW,
    )
    figure = Figure(figsize=(width, height))
    axes, top = [], height
    for columns, size in sizes:
        top -= TITLE + size
        axes.append(
            figure.add_axes(
                (
                    (right - CELL * columns) / width,
                    top / height,
                    CELL * columns / width,
                    size / height,
                )
            )
        )
    return axes
