"""What changes over a run by schedule, such as learning rate and KL weight."""

from collections.abc import Callable, Mapping

from matplotlib.ticker import MaxNLocator

from genmodels.figures.plotting import FigureResult, axes_grid, styled
from genmodels.quantities import quantity

POINTS = 500  # of a curve


@styled
def draw_plan(plan: Callable[[int, int], Mapping[str, float]], total: int) -> FigureResult:
    """One pair of axes for each quantity that follows a schedule.

    Arguments:
    plan: (step from 0, total) -> the quantities at that step.
    total: steps of the run.

    Numbers: the quantities at up to 500 steps.
    """
    spaced = [round(index * (total - 1) / (POINTS - 1)) for index in range(POINTS)]
    table = [{"step": step + 1, **plan(step, total)} for step in sorted(set(spaced))]
    steps = [row["step"] for row in table]
    names = [name for name in table[0] if name != "step"]
    figure, all_axes = axes_grid(4.5 * len(names), 3.2, columns=len(names))
    for axes, name in zip(all_axes, names, strict=True):
        axes.plot(steps, [row[name] for row in table], linewidth=2)
        axes.set(
            title=quantity(name).axis,
            xlabel=f"step (of {total:,})",
            ylim=(0, None),
        )
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return FigureResult(figure, table)
