"""The KL of each latent dimension, and the bars and the table that figures by dimension share."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, Row, axes_grid, styled
from genmodels.metrics.aggregated_posterior import ACTIVE, Posteriors
from genmodels.models.vae import VAE

MAX_BAR_VALUES = 12  # bars up to which each has its value above it
MAX_NAMED_BARS = 40
MAX_LARGE_NAMES = 20


@torch.no_grad()
@styled
def kl_per_dimension(model: VAE, options: FigureOptions) -> FigureResult:
    """The KL of each latent dimension over the test split, the largest first.

    Their sum is the rate. A unit is active if the variance of its posterior mean over images is
    above ACTIVE (Burda et al. 2016, "Importance weighted autoencoders", section 5).

    Numbers: these, and the moments of each dimension.
    """
    table = dimension_table(options.posteriors(model))
    kl = np.array([row["kl_nats"] for row in table])
    active = np.array([row["active"] for row in table])
    positions = np.arange(len(table))
    figure, (axes,) = axes_grid(9, 3.8)
    for position in positions[~active]:
        axes.axvspan(position - 0.5, position + 0.5, color="#f0f0f0", linewidth=0, zorder=0)
    bars = axes.bar(positions, kl, bar_width(len(kl)), color=np.where(active, "C0", "C7"))
    if len(kl) <= MAX_BAR_VALUES:
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=9)
    name_dimensions(axes, table)
    axes.set(
        title=f"Rate {kl.sum():.2f} nats per image, {active.sum()} of {len(kl)} units active",
        ylabel="KL (nats)",
        ylim=(0, 1.25 * max(kl.max(), 0.04)),
    )
    active_label = f"active: variance of E[z|x] over images > {ACTIVE:g} ({active.sum()})"
    handles = [
        Patch(color="C0", label=active_label),
        Patch(color="C7", label=f"inactive ({(~active).sum()})"),
    ]
    axes.legend(handles=handles, loc="upper right", ncols=2)
    return FigureResult(figure, table)


def dimension_table(posterior: Posteriors) -> list[Row]:
    """One row for each latent dimension, the largest KL first: KL and moments of q(z).

    The total variance, that of z, is the variance of the posterior means over images plus the mean
    of the posteriors' own variances.
    """
    kl = posterior.kl.mean(dim=0)  # (D,)
    mean = posterior.mean.mean(dim=0)
    variance_of_means = posterior.mean.var(dim=0, correction=0)
    mean_variance = posterior.stddev.square().mean(dim=0)
    total_variance = variance_of_means + mean_variance
    table = []
    for dimension in kl.argsort(descending=True, stable=True).tolist():
        row = {
            "dimension": dimension,
            "kl_nats": kl[dimension].item(),
            "active": bool(variance_of_means[dimension] > ACTIVE),
            "mean": mean[dimension].item(),
            "variance_of_means": variance_of_means[dimension].item(),
            "mean_variance": mean_variance[dimension].item(),
            "total_variance": total_variance[dimension].item(),
        }
        table.append(row)
    return table


def bar_width(count: int) -> float:
    """The width of each of `count` bars: without gaps where they are many."""
    return 0.8 if count <= MAX_NAMED_BARS else 1.0


def name_dimensions(axes: Axes, table: Sequence[Row]) -> None:
    """The x axis of bars, one for each row of a `dimension_table`; named where they are few."""
    count = len(table)
    if count <= MAX_NAMED_BARS:
        names = [f"z{row['dimension']}" for row in table]
        axes.set_xticks(range(count), names, fontsize=9 if count <= MAX_LARGE_NAMES else 7)
        axes.set_xlabel("latent dimension")
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{count} latent dimensions, sorted by KL")
    margin = max(0.6, (6 - count) / 2)  # keeps few bars narrow
    axes.set_xlim(-margin, count - 1 + margin)
    axes.grid(axis="x", visible=False)
