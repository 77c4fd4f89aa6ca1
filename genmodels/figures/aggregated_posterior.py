"""The aggregated posterior against the prior, dimension by dimension."""

import itertools
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genmodels.figures.dimensions import bar_width, dimension_table, name_dimensions
from genmodels.figures.latent_plane_plots import SEEN_SHARE
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import (
    HOLE_COLOUR,
    REFERENCE_LINE,
    FigureResult,
    Row,
    stacked_axes,
    styled,
)
from genmodels.metrics.aggregated_posterior import (
    HOLE,
    LatentPlane,
    Posteriors,
    PriorDensity,
    density,
    share_in_holes,
)
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE

MAX_MARGINALS = 12  # dimensions with axes of their own
MAX_COLUMNS = 4  # of these axes
WIDTH_INCHES = {1: 9.0, 2: 10.0, 3: 11.0, 4: 11.0}  # of the figure, by columns
HEADING_INCHES = 0.75
VARIANCES_INCHES = 2.5
CURVE_POINTS = 601
MARGINAL_GRID = 101  # points at which the share in holes along one dimension is computed
MIN_REACH = 3.5  # of the axes, in standard deviations of N(0, 1)
MAX_DENSITY = 3.0  # up to which the axes go at most
MIN_HOLE_DENSITY = 1e-3  # of the prior: where it is lower, holes are not drawn


@torch.no_grad()
@styled
def aggregated_posterior(model: VAE, options: FigureOptions) -> FigureResult:
    """The aggregated posterior q(z) = E_x q(z|x) of the test split against the prior, by dimension.

    Above are the densities of the dimensions of most KL, with the holes: where q is under a tenth
    of the prior, so that samples come from there and data do not. The space as a whole can have
    holes that no single dimension shows: those of the plane of the first two principal components
    are in the title, and drawn by `latent_atlas`. Below is what the variance of every dimension is
    made of; under N(0, I) it is 1.

    Numbers, for each dimension: mean, variances, the share of the prior's samples in holes.
    """
    posterior = options.posteriors(model)
    prior = PriorDensity(model.prior)
    table = dimension_table(posterior)
    for row in table:
        line = LatentPlane.along(row["dimension"], model.latent_dim)
        share = share_in_holes(posterior, prior, line, points=MARGINAL_GRID)
        row["share_in_holes"] = share
    columns = min(MAX_COLUMNS, len(table))
    shown = table[:MAX_MARGINALS]
    rows = -(-len(shown) // columns)
    row_inches = 2.0 if columns > 2 else 2.6
    figure, (_, *grid, (variance_axes,)) = stacked_axes(
        WIDTH_INCHES[columns],
        [HEADING_INCHES, *[row_inches] * rows, VARIANCES_INCHES],
        [0, *[columns] * rows, 1],
    )
    marginal_axes = list(itertools.chain(*grid))
    for axes, row in zip(marginal_axes, shown, strict=False):
        _draw_marginal(axes, posterior, row, prior)
    count = len(shown)
    for axes in marginal_axes[count:]:
        axes.set_axis_off()
    _draw_heading(figure, _title(posterior, prior, table), marginal_axes[0])
    _draw_variances(variance_axes, table, isinstance(model.prior, StandardNormal))
    return FigureResult(figure, table)


def _title(posterior: Posteriors, prior: PriorDensity, table: Sequence[Row]) -> str:
    variances = [row["total_variance"] for row in table]
    smallest, largest = f"{min(variances):.2g}", f"{max(variances):.2g}"
    variance = smallest if smallest == largest else f"{smallest} to {largest}"
    most = max(row["share_in_holes"] for row in table)
    if len(table) == 1:
        return f"z has variance {variance}; {most:.0%} of prior samples in holes"
    in_plane = share_in_holes(posterior, prior, LatentPlane.of(posterior))
    plane = "principal plane" if len(table) > 2 else "plane"
    return (
        f"z has variance {variance}; prior samples in holes: {in_plane:.0%} in the {plane}, "
        f"at most {most:.0%} along one dimension"
    )


def _draw_marginal(axes: Axes, posterior: Posteriors, row: Row, prior: PriorDensity) -> None:
    """One dimension: both densities and the holes."""
    dimension = row["dimension"]
    line = LatentPlane.along(dimension, posterior.mean.shape[1])
    data_reach = 1.05 * posterior.mean[:, dimension].abs().quantile(0.995).item()
    reach = max(prior.reach(line, MIN_REACH, SEEN_SHARE), data_reach)
    axis = torch.linspace(-reach, reach, CURVE_POINTS, dtype=torch.float64)
    q, p = density(posterior, line, [axis]), prior.on_grid(line, [axis])
    axes.plot(axis, q, linewidth=1.8, label="aggregated posterior q")
    axes.plot(axis, p, label="prior p", **REFERENCE_LINE)
    holes = ((q < HOLE * p) & (p > MIN_HOLE_DENSITY)).numpy()
    axes.fill_between(
        axis,
        p,
        where=holes,
        color=HOLE_COLOUR,
        alpha=0.35,
        linewidth=0,
        label="hole: q < p / 10",
    )
    axes.set_title(f"z{dimension}: KL {row['kl_nats']:.2f} nats", fontsize=10, pad=4)
    text = (
        f"mean {round(row['mean'], 2) + 0.0:.2f}\nvariance {row['total_variance']:.3g}\n"
        f"{row['share_in_holes']:.0%} in holes"
    )
    axes.text(
        0.01,
        0.97,
        text,
        transform=axes.transAxes,
        va="top",
        fontsize=8.5,
        color="#444444",
    )
    axes.spines.left.set_visible(False)
    top = 1.08 * min(max(q.max().item(), p.max().item()), MAX_DENSITY)
    axes.set(xlim=(-reach, reach), ylim=(0, top), yticks=[])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_heading(figure: Figure, title: str, example: Axes) -> None:
    """A title over the whole figure, and under it the legend that all axes have in common."""
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


def _draw_variances(axes: Axes, table: Sequence[Row], prior_is_standard: bool) -> None:
    """Every dimension's variance, stacked: of the posterior means, within the posteriors."""
    positions, width = range(len(table)), bar_width(len(table))
    of_means = [row["variance_of_means"] for row in table]
    within = [row["mean_variance"] for row in table]
    totals = [row["total_variance"] for row in table]
    axes.bar(positions, of_means, width, color="C0", label="of the posterior means")
    axes.bar(
        positions,
        within,
        width,
        bottom=of_means,
        color="C5",
        alpha=0.6,
        label="within the posteriors, on average",
    )
    if prior_is_standard:
        axes.axhline(1, label="prior", **REFERENCE_LINE)
    name_dimensions(axes, table)
    axes.set_title("Variance of each dimension of z", fontsize=10)
    axes.set_ylim(0, 1.35 * max(1, *totals))
    axes.legend(ncols=3, loc="upper right", fontsize=9)
