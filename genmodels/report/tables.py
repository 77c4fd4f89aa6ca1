"""The tables of a sweep: its runs, its settings over their seeds, the influence of its knobs; and what they say."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from genmodels.report.anova import Influence, Share, influence
from genmodels.report.runs import Group, Job, cell, is_grid, metric_names

BETTER = {
    "elbo": 1,
    "accuracy": 1,
    "fd": -1,
    "kid": -1,
    "nll": -1,
    "bits_per_dimension": -1,
}  # up, or down
LATEX = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"})


def job_table(jobs: Sequence[Job], swept: Sequence[str]) -> list[dict[str, Any]]:
    """One row a job: what was swept, its status, its metrics, its verdict, its seconds."""
    metrics = metric_names(jobs)
    return [
        {"run": job.folder.name}
        | {key: job.settings.get(key) for key in swept}
        | {"status": job.status}
        | {name: job.metrics.get(name) for name in metrics}
        | {
            "verdict": job.verdict,
            "seconds": job.summary.get("seconds"),
            "error": job.summary.get("error"),
        }
        for job in jobs
    ]


def group_table(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One row for each setting with its seeds together: n finished, mean and standard deviation of each metric, and
    the verdicts, if there are any."""
    names = metric_names([job for group in groups for job in group.done])
    judged = any(_verdicts(group.done) for group in groups)
    return [
        group.settings
        | {"n": len(group.done)}
        | {name: _mean(group, name) for name in names}
        | ({"verdict": _verdicts(group.done)} if judged else {})
        for group in groups
    ]


def headline(groups: Sequence[Group]) -> str | None:
    """The metric by which settings are ranked first; None where there is none that has a better direction."""
    names = metric_names([job for group in groups for job in group.done])
    return next((name for name in BETTER if name in names), None)


def ranked(groups: Sequence[Group], metric: str) -> list[tuple[int, float]]:
    """The settings that have this metric, with their means, the best first."""
    means = [
        (index, mean)
        for index, group in enumerate(groups)
        if (mean := group.mean(metric)) is not None
    ]
    return sorted(means, key=lambda entry: -BETTER[metric] * entry[1])


def best(groups: Sequence[Group], metric: str) -> int | None:
    """Which setting has the best mean of a metric, if that is beyond the spread of the seeds: better than the next by
    more than the root of the sum of their variances. None where it is not, or where no direction is better."""
    if metric not in BETTER or len(order := ranked(groups, metric)) < 2:
        return None
    (winner, first), (runner_up, second) = order[:2]
    spreads = [
        spread
        for index in (winner, runner_up)
        if (spread := groups[index].spread(metric)) is not None
    ]
    return winner if len(spreads) == 2 and abs(first - second) > math.hypot(*spreads) else None


def in_order(groups: Sequence[Group]) -> list[Group]:
    """A grid as it is; where only some points of it were tried, the best first, and last those without metrics."""
    name = headline(groups)
    if name is None or is_grid(groups):
        return list(groups)
    order = [index for index, _ in ranked(groups, name)]
    return [groups[index] for index in order] + [
        group for index, group in enumerate(groups) if index not in order
    ]


def findings(groups: Sequence[Group], found: Mapping[str, Influence]) -> list[str]:
    """What the sweep says, in sentences: its best setting, what mattered for it, and the verdicts."""
    said, name = [], headline(groups)
    if name is not None and len(groups) > 1:
        first, *others = [groups[index] for index, _ in ranked(groups, name)]
        said.append(f"Best {name}: {first.label}, with {_mean(first, name)}.")
        if others and None in (first.spread(name), others[0].spread(name)):
            said.append(
                "Whether that is more than chance cannot be told: the two best were not both repeated "
                "(seed=0,1,2)."
            )
        elif others and best(groups, name) is None:
            said.append(
                f"That is not beyond the spread of the seeds: {others[0].label} has {_mean(others[0], name)}."
            )
    if name is not None and name in found:
        parts = [f"{knob} {percent(found[name].knobs[knob])}" for knob in strongest(found[name])]
        parts += [f"the seed {percent(found[name].seed)}"] * (found[name].seed is not None)
        said.append(f"Of the variance of {name}: {', '.join(parts)}.")
    if verdicts := _verdicts([job for group in groups for job in group.done]):
        said.append(f"Verdicts: {verdicts}.")
    return said


