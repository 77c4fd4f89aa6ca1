"""Interpolation between latents: the straight line and the arc."""

import itertools

import torch
from torch import Tensor

from genmodels.figures.grids import distribution_of_z, latent_table
from genmodels.figures.labels import labels_in_turn
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, image_table
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import generator

STEPS = 11  # images along a path
MAX_PAIRS = 5
MIN_SINE = 1e-3  # of an angle that float32 cosines can tell from 0


@torch.no_grad()
def interpolation(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """Two paths between each of min(n, 5) pairs of latents: the straight line, below it the arc.

    z ~ N(0, I) in D dimensions has a norm near sqrt(D), and two of them are nearly orthogonal. So
    halfway along the straight line the norm is near sqrt(D / 2), where no samples lie; the arc goes
    around (White 2016). In few dimensions, or under a fitted density, which need not lie about 0,
    the straight line is as good.

    Numbers: each image's z.
    """
    pairs = min(options.n, MAX_PAIRS)
    noise = generator(options.seed, "interpolation")
    ends_labels = labels_in_turn(model, options, 2 * pairs, max_classes=1)
    ends = model.prior.sample(2 * pairs, options.temperature, noise, ends_labels.values)
    fractions = torch.linspace(0, 1, STEPS, device=ends.device)
    lines = [path(ends[:pairs], ends[pairs:], fractions) for path in PATHS.values()]
    paths = torch.stack(lines, dim=1)  # (P, 2, S, D)
    z = paths.flatten(0, 2)
    labels = labels_in_turn(model, options, len(z), max_classes=1)

    linear_norm, spherical_norm = paths[:, :, STEPS // 2].norm(dim=2).mean(dim=0).tolist()
    title = (
        f"Between {pairs} pairs of samples, {distribution_of_z(model, options)}{labels.title}: "
        f"mean |z| {ends.norm(dim=1).mean():.1f}, halfway {linear_norm:.1f} (linear) "
        f"or {spherical_norm:.1f} (spherical)"
    )
    figure = image_table(
        model.generate(z, labels.values),
        STEPS,
        title,
        row_labels=[*PATHS] * pairs,
        group=len(PATHS),
        column_labels=[f"{fraction:.1f}" for fraction in fractions.tolist()],
        x_label="fraction of the path from the left sample to the right one",
    )
    positions = itertools.product(range(pairs), PATHS, fractions.tolist())
    pair, kind, fraction = zip(*positions, strict=True)
    table = latent_table(z, **labels.column, pair=pair, kind=kind, fraction=fraction)
    return FigureResult(figure, table)


def lerp(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """The straight line (1 - t) a + t b.

    Arguments:
    start: vectors a (P, D).
    end: vectors b (P, D).
    fractions: t (S,) in [0, 1].

    Returns (P, S, D).
    """
    return torch.lerp(start[:, None], end[:, None], fractions[:, None])


def slerp(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """Spherical linear interpolation (sin((1 - t) w) a + sin(t w) b) / sin(w).

    w is the angle between a and b; between ends of one norm the path is an arc of that norm at
    constant speed. It is the straight line where no arc is defined: between parallel and opposite
    vectors, and from or to 0. Shoemake 1985, "Animating rotation with quaternion curves", section
    3.3; for latents: White 2016, "Sampling generative networks", section 2.1.

    Arguments:
    start: vectors a (P, D).
    end: vectors b (P, D).
    fractions: t (S,) in [0, 1].

    Returns (P, S, D).
    """
    cosine = (start * end).sum(dim=1) / (start.norm(dim=1) * end.norm(dim=1))  # NaN from or to 0
    angle = cosine.clamp(-1, 1).acos()[:, None, None]  # (P, 1, 1)
    sine = angle.sin()
    t = fractions[:, None]  # (S, 1)
    start_weight = ((1 - t) * angle).sin() / sine  # (P, S, 1)
    end_weight = (t * angle).sin() / sine
    arc = start_weight * start[:, None] + end_weight * end[:, None]
    has_arc = sine > MIN_SINE  # False for NaN
    return torch.where(has_arc, arc, lerp(start, end, fractions))


PATHS = {"linear": lerp, "spherical": slerp}
