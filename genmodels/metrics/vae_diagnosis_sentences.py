"""The reasons for a verdict on a VAE, and what to try: a few plain sentences with their numbers."""

from torch import Tensor

from genmodels.metrics.collapse import LatentUsage
from genmodels.metrics.collapse_threshold import WhitenedSpectrum
from genmodels.metrics.held_out_gain import HeldOutGain

MIN_KL = 0.5  # nats per image: latents with less say nothing worth having
MIN_LINEAR_KL = 0.1  # nats in the best linear decoder's latents: less is none
# Nats that a fitted density gains on the prior: above, samples from the density are clearly better.
NEAR_ENOUGH = 0.5
MAX_NAMED_RUNS = 12  # of dimensions, such as z3-z7

ANNEALING = "a longer warm-up (kl_schedule.warmup=0.5, or kl_schedule=cyclical)"
OTHER_OBJECTIVES = "an objective with another optimum (capacity, kl_target, free_bits, geco)"


def why_collapsed(
    usage: LatentUsage, spectrum: WhitenedSpectrum | None, weight: float | None
) -> list[str]:
    """Why z says nothing, and what to try, at a KL weight or under an objective without one."""
    if weight is None:
        return [*_why_collapsed_at_no_price(usage.bound["kl"]), *price(spectrum, weight)]
    if spectrum is None:
        return ["Try a smaller kl_weight, a longer warm-up (kl_schedule.warmup=0.5), or free bits."]
    largest, room = spectrum.eigenvalues[0], spectrum.linear_kl(weight)
    limit = f"{_price(spectrum)}; it is {weight:g}"
    remedy = f"Try a kl_weight well below {largest:.3g} (1 is the ELBO), or {OTHER_OBJECTIVES}."
    if room < MIN_LINEAR_KL:
        left = f"leaves room for {format_nats(room)} (by a linear decoder)"
        left = left if room else "pays for none"
        optimum = "Latents that say nothing are the optimum of this objective"
        return [f"{limit}, and {left}. {optimum}: no annealing can help.", remedy]
    if room < MIN_KL:
        left = f"leaves little room: {format_nats(room)} by a linear decoder"
        annealing = ANNEALING[:1].upper() + ANNEALING[1:]
        return [
            f"{limit}, and {left}, a network's may find more.",
            f"{remedy} {annealing} can find what room there is, not more.",
        ]
    return [
        f"The KL weight, {weight:g}, is not the reason: at that price the training images pay for "
        f"{_count_above(spectrum, weight)} directions, and for the first up to {largest:.3g}.",
        f"Try {ANNEALING}, free bits, a smaller lr, more steps.",
    ]


def _why_collapsed_at_no_price(kl: float) -> list[str]:
    if kl < MIN_KL:
        return ["Try another target: a higher one for the KL, a lower one for the distortion."]
    return [
        f"The objective gets the KL that it asks for, {format_nats(kl)}, but from the same latents "
        "for all images.",
        "Try a smaller kl_weight, or one that comes later (kl_schedule=late).",
    ]


def why_not_generative(
    usage: LatentUsage, gain: HeldOutGain | None, weight: float | None
) -> list[str]:
    """Why samples do not come from where the data lie, and what to try."""
    cause = "at KL weight 0 nothing" if weight == 0 else "too little"
    if weight is None:
        remedy = "a lower target for the KL, a higher one for the distortion"
    else:
        remedy = "kl_weight=1" if weight < 1 else "more steps, a larger kl_weight"
    reasons = [
        "Samples from the prior mean nothing, since they do not come from where the data lie: "
        f"{cause} keeps the latents near the prior."
    ]
    if gain is not None:
        reasons.append(f"{_gain(gain)}.")
    if usage.prior_gap is not None and usage.aggregated_kl_at_least is not None:
        worst = int(usage.prior_gap.argmax())
        stddev = usage.variance[worst].sqrt()
        reasons.append(
            f"By their moments, prior and aggregated posterior are at least "
            f"{format_nats(usage.aggregated_kl_at_least)} apart: z{worst} has mean "
            f"{usage.mean[worst]:.2g} and standard deviation {stddev:.2g}, in the prior 0 and 1."
        )
    fitted = "draw z from a density fitted to the latents (density=gmm)"
    return [*reasons, f"It can reconstruct. For samples try {remedy}, or {fitted}."]