def influences(jobs: Sequence[Job], swept: Sequence[str]) -> dict[str, Influence]:
    """Of the swept settings on each metric that all finished runs have and that varies."""
    done = [job for job in jobs if job.metrics]
    columns = {key: [job.settings.get(key) for job in done] for key in swept if key != "seed"}
    knobs = {key: values for key, values in columns.items() if len(set(map(repr, values))) > 1}
    found = {}
    for name in metric_names(done):
        values = [job.metrics.get(name) for job in done]
        numbers = [float(value) for value in values if value is not None]
        if (
            len(numbers) == len(done)
            and len(set(numbers)) > 1
            and (of := influence(knobs, numbers)) is not None
        ):
            found[name] = of
    return found


def influence_table(found: Mapping[str, Influence]) -> list[dict[str, Any]]:
    """One row for each knob, one for what is left, one for the seeds; a column for each metric."""
    first = next(iter(found.values()))
    rows = [
        {"share of the variance": name}
        | {metric: percent(of.knobs[name]) for metric, of in found.items()}
        for name in first.knobs
    ]
    if len(first.knobs) > 1 or not first.seed:
        left = "combinations of them" if first.seed else "combinations, and chance"
        rows.append(
            {"share of the variance": left}
            | {metric: percent(of.rest) for metric, of in found.items()}
        )
    if first.seed:
        rows.append(
            {"share of the variance": "seed"}
            | {metric: percent(of.seed) for metric, of in found.items()}
        )
    return rows


def means_of(groups: Sequence[Group], found: Mapping[str, Influence]) -> list[dict[str, str]]:
    """Where several knobs were swept, one row for each, the one with the most influence on the first metric on top:
    that metric's mean at each of its values."""
    metric = headline(groups)
    of = found.get(metric or "")
    if of is None or len(of.knobs) < 2:
        return []
    return [
        {
            "setting": knob,
            f"mean {metric} at each of its values": "; ".join(
                f"{value}: {_rounded(mean)}" for value, mean in of.means[knob].items()
            ),
        }
        for knob in strongest(of)
        if knob in of.means
    ]


def strongest(of: Influence) -> list[str]:
    """The knobs, the one with the largest share first, and last those that cannot be told apart from others."""
    shares = {knob: -1.0 if share is None else share.value for knob, share in of.knobs.items()}
    return sorted(shares, key=lambda knob: -shares[knob])


def percent(share: Share | None) -> str:
    """ "81 % [74-87]"; "?" where it is not known."""
    if share is None:
        return "?"
    interval = (
        ""
        if share.low is None or share.high is None
        else f" [{100 * share.low:.0f}-{100 * share.high:.0f}]"
    )
    return f"{100 * share.value:.0f} %{interval}"


def text_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as text in columns; columns without a value are left out."""
    names = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    cells = [names] + [[cell(row[name]) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )


def latex_table(groups: Sequence[Group]) -> str:
    """The settings over their seeds as a LaTeX table (booktabs), the best of a column in bold where `best` finds it."""
    rows = group_table(groups)
    names = list(dict.fromkeys(name for row in rows for name in row))
    winners = {name: best(groups, name) for name in names}
    lines = [
        " & ".join(_bold(_latex(cell(row.get(name))), winners[name] == index) for name in names)
        for index, row in enumerate(rows)
    ]
    head = " & ".join(_latex(name.replace("_", " ")) for name in names)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{'l' * len(names)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *[rf"{line} \\" for line in lines],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _verdicts(jobs: Sequence[Job]) -> str:
    """ "healthy", or "2 healthy, 1 COLLAPSED", or ""."""
    counts = Counter(verdict for job in jobs if (verdict := job.verdict))
    return (
        next(iter(counts), "")
        if len(counts) < 2
        else ", ".join(f"{n} {name}" for name, n in counts.most_common())
    )


def _mean(group: Group, metric: str) -> str:
    mean, spread = group.mean(metric), group.spread(metric)
    if mean is None:
        return ""
    largest = max(map(abs, group.values(metric)))
    return _rounded(mean, largest) + (
        "" if spread is None else f" \N{PLUS-MINUS SIGN} {_rounded(spread, largest)}"
    )


def _rounded(value: float, largest: float | None = None) -> str:
    """Two digits after the point, or four where the largest of the numbers is below 1."""
    return f"{value:.{2 if abs(value if largest is None else largest) >= 1 else 4}f}"


def _latex(text: str) -> str:
    return text.translate(LATEX).replace("\N{PLUS-MINUS SIGN}", r"$\pm$")


def _bold(text: str, chosen: bool) -> str:
    return rf"\textbf{{{text}}}" if chosen else text
