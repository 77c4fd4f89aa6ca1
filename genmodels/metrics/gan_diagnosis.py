"""Is a generator's game going well: does it make as many different images as there are, and does the discriminator
still teach it anything? Numbers, and a few plain sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.metrics.diversity import ClassDiversity
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.sample_quality import MISSING, class_shares
from genmodels.metrics.verdict import HEALTHY, Verdict
from genmodels.models.gan import Discriminator
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import CONSTANT_SEED, generator

COLLAPSED, PARTLY, OVERFITS, WINS = "MODE COLLAPSE", "partial mode collapse", "D overfits", "D wins"

LOOKED_AT = 1000  # samples, and as many real images
SPREAD = 0.3  # of the real images' spread: with less there is hardly more than one image
TWIN = 0.25  # of the usual distance of a real image to its nearest: closer ones are twins
TWINS = 0.5  # of the samples have a twin: a few images over and over
TOLD = (
    0.95  # of pairs in which D puts the real image above the generated one: it is hardly ever wrong
)
MEMORY = 0.1  # more of them on training images than on others: it knows those by heart

PENALTIES = "a stronger penalty (penalty.r1, penalty.r2)"


@dataclass(frozen=True)
class GANDiagnosis:
    """All that a verdict goes by; shares in [0, 1]. None, or empty: not known, and left out."""

    diversity: float  # of samples, over that of real images; in pixels
    near_duplicates: float  # the share of samples of which there is another one almost alike
    missing: Mapping[str, tuple[float, float]] = field(
        default_factory=dict
    )  # class -> share of samples, of test
    held_out: float | None = (
        None  # pairs in which D puts an unseen real image above a generated one
    )
    trained: float | None = None  # the same of training images


def quick_metrics(
    model: GenerativeModel, part: ImageSet, discriminator: Discriminator | None = None
) -> dict[str, float]:
    """What a run logs as it trains: `spread`, `twins`, and `real_above_fake` if there is a discriminator.

    From LOOKED_AT samples at most, the same noise each time, and as many images of a part, in its order.
    """
    real, labels = part.batch(slice(0, LOOKED_AT))
    fake = made(model, labels)
    numbers = {
        "diversity": diversity(fake, real),
        "near_duplicates": near_duplicates(fake, real),
    }
    if discriminator is not None:
        numbers["real_above_fake"] = real_above_fake(discriminator, real, fake, labels)
    return numbers | {"n": len(real)}


def diagnose(
    model: GenerativeModel, evaluation: Evaluation, discriminator: Discriminator | None = None
) -> GANDiagnosis:
    """Look at a generator's samples beside test images; at its discriminator's opinion of training images, if it is
    there; and ask the judge which classes are missing, if there is one."""
    numbers = quick_metrics(model, evaluation.split, discriminator)
    missing, trained = {}, None
    if evaluation.classifier is not None:
        shares = class_shares(model, evaluation)["classes"]
        missing = {
            name: (share["samples"], share["test"])
            for name, share in shares.items()
            if share["samples"] < MISSING * share["test"]
        }
    if discriminator is not None:
        real, labels = evaluation.data.train.batch(slice(0, LOOKED_AT))
        trained = real_above_fake(discriminator, real, made(model, labels), labels)
    return GANDiagnosis(
        numbers["diversity"],
        numbers["near_duplicates"],
        missing,
        numbers.get("real_above_fake"),
        trained,
    )


def verdict_on(case: GANDiagnosis) -> Verdict:
    """The verdict on a case.

    Mode collapse: samples have less than SPREAD of the real images' spread, or TWINS of them have a twin. Partial mode
    collapse: classes have less than MISSING of their share. D overfits: it tells training images from generated ones
    by MEMORY better than unseen ones. D wins: it tells unseen ones too in more than TOLD of pairs. Else healthy.
    """
    variety = (
        f"Samples differ from each other {case.diversity:.2f} times as much as real images do, and "
        f"{case.near_duplicates:.1%} of them have a twin."
    )
    if case.diversity < SPREAD or case.near_duplicates > TWINS:
        return Verdict(
            COLLAPSED,
            [
                f"It makes hardly more than a few images. {variety}",
                f"Try more steps, {PENALTIES}, adversarial_loss=relativistic, a smaller lr, "
                "another seed.",
            ],
        )
    if case.missing:
        named = ", ".join(
            f"{name} ({found:.1%} of the samples, {real:.1%} of the images)"
            for name, (found, real) in case.missing.items()
        )
        return Verdict(
            PARTLY,
            [
                f"Classes are missing: {named}.",
                variety,
                f"Try more steps, adversarial_loss=relativistic, {PENALTIES}, a larger batch_size.",
            ],
        )
    if case.held_out is None or case.trained is None:
        return Verdict(
            HEALTHY,
            [
                variety,
                "Of the game nothing can be said without its discriminator: see the verdict "
                "in the run's summary.json.",
            ],
        )
    told = (
        f"D puts training images above generated ones in {case.trained:.1%} of pairs, images that it was not "
        f"trained on in {case.held_out:.1%} (50 %: it cannot tell)."
    )
    if case.trained - case.held_out > MEMORY:
        return Verdict(
            OVERFITS,
            [
                f"{told} It knows training images by heart, and teaches G those.",
                variety,
                "Try stronger augmentation (diff_augment, augment.flip), fewer epochs, a smaller "
                f"model.discriminator_width, {PENALTIES}.",
            ],
        )
    if case.held_out > TOLD:
        return Verdict(
            WINS,
            [
                f"{told} It is hardly ever wrong, and G learns little from that.",
                variety,
                f"Try a smaller trainer.discriminator_lr, {PENALTIES}, a larger model.generator_width, "
                "more steps.",
            ],
        )
    return Verdict(HEALTHY, [variety, told])


@torch.no_grad()
def made(model: GenerativeModel, labels: Tensor) -> Tensor:
    """A sample for each label (N,), always of the same noise, (N, C, H, W)."""
    noise = generator(CONSTANT_SEED, "health")
    return torch.cat(
        [
            model.generate(model.prior.sample(len(some), generator=noise), some)
            for some in labels.split(250)
        ]
    )


def diversity(fake: Tensor, real: Tensor) -> float:
    """How far two generated images are from each other over how far two real ones are: root mean squares over all pairs
    of distances in pixels. 1: as different; 0: all the same."""
    distances = []
    for images in (fake, real):
        found = ClassDiversity(1)
        found.add(images, torch.zeros(len(images), dtype=torch.long))
        distances.append(found.distance())
    return (distances[0] / distances[1]).item()


def near_duplicates(fake: Tensor, real: Tensor) -> float:
    """The share of generated images that have another one nearer than TWIN of what a real image's nearest is, in the
    median."""
    return (nearest_other(fake) < TWIN * nearest_other(real).median()).double().mean().item()


def nearest_other(images: Tensor) -> Tensor:
    """The distance in pixels of each image (N, C, H, W) to its nearest among the others, (N,) float64."""
    flat = (
        images.flatten(1).cpu().double()
    )  # in which matrix products, 28 times as fast, are exact to 1e-5
    distances = torch.cdist(flat, flat, compute_mode="use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).amin(dim=1)


@torch.no_grad()
def real_above_fake(
    discriminator: Discriminator, real: Tensor, fake: Tensor, labels: Tensor
) -> float:
    """The share of all pairs of a real and a generated image in which D gives the real one the higher logit: 0.5 where
    it cannot tell them, 1 where it is never wrong (the area under its ROC curve)."""
    real_logits, fake_logits = (
        torch.cat(
            [
                discriminator(some, of)
                for some, of in zip(images.split(250), labels.split(250), strict=True)
            ]
        )
        for images in (real, fake)
    )
    above = (real_logits[:, None] > fake_logits).double() + 0.5 * (
        real_logits[:, None] == fake_logits
    ).double()
    return above.mean().item()