def why_partly(saving: float, weight: float | None, would_pay: bool) -> list[str]:
    """Why dimensions are unused though one more is worthwhile, and what to try.

    Arguments:
    saving: nats of distortion for a nat of KL in one more dimension.
    weight: the price of a nat of KL.
    would_pay: whether the saving is clearly above that price.
    """
    problem = f"One more dimension would save {saving:.1f} nats of distortion for a nat of KL"
    if weight is None:
        return [
            f"{problem}, but the objective does not ask for more.",
            "Try a higher target for the KL, or a lower one for the distortion.",
        ]
    if would_pay:
        return [
            f"{problem}, which costs {weight:g}: the unused ones would pay, but training has not "
            "found that.",
            f"Try more steps, {ANNEALING}, free bits.",
        ]
    optimum = "what the objective asks for; annealing cannot help"
    if saving > weight:
        optimum = "nearly what the objective asks for, and a longer warm-up may find the rest"
    return [
        f"{problem}, which costs {weight:g}: this is {optimum}.",
        f"For more, try a smaller kl_weight, or {OTHER_OBJECTIVES}.",
    ]


def outlook(saving: float, weight: float | None, would_pay: bool, latent_dim: int) -> list[str]:
    """What could be better in a healthy model that uses all its dimensions: see `why_partly`."""
    if weight is None:
        return []
    problem = f"one more dimension would save {saving:.1f} nats of distortion for a nat of KL"
    if would_pay:
        return [f"It could use more: {problem}. Try model.latent_dim={2 * latent_dim}."]
    return [
        f"It compresses strongly: {problem}, but that does not pay at KL weight {weight:g}. A "
        "smaller one gives sharper images."
    ]


def nearness(usage: LatentUsage, gain: HeldOutGain | None) -> list[str]:
    """How near the aggregated posterior of a healthy model is to its prior, where that is known."""
    if gain is None:
        if usage.aggregated_kl_at_least is None:
            return []
        gap = format_nats(usage.aggregated_kl_at_least)
        return [f"Prior and aggregated posterior are, by their moments alone, {gap} apart."]
    if gain.nats > NEAR_ENOUGH:
        return [
            f"{_gain(gain)}: samples from the prior come partly from where no data lie. A density "
            "fitted to the latents (density=gmm) draws fewer of those."
        ]
    return [
        f"{_gain(gain)}: near enough to sample, as far as {gain.count:,} held-out latents can tell."
    ]


def _gain(gain: HeldOutGain) -> str:
    density = "A Gaussian" if gain.components == 1 else f"A mixture of {gain.components} Gaussians"
    of_class = ""
    if gain.conditional:
        density, of_class = f"{density} for each class", " of that class"
    difference = f"{format_nats(gain.nats)} better than" if gain.nats > 0 else "no better than"
    return (
        f"{density}, fitted to latents of training images, explains other ones{of_class} "
        f"{difference} the prior, {gain.prior}, does"
    )


def latent_use(usage: LatentUsage) -> str:
    """How many dimensions carry how much, and which do not."""
    count, active = len(usage.active), int(usage.active.sum())
    unused_kl = usage.kl[~usage.active].sum().item()
    kl = usage.bound["kl"]
    if active == count:
        dimensions = f"All {count} latent dimensions are"
        dimensions = "Its one latent dimension is" if count == 1 else dimensions
        return f"{dimensions} in use, with {kl:.1f} nats per image."
    return (
        f"{active} of {count} latent dimensions are in use, with {kl - unused_kl:.1f} nats per "
        f"image; the others ({format_dimensions(~usage.active)}) cost {format_nats(unused_kl)}."
    )


def price(spectrum: WhitenedSpectrum | None, weight: float | None) -> list[str]:
    """What KL weight the data can pay for, where that is known."""
    if spectrum is None:
        return []
    if weight is None or weight <= 1:
        return [f"{_price(spectrum)}."]
    counts = (
        f"at {weight:g} for {_count_above(spectrum, weight)} directions, "
        f"at 1 for {_count_above(spectrum, 1)}"
    )
    return [f"{_price(spectrum)}; {counts}."]


def _price(spectrum: WhitenedSpectrum) -> str:
    largest = spectrum.eigenvalues[0]
    return f"The training images pay for a latent dimension up to a KL weight of {largest:.3g}"


def _count_above(spectrum: WhitenedSpectrum, weight: float) -> str:
    count = spectrum.count_above(weight)
    return f"at least {count}" if count == len(spectrum.eigenvalues) else str(count)


def format_nats(value: float | Tensor) -> str:
    """A number of nats, such as "0.42 nats", as short as it may be."""
    if value < 0.01:
        return "under 0.01 nats"
    return f"{value:.2g} nats" if value < 10 else f"{value:.1f} nats"


def format_dimensions(chosen: Tensor) -> str:
    """The dimensions that are chosen of (D,), in short: "z0, z3-z7"."""
    runs: list[list[int]] = []
    for index in chosen.nonzero().flatten().tolist():
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    names = []
    for run in runs[:MAX_NAMED_RUNS]:
        names.append(f"z{run[0]}" if len(run) == 1 else f"z{run[0]}-z{run[-1]}")
    unnamed = sum(map(len, runs[MAX_NAMED_RUNS:]))
    return ", ".join(names) + (f" and {unnamed} more" if unnamed else "")
