"""Is GAN training going well?

Does the generator make as many different images as there are, and does the discriminator still
teach it anything? Numbers, and a few plain sentences.
"""

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

COLLAPSED = "MODE COLLAPSE"
PARTLY = "partial mode collapse"
OVERFITS = "D overfits"
WINS = "D wins"

MAX_IMAGES = 1000  # samples that are looked at, and as many real images
BATCH = 250  # images that the networks take at once
MIN_DIVERSITY = 0.3  # of real images': with less there is hardly more than one image
NEAR_DUPLICATE = 0.25  # of a real image's usual distance to its nearest: closer ones are duplicates
MAX_NEAR_DUPLICATES = 0.5  # of the samples: with more there are a few images over and over
MAX_REAL_ABOVE_FAKE = 0.95  # of pairs: a D that is right in more is hardly ever wrong
MAX_MEMORISATION = 0.1  # more of the pairs on training images: D knows those by heart

PENALTIES = "a stronger penalty (penalty.r1, penalty.r2)"


@dataclass(frozen=True)
class GANDiagnosis:
    """All that a verdict goes by; shares in [0, 1]. None, or empty: not known, and left out."""

    diversity: float  # of samples, over that of real images; in pixels
    near_duplicates: float  # share of the samples
    # Class -> its share of the samples and of the real images.
    missing: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    real_above_fake: float | None = None  # see the function; of images that D has not seen
    real_above_fake_train: float | None = None  # of training images


def quick_metrics(
    model: GenerativeModel, split: ImageSet, discriminator: Discriminator | None = None
) -> dict[str, float]:
    """What training logs: `diversity`, `near_duplicates`, `real_above_fake` and `n`.

    Of at most MAX_IMAGES samples, of the same noise each time, and as many first images of a split.

    Arguments:
    model: in evaluation mode.
    split: of real images.
    discriminator: of this generator; None leaves `real_above_fake` out.
    """
    real, labels = split.batch(slice(0, MAX_IMAGES))
    fake = generate_for(model, labels)
    metrics = {
        "diversity": diversity(fake, real),
        "near_duplicates": near_duplicates(fake, real),
    }
    if discriminator is not None:
        metrics["real_above_fake"] = real_above_fake(discriminator, real, fake, labels)
    return metrics | {"n": len(real)}


def diagnose(
    model: GenerativeModel, evaluation: Evaluation, discriminator: Discriminator | None = None
) -> GANDiagnosis:
    """Compare samples with the evaluation's images.

    Arguments:
    model: in evaluation mode.
    evaluation: whose reference classifier, if there is one, says which classes are missing.
    discriminator: of this generator; None where it is not known.
    """
    metrics = quick_metrics(model, evaluation.split, discriminator)
    missing = {}
    if evaluation.classifier is not None:
        for name, share in class_shares(model, evaluation)["classes"].items():
            if share["samples"] < MISSING * share["test"]:
                missing[name] = (share["samples"], share["test"])
    trained = None
    if discriminator is not None:
        real, labels = evaluation.data.train.batch(slice(0, MAX_IMAGES))
        trained = real_above_fake(discriminator, real, generate_for(model, labels), labels)
    return GANDiagnosis(
        diversity=metrics["diversity"],
        near_duplicates=metrics["near_duplicates"],
        missing=missing,
        real_above_fake=metrics.get("real_above_fake"),
        real_above_fake_train=trained,
    )


def verdict_on(diagnosis: GANDiagnosis) -> Verdict:
    """The verdict, by the first of these rules that holds.

    Mode collapse: samples have less than MIN_DIVERSITY of the real images' diversity, or more than
    MAX_NEAR_DUPLICATES of them have a near duplicate. Partial mode collapse: classes have less than
    MISSING of their share. D overfits: it tells training images from generated ones better than
    unseen images, by MAX_MEMORISATION. D wins: it tells unseen ones in more than
    MAX_REAL_ABOVE_FAKE of pairs. Else healthy.
    """
    variety = (
        f"Samples differ from each other {diagnosis.diversity:.2f} times as much as real images "
        f"do, and {diagnosis.near_duplicates:.1%} of them have a near duplicate."
    )
    few_images = diagnosis.near_duplicates > MAX_NEAR_DUPLICATES
    if diagnosis.diversity < MIN_DIVERSITY or few_images:
        problem = f"It makes hardly more than a few images. {variety}"
        remedies = f"{PENALTIES}, adversarial_loss=relativistic, a smaller lr, another seed"
        return Verdict(COLLAPSED, [problem, f"Try more steps, {remedies}."])
    if diagnosis.missing:
        problem = f"Classes are missing: {_format_missing(diagnosis.missing)}."
        remedies = f"adversarial_loss=relativistic, {PENALTIES}, a larger batch_size"
        return Verdict(PARTLY, [problem, variety, f"Try more steps, {remedies}."])
    return _verdict_on_discriminator(
        diagnosis.real_above_fake, diagnosis.real_above_fake_train, variety
    )


