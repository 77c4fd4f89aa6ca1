"""The picture of a run before it runs."""

from collections.abc import Callable

from matplotlib.ticker import MaxNLocator

from genmodels.figures.plotting import FigureResult, axes_grid, styled

POINTS = 500


@styled
def draw_plan(plan: Callable[[int, int], dict[str, float]], total: int) -> FigureResult:
    """All that changes by plan over the `total` steps of a run, one pair of axes each. Numbers: up to 500 steps."""
    steps = sorted({round(index * (total - 1) / (POINTS - 1)) for index in range(POINTS)})
    rows = [{"step": step + 1, **plan(step, total)} for step in steps]
    names = [name for name in rows[0] if name != "step"]
    figure, all_axes = axes_grid(4.5 * len(names), 3.2, columns=len(names))
    for axes, name in zip(all_axes, names, strict=True):
        axes.plot([row["step"] for row in rows], [row[name] for row in rows], linewidth=2)
        axes.set(title=name, xlabel=f"step (of {total:,})", ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return FigureResult(figure, rows)
