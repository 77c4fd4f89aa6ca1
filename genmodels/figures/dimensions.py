"""The latent space dimension by dimension: which ones carry information, and whether data lie where samples land."""

import itertools
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from genmodels.figures.latent_map_plots import QUIET
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, axes_grid, stacked_axes, styled
from genmodels.metrics.aggregated_posterior import (
    ACTIVE,
    HOLE,
    LatentPlane,
    Posteriors,
    density,
    posteriors,
    prior_density,
    share_in_holes,
)
from genmodels.models.priors import Prior, StandardNormal
from genmodels.models.vae import VAE

SHOWN, ACROSS = 12, 4  # dimensions with axes of their own, and how many of them side by side
WIDTHS = {1: 9.0, 2: 10.0, 3: 11.0, 4: 11.0}  # inches, for so many side by side
NAMED = 40  # dimensions that are named under their bars
POINTS = 601  # of a curve
HOLES: dict[str, Any] = {"color": "#d40000", "alpha": 0.35, "linewidth": 0}


@torch.no_grad()
@styled
def kl_per_dimension(model: VAE, options: FigureOptions) -> FigureResult:
    """The KL of each latent dimension over the test part, the largest first; their sum is the rate.

    A unit is active if the variance of its posterior mean over images is above ACTIVE (Burda et al. 2016, section 5).
    Numbers: these, and the moments of each dimension.
    """
    assert options.test is not None
    table = moments(posteriors(model, options.test))
    kl, active = (
        np.array([row["kl_nats"] for row in table]),
        np.array([row["active"] for row in table]),
    )
    places = np.arange(len(table))
    figure, (axes,) = axes_grid(9, 3.8)
    axes.bar(places[~active], 1, 1, transform=axes.get_xaxis_transform(), color="#f0f0f0", zorder=0)
    bars = axes.bar(places, kl, _bar_width(len(kl)), color=np.where(active, "C0", "C7"))
    if len(kl) <= SHOWN:
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=9)
    _name_dimensions(axes, table)
    axes.set(
        title=f"Rate {kl.sum():.2f} nats per image, {active.sum()} of {len(kl)} units active",
        ylabel="KL (nats)",
        ylim=(0, 1.25 * max(kl.max(), 0.04)),
    )
    used = f"active: variance of E[z|x] over images > {ACTIVE:g} ({active.sum()})"
    axes.legend(
        handles=[
            Patch(color="C0", label=used),
            Patch(color="C7", label=f"inactive ({(~active).sum()})"),
        ],
        loc="upper right",
        ncols=2,
    )
    return FigureResult(figure, table)


