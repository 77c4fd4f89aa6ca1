"""The style of all figures, their axes, and the result: a figure with the numbers behind it."""

import textwrap
from collections.abc import Sequence
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

# Okabe & Ito 2008: distinguishable with any colour vision
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#999999",
)
# Petroff 2021 (arXiv:2107.02270), with black for the second gray: likewise, ten for classes
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
NO_CLASS_COLOUR = "#555555"
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
    "axes.prop_cycle": cycler(color=COLOURS),
    # names of classes may hold any character
    "text.parse_math": False,
    "hatch.linewidth": 0.5,
    "hatch.color": "#777777",
    "legend.frameon": False,
    "savefig.dpi": 150,
    "figure.facecolor": "white",
}
styled = matplotlib.rc_context(STYLE)  # a decorator: the function draws in the style of all figures
CAPTION_STYLE = {"fontsize": 8, "color": "#555555"}
# of what data are compared with, such as the prior
REFERENCE_LINE: dict[str, Any] = {"color": "#666666", "linewidth": 1, "linestyle": (0, (4, 3))}
HOLE_COLOUR = "#d40000"  # of regions of the latent space where samples land and data do not

FORMATS = ("png", "pdf", "svg")  # of the files of figures
CELL_INCHES = 0.55  # an image of an `image_table`
MIN_TABLE_INCHES = 3.2
TITLE_LETTERS_PER_INCH = 9.5
CAPTION_LETTERS_PER_INCH = 15.5
CAPTION_LINE_INCHES = 0.14
TEXT_LINE_INCHES = 0.2
MAX_LEVEL_LETTERS = 9  # of a column's name; with a longer one all names of columns are slanted


Row = dict[str, Any]  # of a figure's table


@dataclass
class FigureResult:
    """A figure and the table of numbers behind it."""

    figure: Figure
    table: Sequence[Row]

    def save(self, folder: Path, name: str, caption: str, file_format: str = "png") -> Path:
        """Write <name>.png or of another format, with the caption under the figure, and <name>.csv.

        Returns the path of the figure.
        """
        lines = _wrap_caption(caption, self.figure.get_figwidth())
        extra = CAPTION_LINE_INCHES * (len(lines) - 1)
        self.figure.set_figheight(self.figure.get_figheight() + extra)
        self.figure.supxlabel("\n".join(lines), x=0.01, ha="left", **CAPTION_STYLE)
        path = folder / f"{name}.{file_format}"
        save(self.figure, path)
        files.write_csv(path.with_suffix(".csv"), self.table)
        return path


def _wrap_caption(caption: str, inches: float) -> list[str]:
    """Lines that end only after a middle dot."""
    space, dot = "\N{NO-BREAK SPACE}", "\N{MIDDLE DOT}"
    text = caption.replace(" ", space).replace(f"{dot}{space}", f"{dot} ")
    return textwrap.wrap(text, int(CAPTION_LETTERS_PER_INCH * inches))


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the path's ending.

    A png is compressed with the least effort: files are 12 % larger.
    """
    file_format = path.suffix.removeprefix(".")
    options: dict[str, Any] = {}
    if file_format == "png":
        options["pil_kwargs"] = {"compress_level": 1}
    with files.atomic_write(path) as temporary:
        figure.savefig(temporary, format=file_format, **options)


def class_colour(label: int) -> str:
    """The colour of a class, the same in all figures; gray for no label."""
    return CLASS_COLOURS[label % len(CLASS_COLOURS)] if label >= 0 else NO_CLASS_COLOUR


def axes_grid(
    width: float, height: float, columns: int = 1, widths: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """An empty figure with axes side by side, for functions that are `styled`.

    Arguments:
    width: of the figure in inches.
    height: likewise.
    columns: how many axes.
    widths: their relative widths; None for equal ones.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, width_ratios=widths)
    return figure, list(axes[0])


def stacked_axes(
    width: float, heights: Sequence[float], columns: Sequence[int]
) -> tuple[Figure, list[list[Axes]]]:
    """An empty figure of rows of axes, for functions that are `styled`.

    Arguments:
    width: of the figure in inches.
    heights: of each row in inches.
    columns: how many axes each row has; 0 leaves it empty.
    """
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    subfigures = figure.subfigures(len(columns), 1, squeeze=False, height_ratios=heights)[:, 0]
    rows: list[list[Axes]] = []
    for subfigure, count in zip(subfigures, columns, strict=True):
        rows.append(list(subfigure.subplots(1, count, squeeze=False)[0]) if count else [])
    return figure, rows


@styled
def image_table(images: Tensor, columns: int, title: str, **labels: Any) -> Figure:
    """A figure of images laid out row by row; the arguments are those of `show_images`."""
    figure, (axes,) = axes_grid(1.0, 1.0)
    show_images(axes, images, columns, title, **labels)
    axes.set_anchor("W")  # a title over few images needs the room to their right
    margin = 0.8 if labels.get("row_labels") else 0.2
    width = max(columns * CELL_INCHES + margin, MIN_TABLE_INCHES)
    title_lines = textwrap.wrap(title, int(TITLE_LETTERS_PER_INCH * (width - margin)))
    axes.set_title("\n".join(title_lines))
    column_labels = labels.get("column_labels", ())
    text_lines = len(title_lines) + bool(column_labels) + bool(axes.get_xlabel())
    text_height = TEXT_LINE_INCHES * text_lines + (0.9 if _are_slanted(column_labels) else 0.6)
    sheet_height, sheet_width = axes.images[0].get_size()
    height = sheet_height / sheet_width * columns * CELL_INCHES + text_height
    figure.set_size_inches(width, height)
    return figure


def show_images(
    axes: Axes,
    images: Tensor,
    columns: int,
    title: str = "",
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    x_label: str = "",
    y_label: str = "",
    gap: int = GAP_PIXELS,
    group: int = 0,
) -> None:
    """Show images laid out row by row.

    Arguments:
    axes: to draw on.
    images: (N, C, H, W) in [0, 1].
    columns: images side by side.
    title: of the axes.
    row_labels: names of the rows, from the top.
    column_labels: names of the columns, from the left.
    x_label: what the columns are.
    y_label: what the rows are.
    gap: between images, in pixels.
    group: rows that belong together, with a wider gap after them; 0 for all.
    """
    sheet = tile(images, columns, gap, group)
    axes.imshow(as_rgb(sheet), interpolation="nearest")
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    height = images.shape[2]
    tops = row_tops(len(row_labels), height, gap, group)
    axes.set_yticks([top + (height - gap) / 2 for top in tops], row_labels)
    stride = (sheet.shape[1] + gap) / columns
    middles = [(column + 0.5) * stride - gap for column in range(len(column_labels))]
    axes.set_xticks(middles, column_labels)
    if _are_slanted(column_labels):
        axes.tick_params(axis="x", labelrotation=30)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")


def _are_slanted(column_labels: Sequence[str]) -> bool:
    """Whether names of columns are so long that they would overlap."""
    return max(map(len, column_labels), default=0) > MAX_LEVEL_LETTERS


def pad_images(images: Tensor, count: int) -> Tensor:
    """`count` images (count, C, H, W): white ones are added to fewer, to fill a row."""
    white = images.new_ones(count - len(images), *images.shape[1:])
    return torch.cat([images, white])
