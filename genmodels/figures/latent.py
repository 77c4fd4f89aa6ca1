"""Pictures of the latent space: what lies between two points, and what each dimension does."""

import torch
from torch import Tensor

from genmodels.figures.grids import latent_table
from genmodels.figures.labels import class_name, in_turn
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, image_table
from genmodels.metrics.aggregated_posterior import posteriors
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import generator

STEPS = 11
PAIRS = 5  # that are interpolated
LEAST_SINE = 1e-3  # of an angle that float32 cosines still tell from 0


@torch.no_grad()
def interpolation(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """Two ways in the latent space between each of min(n, 5) pairs of draws: the straight line, and below it the arc.

    A draw of N(0, I) in D dimensions has a norm near sqrt(D), and two draws are nearly orthogonal. So half way along
    the straight line the norm is near sqrt(D / 2), where no draw lies; the arc goes around (White 2016). In few
    dimensions, or under a fitted density, which need not lie about 0, the straight line is as good a way. Numbers: each
    image's z.
    """
    pairs = min(options.n, PAIRS)
    ends = options.prior_of(model).sample(
        2 * pairs, options.temperature, generator(options.seed, "interpolation")
    )
    fractions = torch.linspace(0, 1, STEPS, device=ends.device)
    ways = torch.stack(
        [way(ends[:pairs], ends[pairs:], fractions) for way in WAYS.values()], dim=1
    )  # (P, 2, S, D)
    z = ways.flatten(0, 2)
    chosen = in_turn(model, options, len(z), most=1)
    norms = ways[:, :, STEPS // 2].norm(dim=2).mean(dim=0).tolist()
    middles = " or ".join(f"{norm:.1f} ({kind})" for kind, norm in zip(WAYS, norms, strict=True))
    title = (
        f"Between {pairs} pairs of samples, z ~ {options.prior_of(model).formula(options.temperature)}{chosen.words}: "
        f"mean |z| {ends.norm(dim=1).mean():.1f}, half way {middles}"
    )
    figure = image_table(
        model.generate(z, chosen.values),
        STEPS,
        title,
        row_labels=[*WAYS] * pairs,
        group=len(WAYS),
        column_labels=[f"{fraction:.1f}" for fraction in fractions.tolist()],
        x_label="way from the left sample to the right one",
    )
    places = [
        (pair, kind, fraction)
        for pair in range(pairs)
        for kind in WAYS
        for fraction in fractions.tolist()
    ]
    columns = dict(
        zip(("pair", "kind", "fraction"), map(list, zip(*places, strict=True)), strict=True)
    )
    return FigureResult(figure, latent_table(z, **chosen.column, **columns))


def lerp(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """The straight line (1 - t) a + t b between vectors a and b (P, D), at fractions t (S,): (P, S, D)."""
    return torch.lerp(start[:, None], end[:, None], fractions[:, None])


def slerp(start: Tensor, end: Tensor, fractions: Tensor) -> Tensor:
    """Spherical linear interpolation (Shoemake 1985, "Animating rotation with quaternion curves", section 3.3; for
    latents: White 2016, "Sampling generative networks", section 2.1).

    (sin((1 - t) w) a + sin(t w) b) / sin(w) for vectors a and b (P, D) with the angle w between them, and fractions t
    (S,): (P, S, D). Between ends of one norm it is an arc of that norm at constant speed. Straight where there is no
    one arc: between parallel and opposite vectors, and from or to 0.
    """
    cosine = (start * end).sum(dim=1) / (start.norm(dim=1) * end.norm(dim=1))  # NaN from or to 0
    angle = cosine.clamp(-1, 1).acos()[:, None, None]  # (P, 1, 1)
    t, sine = fractions[:, None], angle.sin()
    arc = ((1 - t) * angle).sin() / sine * start[:, None] + (t * angle).sin() / sine * end[:, None]
    return torch.where(sine > LEAST_SINE, arc, lerp(start, end, fractions))  # no NaN is larger


WAYS = {"linear": lerp, "spherical": slerp}


@torch.no_grad()
def traversals(model: VAE, options: FigureOptions) -> FigureResult:
    """One latent dimension a row, moved from -3 to 3 with the others at a test image's posterior mean.

    Dimensions are sorted by their KL over the test part, in nats; those without use come last and change nothing.
    Numbers: every dimension's KL and where the test image lies.
    """
    assert options.test is not None
    kl = posteriors(model, options.test).kl.mean(dim=0)  # (D,)
    order = kl.argsort(descending=True, stable=True)
    shown = order[: min(len(order), 10, options.n)].tolist()
    image, label = options.test.batch(slice(0, 1))
    mean = model.encode(image, label).mean  # (1, D)
    values = torch.linspace(-3, 3, STEPS)
    z = mean.repeat(len(shown) * STEPS, 1)
    for row, dimension in enumerate(shown):
        z[row * STEPS : (row + 1) * STEPS, dimension] = values.to(z)
    kind = f", class {class_name(options, int(label))}" if model.num_classes else ""
    figure = image_table(
        model.generate(z, label.repeat(len(z))),
        STEPS,
        f"{len(shown)} of {len(kl)} latent dimensions, sorted by KL{kind}",
        row_labels=[f"z{dimension}  {kl[dimension]:.2f} nats" for dimension in shown],
        column_labels=[f"{round(value, 1) + 0.0:+.1f}" for value in values.tolist()],
        x_label="value of this dimension, in standard deviations of the prior",
    )
    table = [
        {
            "dimension": dimension,
            "kl_nats": kl[dimension].item(),
            "test_image_mean": mean[0, dimension].item(),
            "shown": dimension in shown,
        }
        for dimension in order.tolist()
    ]
    return FigureResult(figure, table)
