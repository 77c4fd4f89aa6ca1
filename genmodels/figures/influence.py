"""The figure of which settings matter: main effects, and the strongest interactions."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genmodels.figures.plotting import COLOURS, stacked_axes, styled

WIDTH = 11  # inches
ROW_INCHES = 0.42  # of a setting
INTERACTION_INCHES = 3.1
LABEL_LETTERS = 45  # in a line of an axis's label
ARROW = "\N{RIGHTWARDS ARROW}"

Interval = tuple[float, float | None, float | None]  # a value, and the ends of its interval


@dataclass(frozen=True)
class MainEffects:
    """Of one metric.

    Arguments:
    label: the metric's axis.
    means: setting, the strongest first -> value -> the metric's mean.
    """

    label: str
    means: Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True)
class InteractionMeans:
    """Of two settings.

    Arguments:
    first: a setting, along the axis.
    second: another, with a line for each value.
    label: the metric's axis.
    means: value of the second -> value of the first -> the metric's mean.
    """

    first: str
    second: str
    label: str
    means: Mapping[str, Mapping[str, float]]


@styled
def influence(effects: Sequence[MainEffects], interactions: Sequence[InteractionMeans]) -> Figure:
    """Draw a panel of main effects for each metric, and below one for each interaction."""
    most = max(len(metric.means) for metric in effects)
    heights = [1.0 + ROW_INCHES * most, INTERACTION_INCHES if interactions else 0.01]
    figure, (first, second) = stacked_axes(WIDTH, heights, [len(effects), len(interactions)])
    for axes, metric in zip(first, effects, strict=True):
        _draw_main_effects(axes, metric)
    for axes, interaction in zip(second, interactions, strict=True):
        _draw_interaction(axes, interaction)
        axes.sharey(second[0])
    return figure


def _draw_main_effects(axes: Axes, metric: MainEffects) -> None:
    """A row for each setting: a dot at the mean of each value, with its interval."""
    for row, means in enumerate(metric.means.values()):
        values = [value for value, _, _ in means.values()]
        axes.plot([min(values), max(values)], [row, row], color="C0", linewidth=2, alpha=0.35)
        for value, low, high in means.values():
            if low is not None and high is not None:
                axes.plot([low, high], [row, row], color="black", linewidth=1)
            axes.plot(value, row, "o", color="C0", markersize=5)
    names = [f"{name}\n" for name in metric.means]  # the second line is for the values
    axes.set_yticks(range(len(names)), names)
    for row, means in enumerate(metric.means.values()):
        _name_values(axes, row, means)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(textwrap.fill(metric.label, LABEL_LETTERS))
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _name_values(axes: Axes, row: int, means: Mapping[str, Interval]) -> None:
    """The values below the setting's name, in the order of their means, as the dots are."""
    by_mean = sorted(means, key=lambda level: means[level][0])
    axes.annotate(
        f" {ARROW} ".join(by_mean),
        (0, row),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-6, -3),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=7,
        color="0.35",
    )


def _draw_interaction(axes: Axes, interaction: InteractionMeans) -> None:
    """A line for each value of the second setting over those of the first."""
    for index, (level, means) in enumerate(interaction.means.items()):
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(list(means), list(means.values()), marker="o", color=colour, label=level)
    axes.margins(x=0.2)
    axes.set(xlabel=interaction.first, ylabel=interaction.label)
    axes.legend(title=interaction.second, fontsize=8, title_fontsize=8)
