"""report.png: what the KL weights of a sweep trade, how its runs went, and what they make."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from genmodels.report.anova import Influence
from genmodels.report.runs import Group, Job, cell, grouped, headlines, is_grid, label
from genmodels.report.tables import headline, in_order, strongest

UNDRAWN = (
    "bits_per_dimension",
    "likelihood_stddev",
)  # the elbo in another unit, a detail: in the tables alone
TRADED = ("rate", "distortion", "active_units")
MOST_SHEETS = 8  # settings whose samples are shown; report.html shows all
MOST_COLOURS = (
    8  # settings that the curves tell apart; more are told apart by the one that matters most
)


def draw(
    jobs: Sequence[Job], swept: Sequence[str], found: Mapping[str, Influence], path: Path
) -> None:
    """report.png: what the KL weights trade, the curves of all jobs, the newest samples of settings along the sweep."""
    from matplotlib.image import imread

    from genmodels.figures import plotting, sweeps  # import torch and matplotlib

    names = list(
        dict.fromkeys(
            name
            for job in jobs
            for row in job.rows
            for name in headlines(row.get("validation", {}))
            if name not in UNDRAWN
        )
    ) or ["elbo"]
    groups = grouped(jobs, swept)
    lines = _lines(groups, found)
    curves = {
        name: {line: [job.curve(name) for job in of] for line, of in lines.items()}
        for name in names
    }
    shown = [group for group in in_order(groups) if group.jobs[0].newest("samples")]
    shown = [shown[index] for index in _spaced(len(shown), MOST_SHEETS)]
    sheets = [
        (group.label if is_grid(groups) else _place(group, groups), imread(newest))
        for group in shown
        if (newest := group.jobs[0].newest("samples"))
    ]
    numbers = [value for group in groups for value in group.settings.values()]
    ordered = len(numbers) == len(groups) == len(lines) > 3 and all(
        isinstance(value, int | float) for value in numbers
    )
    plotting.save(sweeps.overview(_trades(groups), curves, sheets, ordered=ordered), path)


def _trades(groups: Sequence[Group]) -> dict[str, list]:
    """Where KL weights were swept, the settings by rising weight, a line for each of the other settings."""
    from genmodels.figures.sweeps import Point

    lines: dict[str, list[Point]] = {}
    for group in groups:
        pairs = [
            (mean, group.spread(name) or 0.0)
            for name in TRADED
            if (mean := group.mean(name)) is not None
        ]
        if group.settings.get("kl_weight") is not None and len(pairs) == len(TRADED):
            rest = label(
                {key: value for key, value in group.settings.items() if key != "kl_weight"}
            )
            lines.setdefault(rest, []).append(Point(float(group.settings["kl_weight"]), *pairs))
    return {
        line: sorted(points, key=lambda point: point.weight)
        for line, points in lines.items()
        if len(points) > 1
    }


def _lines(groups: Sequence[Group], found: Mapping[str, Influence]) -> dict[str, list[Job]]:
    """Whose curves have a colour together: those of a setting, or of many settings those with the same value of the
    knob that has most influence on the first metric."""
    lines: dict[str, list[Job]] = {}
    first = found.get(headline(groups) or "") if len(groups) > MOST_COLOURS else None
    for group in groups:
        line = (
            label({knob: group.settings[knob] for knob in strongest(first)[:1]})
            if first
            else group.label
        )
        lines.setdefault(line, []).extend(group.jobs)
    return lines


def _place(group: Group, groups: Sequence[Group]) -> str:
    """Of a point of a grid that was not tried in full, which has too many settings to name them: its first metric."""
    name = headline(groups)
    mean = None if name is None else group.mean(name)
    return "" if mean is None else f"{name} {cell(mean)}"


def _spaced(count: int, most: int) -> list[int]:
    """At most so many of the first `count` numbers, evenly spaced from the first to the last."""
    return (
        [round(index * (count - 1) / (most - 1)) for index in range(most)]
        if count > most
        else list(range(count))
    )
