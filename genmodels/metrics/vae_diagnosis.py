"""Is this a generative model, does it use its latent space, why not, and what to try: a few plain sentences."""

from dataclasses import dataclass

from torch import Tensor

from genmodels.metrics.collapse import LatentUsage, latent_usage
from genmodels.metrics.collapse_threshold import WhitenedSpectrum, unexplained, whitened_spectrum
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import HEALTHY, Verdict
from genmodels.models.vae import VAE

PARTLY, COLLAPSED, STRAY = (
    "partly collapsed",
    "COLLAPSED",
    "not a generative model",
)

RATE = 0.5  # nats per image: a code with less says nothing worth having
NO_ROOM = 0.1  # nats that the best linear code at this KL weight carries: less is none
NEAR_MEAN = 0.03  # of the mean image's distortion: a decoder so near to it does not look at z
DEAF = 0.5  # nats: nor does one to which another image's z makes no more difference than this
STRAY_DIMENSION = 1.0  # nats between the codes and the prior in one dimension: N(1.4, 1) or N(0, 2.2^2) are so far
STRAY_TOTAL = (
    5.0  # nats in all of them: each is near, but a draw from the prior misses the data in most
)
WORTH = 2.5  # nats of distortion for a nat of code, which the ELBO buys at 1: between what 8 healthy runs
#                         on digits and MNIST left (1.4 to 1.9), and those with dimensions to fill (3 and more)
MARGIN = (
    1.5  # times the KL weight: a dimension that is worth more than this, training has not found
)

ANNEALING = "a longer warm-up (kl_schedule.warmup=0.5, or kl_schedule=cyclical)"
OTHER_OBJECTIVES = "an objective with another optimum (capacity, kl_target, free_bits, geco)"


@dataclass(frozen=True)
class VAEDiagnosis:
    """All that a verdict goes by. None: not known, and left out."""

    found: LatentUsage
    kl_weight: (
        float | None
    )  # what a nat of code costs in training; None: the objective has no such price
    data: WhitenedSpectrum | None = None
    mean_image: float | None = None  # distortion of the mean image, nats
    missed: float | None = (
        None  # what one more dimension would save, in nats of distortion for a nat of code
    )

    @property
    def over_mean(self) -> float | None:
        """By what share the distortion is above that of the mean image."""
        return self.mean_image and self.found.bound["distortion"] / self.mean_image - 1

    @property
    def unfound(self) -> bool:
        """Whether one more dimension would pay at the price of this training."""
        return (
            self.kl_weight is not None
            and self.missed is not None
            and self.missed > MARGIN * self.kl_weight
        )


def diagnose(model: VAE, evaluation: Evaluation) -> VAEDiagnosis:
    """Diagnose a model on the test images, and ask the training images what they can pay for."""
    train, split = evaluation.data.train, evaluation.split
    found = whitened_spectrum(model, train)
    return VAEDiagnosis(
        latent_usage(model, split),
        evaluation.kl_weight,
        found,
        None if found is None else found.distortion(model, split),
        unexplained(model, train),
    )


def verdict_on(case: VAEDiagnosis) -> Verdict:
    """The verdict on a case.

    COLLAPSED: a rate under RATE, no active unit, or a decoder that does not look at z (a distortion within NEAR_MEAN of
    the mean image's, or no difference from another image's z). Not a generative model: a distortion above that; KL
    weight 0, or moments of the aggregated posterior that are STRAY_DIMENSION or STRAY_TOTAL from the prior's, so that
    samples come from where the decoder has seen no data. Partly collapsed: dimensions are unused though one more would
    be WORTH it. Else healthy: dimensions that the data have no use for cost nothing, and a model is none the worse.
    """
    found = case.found
    if signs := _signs_of_collapse(case):
        return Verdict(
            COLLAPSED, [f"z says nothing of the image: {', '.join(signs)}.", *_why_collapsed(case)]
        )
    if case.over_mean is not None and case.over_mean > NEAR_MEAN:
        return Verdict(
            STRAY,
            [
                f"It has not learned the images: {_against_mean(case)}.",
                "Try more steps, or another lr.",
                *_price(case),
            ],
        )
    if (
        case.kl_weight == 0
        or found.misfit.max() > STRAY_DIMENSION
        or found.misfit.sum() > STRAY_TOTAL
    ):
        return Verdict(STRAY, _why_stray(case))
    if not found.active.all() and case.missed is not None and case.missed > WORTH:
        return Verdict(PARTLY, [_use(found), *_why_partly(case, case.missed), *_price(case)])
    return Verdict(
        HEALTHY,
        [
            _use(found),
            "Prior and aggregated posterior are, by their moments, "
            f"{_nats(found.misfit.sum().item())} apart: near enough to sample.",
            *_outlook(case),
            *_price(case),
        ],
    )