def _verdict_on_discriminator(unseen: float | None, trained: float | None, variety: str) -> Verdict:
    if unseen is None or trained is None:
        unknown = (
            "Nothing can be said of the discriminator, which is not here: see the verdict in the "
            "run's summary.json."
        )
        return Verdict(HEALTHY, [variety, unknown])
    pairs = (
        f"D puts training images above generated ones in {trained:.1%} of pairs, images that it "
        f"was not trained on in {unseen:.1%} (50 %: it cannot tell)."
    )
    if trained - unseen > MAX_MEMORISATION:
        problem = f"{pairs} It knows training images by heart, and teaches G those."
        remedies = (
            "stronger augmentation (diff_augment, augment.flip), fewer epochs, a smaller "
            f"model.discriminator_width, {PENALTIES}"
        )
        return Verdict(OVERFITS, [problem, variety, f"Try {remedies}."])
    if unseen > MAX_REAL_ABOVE_FAKE:
        problem = f"{pairs} It is hardly ever wrong, and G learns little from that."
        remedies = (
            f"a smaller trainer.discriminator.lr, {PENALTIES}, a larger model.generator_width, "
            "more steps"
        )
        return Verdict(WINS, [problem, variety, f"Try {remedies}."])
    return Verdict(HEALTHY, [variety, pairs])


def _format_missing(missing: Mapping[str, tuple[float, float]]) -> str:
    classes = []
    for name, (samples, images) in missing.items():
        classes.append(f"{name} ({samples:.1%} of the samples, {images:.1%} of the images)")
    return ", ".join(classes)


@torch.no_grad()
def generate_for(model: GenerativeModel, labels: Tensor) -> Tensor:
    """A sample for each label (N,), always of the same noise, (N, C, H, W)."""
    noise = generator(CONSTANT_SEED, "health")
    images = []
    for batch in labels.split(BATCH):
        z = model.prior.sample(len(batch), generator=noise, labels=batch)
        images.append(model.generate(z, batch))
    return torch.cat(images)


def diversity(fake: Tensor, real: Tensor) -> float:
    """How far two generated images are from each other, over how far two real ones are.

    Root mean squares over all pairs of distances in pixels. 1: as different; 0: all the same.
    """
    return (_mean_distance(fake) / _mean_distance(real)).item()


def _mean_distance(images: Tensor) -> Tensor:
    members = ClassDiversity(classes=1)
    members.add(images, torch.zeros(len(images), dtype=torch.long))
    return members.distance()


def near_duplicates(fake: Tensor, real: Tensor) -> float:
    """The share of generated images with another one nearer than NEAR_DUPLICATE.

    In units of the distance of a real image to its nearest, in the median.
    """
    usual = distance_to_nearest(real).median()
    near = distance_to_nearest(fake) < NEAR_DUPLICATE * usual
    return near.double().mean().item()


def distance_to_nearest(images: Tensor) -> Tensor:
    """The distance in pixels of each image (N, C, H, W) to its nearest among the others.

    (N,) float64, in which matrix products, 28 times as fast as differences, are exact to 1e-5.
    """
    flat = images.flatten(1).cpu().double()
    distances = torch.cdist(flat, flat, compute_mode="use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).amin(dim=1)


@torch.no_grad()
def real_above_fake(
    discriminator: Discriminator, real: Tensor, fake: Tensor, labels: Tensor
) -> float:
    """The share of all pairs of a real and a generated image in which D prefers the real one.

    By its logits: 0.5 where it cannot tell them, 1 where it is never wrong (the area under its ROC
    curve).

    Arguments:
    discriminator: in evaluation mode.
    real: (N, C, H, W) in [0, 1].
    fake: (N, C, H, W) in [0, 1].
    labels: (N,) int64 of both.
    """
    real_logits = _logits(discriminator, real, labels)[:, None]
    fake_logits = _logits(discriminator, fake, labels)
    above = (real_logits > fake_logits).double()
    ties = (real_logits == fake_logits).double()
    return (above + 0.5 * ties).mean().item()


def _logits(discriminator: Discriminator, images: Tensor, labels: Tensor) -> Tensor:
    logits = []
    for batch in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        logits.append(discriminator(*batch))
    return torch.cat(logits)
