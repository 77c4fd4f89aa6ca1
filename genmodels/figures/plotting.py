"""How every picture looks, what it is asked with, and what it is: a drawing, its caption, the numbers behind it."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import torch
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from genmodels import files
from genmodels.figures.image_sheet import GAP_PIXELS, as_rgb, row_tops, tile

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "text.parse_math": False,  # names of classes are anybody's
    "hatch.linewidth": 0.5,
    "hatch.color": "#777777",
    "legend.frameon": False,
    "savefig.dpi": 150,
    "figure.facecolor": "white",
    # Okabe & Ito 2008: told apart with any colour vision
    "axes.prop_cycle": cycler(
        color=[
            "#0072b2",
            "#d55e00",
            "#009e73",
            "#cc79a7",
            "#e69f00",
            "#56b4e9",
            "#000000",
            "#999999",
        ]
    ),
}
# Petroff 2021 (arXiv:2107.02270), with black for his second gray: ten for classes, told apart with any colour vision
CLASS_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#222222",
    "#92dadd",
)
styled = matplotlib.rc_context(STYLE)  # a decorator: what the function draws has the house style
CAPTION = {"fontsize": 8, "color": "#555555"}
CELL_INCHES = 0.55
TITLE_LETTERS, CAPTION_LETTERS = 9.5, 15.5  # of a title, of a caption in an inch
CAPTION_LINE = 0.14  # inches
LEVEL = 9  # letters of a column's name; with longer ones, all are slanted


@dataclass
class FigureResult:
    """A figure and the table of numbers behind it, one mapping a row."""

    figure: Figure
    table: Sequence[Mapping[str, Any]]

    def save(self, folder: Path, name: str, caption: str) -> Path:
        """Write <name>.png, with the caption under it, and <name>.csv; returns the path of the png."""
        fixed, dot = "\N{NO-BREAK SPACE}", "\N{MIDDLE DOT}"
        parts = caption.replace(" ", fixed).replace(
            f"{dot}{fixed}", f"{dot} "
        )  # a line ends after a dot
        lines = textwrap.wrap(parts, int(CAPTION_LETTERS * self.figure.get_figwidth()))
        self.figure.set_figheight(self.figure.get_figheight() + CAPTION_LINE * (len(lines) - 1))
        self.figure.supxlabel("\n".join(lines), x=0.01, ha="left", **CAPTION)
        path = folder / f"{name}.png"
        save(self.figure, path)
        files.write_csv(path.with_suffix(".csv"), self.table)
        return path


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure as png."""
    with files.atomic_write(path) as temporary:
        figure.savefig(temporary, format="png")


def class_colour(label: int) -> str:
    """The colour of a class, in all figures the same; gray where there is none."""
    return CLASS_COLOURS[label % len(CLASS_COLOURS)] if label >= 0 else "#555555"


def axes_grid(
    width: float, height: float, columns: int = 1, widths: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """An empty figure of this size in inches, with axes side by side; for functions that are `styled`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False, width_ratios=widths)[0])


def stacked_axes(
    width: float, heights: Sequence[float], columns: Sequence[int]
) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of rows of axes, `columns` of them in each, in inches; for functions that are `styled`."""
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    rows = figure.subfigures(len(columns), 1, squeeze=False, height_ratios=heights)[:, 0]
    return figure, [
        list(row.subplots(1, count, squeeze=False)[0]) if count else []
        for row, count in zip(rows, columns, strict=True)
    ]


@styled
def image_table(images: Tensor, columns: int, title: str, **labels: Any) -> Figure:
    """Images (N, C, H, W) in [0, 1] laid out row by row; labels are those of `show_images`."""
    height, width = tile(images, columns, group=labels.get("group", 0)).shape[:2]
    beside = 0.8 if labels.get("row_labels") else 0.2
    across = max(columns * CELL_INCHES + beside, 4.5)
    lines = textwrap.wrap(title, int(TITLE_LETTERS * (across - beside)))
    named = [labels.get("column_labels"), labels.get("x_label")]
    text = 0.2 * (len(lines) + sum(map(bool, named))) + (0.9 if slanted(named[0] or ()) else 0.6)
    figure, (axes,) = axes_grid(across, height / width * columns * CELL_INCHES + text)
    show_images(axes, images, columns, "\n".join(lines), **labels)
    axes.set_anchor("W")  # where there are few images, their title needs the room beside them
    return figure


def show_images(
    axes: Axes,
    images: Tensor,
    columns: int,
    title: str,
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    x_label: str = "",
    y_label: str = "",
    gap: int = GAP_PIXELS,
    group: int = 0,
) -> None:
    """Images (N, C, H, W) in [0, 1] laid out row by row on axes as `tile` does, with names for rows and columns."""
    sheet, height = tile(images, columns, gap, group), images.shape[2]
    axes.imshow(as_rgb(sheet), interpolation="nearest")
    axes.set_title(title)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    axes.set_yticks(
        [top + (height - gap) / 2 for top in row_tops(len(row_labels), height, gap, group)],
        row_labels,
    )
    step_x = (sheet.shape[1] + gap) / columns
    axes.set_xticks(
        [(column + 0.5) * step_x - gap for column in range(len(column_labels))], column_labels
    )
    if slanted(column_labels):
        axes.tick_params(axis="x", labelrotation=30)
        for name in axes.get_xticklabels():
            name.set_horizontalalignment("right")
    axes.set(xlabel=x_label, ylabel=y_label)


def slanted(names: Sequence[str]) -> bool:
    """Whether names of columns are so long that they would lie on each other."""
    return max(map(len, names), default=0) > LEVEL


def padded(images: Tensor, count: int) -> Tensor:
    """As many images (count, C, H, W), white ones at the end where there are fewer: a full row of a table."""
    return torch.cat([images, images.new_ones(count - len(images), *images.shape[1:])])