def _signs_of_collapse(case: VAEDiagnosis) -> list[str]:
    found, rate = case.found, case.found.bound["kl"]
    signs = [f"the rate is {_nats(rate)} (under {RATE:g})"] if rate < RATE else []
    if not found.active.any():
        signs.append(f"none of {len(found.active)} dimensions is active")
    if case.over_mean is not None and abs(case.over_mean) < NEAR_MEAN:
        signs.append(_against_mean(case))
    elif found.shuffled_z < DEAF:
        signs.append(f"decoding from another image's z costs {_nats(found.shuffled_z)}")
    return signs


def _against_mean(case: VAEDiagnosis) -> str:
    told = case.data is not None and len(case.data.means) > 1
    return (
        f"the distortion is {case.found.bound['distortion']:.1f} nats where that of the mean image"
        f"{' of each class' if told else ''} is {case.mean_image:.1f}"
    )


def _why_collapsed(case: VAEDiagnosis) -> list[str]:
    weight, data = case.kl_weight, case.data
    if weight is None and case.found.bound["kl"] >= RATE:
        return [
            f"The objective has the KL that it asks for, {_nats(case.found.bound['rate'])}, but from one code for "
            "all images.",
            "Try a smaller kl_weight, or one that comes later (kl_schedule=late).",
            *_price(case),
        ]
    if weight is None:
        return [
            "Try a target that pays for more: a higher one for the KL, a lower one for the distortion.",
            *_price(case),
        ]
    if data is None:
        return ["Try a smaller kl_weight, a longer warm-up (kl_schedule.warmup=0.5), or free bits."]
    largest, room = data.eigenvalues[0], data.linear_rate(weight)
    limit = f"The training images pay for a latent dimension up to a KL weight of {largest:.3g}; it is {weight:g}"
    remedy = f"Try a kl_weight well below {largest:.3g} (1 is the ELBO), or {OTHER_OBJECTIVES}."
    if room < NO_ROOM:
        left = f"leaves room for {_nats(room)} (by a linear decoder)" if room else "pays for none"
        return [
            f"{limit}, and {left}. An empty code is the optimum of this objective: no annealing can help.",
            remedy,
        ]
    if room < RATE:
        return [
            f"{limit}, and leaves little room: {_nats(room)} by a linear decoder, a network's may find more.",
            f"{remedy} {ANNEALING[:1].upper()}{ANNEALING[1:]} can find what room there is, not more.",
        ]
    return [
        f"The KL weight, {weight:g}, is not the reason: at that price the training images pay for "
        f"{_paying(data, weight)} directions, and for the first up to {largest:.3g}.",
        f"Try {ANNEALING}, free bits, a smaller lr, more steps.",
    ]


def _why_stray(case: VAEDiagnosis) -> list[str]:
    found, worst = case.found, int(case.found.misfit.argmax())
    reason = (
        "at KL weight 0 nothing keeps the codes near the prior"
        if case.kl_weight == 0
        else "too little keeps the codes near the prior"
    )
    remedy = (
        "a lower target for the KL, a higher one for the distortion"
        if case.kl_weight is None
        else "kl_weight=1"
        if case.kl_weight < 1
        else "more steps, a larger kl_weight"
    )
    return [
        f"Samples from the prior mean nothing: they do not come from where the data lie, for {reason}.",
        f"Prior and aggregated posterior are at least {_nats(found.misfit.sum().item())} apart: z{worst} has mean "
        f"{found.mean[worst]:.2g} and standard deviation {found.variance[worst].sqrt():.2g}, in the prior 0 and 1.",
        f"It can reconstruct. For samples try {remedy}, or draw z from a density fitted to the codes.",
    ]