@torch.no_grad()
@styled
def aggregated_posterior(model: VAE, options: FigureOptions) -> FigureResult:
    """The aggregated posterior q(z) = E_x q(z|x) of the test part against the prior, dimension by dimension.

    Above, the densities of the dimensions of most KL, with the holes: where q is under a tenth of the prior, so that
    samples come from there and data do not. The space as a whole can have holes that no single dimension shows: those
    of the plane of the first two principal components are in the title, and drawn by `latent_atlas`. Below, what the
    variance of every dimension is made of; under the prior it is 1. Where samples come from a fitted density, it is
    drawn too. Numbers, for each dimension: mean, variances, the share of the prior's samples that land in holes.
    """
    assert options.test is not None
    found = posteriors(model, options.test)
    table = moments(found)
    for row in table:
        row["share_in_holes"] = share_in_holes(
            found, model.prior, LatentPlane.along(row["dimension"], len(table)), points=101
        )
    across = min(ACROSS, len(table))
    lines = -(-min(SHOWN, len(table)) // across)
    figure, (_, *above, (below,)) = stacked_axes(
        WIDTHS[across],
        [0.75, *[2.0 if across > 2 else 2.6] * lines, 2.5],
        [0, *[across] * lines, 1],
    )
    places = list(itertools.chain(*above))
    for axes, row in itertools.zip_longest(places, table[:SHOWN]):
        if row is None:
            axes.set_axis_off()
        else:
            _draw_marginal(axes, found, row, model.prior, options.prior_of(model))
    _draw_heading(figure, _in_words(found, model.prior, table), places[0])
    _draw_variances(below, table)
    return FigureResult(figure, table)


def moments(found: Posteriors) -> list[dict[str, Any]]:
    """One row a dimension, that of the largest KL first: what it carries, and the moments of its aggregated posterior.

    The total variance is that of z: the variance of the means over images, and the mean of the posteriors' own.
    """
    kl = found.kl.mean(dim=0)  # (D,)
    means, of_means = found.mean.mean(dim=0), found.mean.var(dim=0, correction=0)
    within = found.stddev.square().mean(dim=0)
    return [
        {
            "dimension": index,
            "kl_nats": kl[index].item(),
            "active": bool(of_means[index] > ACTIVE),
            "mean": means[index].item(),
            "variance_of_means": of_means[index].item(),
            "mean_variance": within[index].item(),
            "total_variance": (of_means + within)[index].item(),
        }
        for index in kl.argsort(descending=True, stable=True).tolist()
    ]


def _in_words(found: Posteriors, prior: Prior, table: list[dict[str, Any]]) -> str:
    variances = [row["total_variance"] for row in table]
    ends = dict.fromkeys(
        f"{value:.2g}" for value in (min(variances), max(variances))
    )  # once, where they agree
    most = max(row["share_in_holes"] for row in table)
    lost = f"{most:.0%} of prior samples in holes"
    if len(table) > 1:
        plane, kind = (
            share_in_holes(found, prior, LatentPlane.of(found)),
            "principal " if len(table) > 2 else "",
        )
        lost = f"prior samples in holes: {plane:.0%} in the {kind}plane, at most {most:.0%} along one dimension"
    return f"z has variance {' to '.join(ends)}; {lost}"


def _draw_marginal(
    axes: Axes, found: Posteriors, row: dict[str, Any], trained: Prior, drawn: Prior
) -> None:
    """One dimension: both densities, the holes, and where samples are drawn from if not from the prior."""
    dimension = row["dimension"]
    far = max(3.5, 1.05 * found.mean[:, dimension].abs().quantile(0.995).item())
    axis = torch.linspace(-far, far, POINTS, dtype=torch.float64)
    plane = LatentPlane.along(dimension, found.mean.shape[1])
    data = density(found, plane, [axis])
    prior = prior_density(trained, plane, [axis])
    axes.plot(axis, data, linewidth=1.8, label="aggregated posterior q")
    axes.plot(axis, prior, label="prior p", **QUIET)
    if not isinstance(drawn, StandardNormal):
        axes.plot(
            axis,
            drawn.marginal(dimension).log_prob(axis[:, None]).exp(),
            color="C4",
            linewidth=1.4,
            label=drawn.formula(),
        )
    hole = (data < HOLE * prior) & (prior > 1e-3)
    axes.fill_between(axis, prior, where=hole.numpy(), label="hole: q < p / 10", **HOLES)
    axes.set_title(f"z{dimension}: KL {row['kl_nats']:.2f} nats", fontsize=10, pad=4)
    axes.text(
        0.01,
        0.97,
        f"mean {round(row['mean'], 2) + 0.0:.2f}\nvariance {row['total_variance']:.3g}\n"
        f"{row['share_in_holes']:.0%} in holes",
        transform=axes.transAxes,
        va="top",
        fontsize=8.5,
        color="#444444",
    )
    axes.spines.left.set_visible(False)
    axes.set(
        xlim=(-far, far),
        ylim=(0, 1.08 * min(max(data.max().item(), prior.max().item()), 3)),
        yticks=[],
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_heading(figure: Figure, title: str, example: Axes) -> None:
    """A title over the whole figure, and under it the legend that is the same for all its axes."""
    heading = figure.subfigs[0]
    heading.text(0.01, 0.95, title, va="top", fontsize=12, weight="bold")
    heading.legend(
        *example.get_legend_handles_labels(),
        loc="lower left",
        bbox_to_anchor=(0.003, 0),
        ncols=4,
        fontsize=9,
        columnspacing=1.4,
    )


def _draw_variances(axes: Axes, table: list[dict[str, Any]]) -> None:
    """Every dimension's variance, stacked: of the means, within the posteriors."""
    of_means, within = (
        [row[name] for row in table] for name in ("variance_of_means", "mean_variance")
    )
    axes.bar(
        range(len(table)),
        of_means,
        _bar_width(len(table)),
        color="C0",
        label="of the posterior means",
    )
    axes.bar(
        range(len(table)),
        within,
        _bar_width(len(table)),
        bottom=of_means,
        color="C5",
        alpha=0.6,
        label="within the posteriors, on average",
    )
    axes.axhline(1, label="prior", **QUIET)
    _name_dimensions(axes, table)
    axes.set_title("Variance of each dimension of z", fontsize=10)
    axes.set_ylim(0, 1.35 * max(1, *(row["total_variance"] for row in table)))
    axes.legend(ncols=3, loc="upper right", fontsize=9)


def _bar_width(count: int) -> float:
    return 0.8 if count <= NAMED else 1.0


def _name_dimensions(axes: Axes, table: list[dict[str, Any]]) -> None:
    """The x axis of bars, one a dimension: named where they are few."""
    few = len(table) <= NAMED
    axes.set_xticks(
        range(len(table)) if few else [],
        [f"z{row['dimension']}" for row in table] if few else [],
        fontsize=9 if len(table) <= 20 else 7,
    )
    room = max(0.6, (6 - len(table)) / 2)  # few bars stay slim
    axes.set(
        xlim=(-room, len(table) - 1 + room),
        xlabel="latent dimension" if few else f"{len(table)} latent dimensions, sorted by KL",
    )
    axes.grid(axis="x", visible=False)