def _why_partly(case: VAEDiagnosis, missed: float) -> list[str]:
    saving = f"One more dimension would save {missed:.1f} nats of distortion for a nat of code"
    if case.unfound:
        return [
            f"{saving}, which costs {case.kl_weight:g}: the unused ones would pay, and training has not found it.",
            f"Try more steps, {ANNEALING}, free bits.",
        ]
    if case.kl_weight is None:
        return [
            f"{saving}, but the objective does not ask for more.",
            "Try a higher target for the KL, or a lower one for the distortion.",
        ]
    asked = (
        "what the objective asks for; annealing cannot help"
        if missed <= case.kl_weight
        else ("nearly what the objective asks for, and a longer warm-up may find the rest")
    )
    return [
        f"{saving}, which costs {case.kl_weight:g}: this is {asked}.",
        f"For more, try a smaller kl_weight, or {OTHER_OBJECTIVES}.",
    ]


def _outlook(case: VAEDiagnosis) -> list[str]:
    """What of a healthy model that uses all it has could be otherwise."""
    missed, weight = case.missed, case.kl_weight
    if missed is None or missed <= WORTH or not case.found.active.all():
        return []
    saving = f"one more dimension would save {missed:.1f} nats of distortion for a nat of code"
    if case.unfound:
        return [f"It could use more: {saving}. Try model.latent_dim={2 * len(case.found.active)}."]
    if weight is None:
        return []
    return [
        f"It compresses strongly: {saving}, but that does not pay at KL weight {weight:g}. A smaller one gives "
        "sharper images."
    ]


def _use(found: LatentUsage) -> str:
    """How many dimensions carry how much, and which do not."""
    count, active, idle = (
        len(found.active),
        int(found.active.sum()),
        found.kl[~found.active].sum().item(),
    )
    if active == count:
        what = "Its one latent dimension is" if count == 1 else f"All {count} latent dimensions are"
        return f"{what} in use, with {found.bound['rate']:.1f} nats per image."
    return (
        f"{active} of {count} latent dimensions are in use, with {found.bound['rate'] - idle:.1f} nats per image; "
        f"the others ({names(~found.active)}) cost {_nats(idle)}."
    )


def _price(case: VAEDiagnosis) -> list[str]:
    """What the data can pay, if that is known."""
    if case.data is None:
        return []
    weight, largest = case.kl_weight, case.data.eigenvalues[0]
    count = (
        ""
        if weight is None or weight <= 1
        else (
            f"; at {weight:g} for {_paying(case.data, weight)} directions, at 1 for {_paying(case.data, 1)}"
        )
    )
    return [
        f"The training images pay for a latent dimension up to a KL weight of {largest:.3g}{count}."
    ]


def _paying(data: WhitenedSpectrum, weight: float) -> str:
    count = data.paying(weight)
    return f"at least {count}" if count == len(data.eigenvalues) else str(count)


def _nats(value: float) -> str:
    return (
        "under 0.01 nats"
        if value < 0.01
        else f"{value:.2g} nats"
        if value < 10
        else f"{value:.1f} nats"
    )


def names(chosen: Tensor, longest: int = 12) -> str:
    """The dimensions that are chosen of (D,), in short: "z0, z3-z7"; after so many, how many more."""
    runs: list[list[int]] = []
    for index in chosen.nonzero().flatten().tolist():
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    words = [f"z{run[0]}" if len(run) == 1 else f"z{run[0]}-z{run[-1]}" for run in runs[:longest]]
    rest = sum(len(run) for run in runs[longest:])
    return ", ".join(words) + (f" and {rest} more" if rest else "")
