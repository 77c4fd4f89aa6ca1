"""Is GAN training going well?

Do samples look like the images, are there as many different ones, and does the discriminator still
teach the generator anything? Numbers, and a few plain sentences.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genmodels.data.images import Batch, ImageSet
from genmodels.metrics.discriminator_diagnosis import (
    CONSTANT,
    PENALTIES,
    WINS,
    DiscriminatorDiagnosis,
    DiscriminatorProblem,
    problem_of,
)
from genmodels.metrics.discriminator_logits import BATCH, discriminate
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.sample_distances import (
    diversity,
    fake_to_real,
    near_duplicates,
    real_to_fake,
)
from genmodels.metrics.sample_quality import MISSING, class_shares
from genmodels.metrics.verdict import HEALTHY, Verdict
from genmodels.models.gan import Discriminator
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import CONSTANT_SEED, generator

NOT_GENERATIVE = "not a generative model"
COLLAPSED = "MODE COLLAPSE"
PARTLY = "partial mode collapse"

MAX_IMAGES = 1000  # samples that are looked at, and as many real images
# Times as far from real images as isolated ones are from each other. Noise has 1.4 to 3.1 (digits,
# MNIST, Fashion-MNIST, 64x64 emoji), real images with their pixels permuted have 1.3 to 2.6; GANs
# after 200 steps have 0.9 to 1.0, real images of a few other classes 0.9.
MAX_FAKE_TO_REAL = 1.1
MIN_DIVERSITY = 0.3  # of real images': with less there is hardly more than one image
MAX_NEAR_DUPLICATES = 0.5  # of the samples: with more there are a few images over and over
# Times as far from real images to samples as from samples to real images: where samples have 1 of
# 10 classes it is 2 to 3 on those data, with 3 classes 1.3 to 1.7, with all 1.0 (blurred: 1.2).
MAX_REAL_TO_FAKE = 1.25


@dataclass(frozen=True)
class GANDiagnosis:
    """All that a verdict goes by; shares in [0, 1]. None, or empty: not known, and left out."""

    diversity: float  # of samples, over that of real images; in pixels
    near_duplicates: float  # share of the samples
    # Class -> its share of the samples and of the real images.
    missing: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    discriminator: DiscriminatorDiagnosis | None = None
    fake_to_real: float | None = None  # see the function
    real_to_fake: float | None = None  # likewise

    @property
    def asymmetry(self) -> float | None:
        """How much farther real images are from samples than samples from real images."""
        if self.fake_to_real is None or self.real_to_fake is None:
            return None
        return self.real_to_fake / self.fake_to_real


def quick_metrics(
    model: GenerativeModel, split: ImageSet, discriminator: Discriminator | None = None
) -> dict[str, float]:
    """What training logs: `diversity`, `near_duplicates`, `real_above_fake` and `n`.

    Of at most MAX_IMAGES samples, of the same noise each time, and as many images of a split, drawn
    with a constant seed.

    Arguments:
    model: in evaluation mode.
    split: of real images.
    discriminator: of this generator; None leaves `real_above_fake` out.
    """
    real, labels = draw_images(split)
    fake = generate_for(model, labels)
    metrics = {
        "diversity": diversity(fake, real),
        "near_duplicates": near_duplicates(fake, real),
    }
    if discriminator is not None:
        logits = discriminate(discriminator, real, fake, labels)
        metrics["real_above_fake"] = logits.real_above_fake
    return metrics | {"n": len(real)}


def diagnose(
    model: GenerativeModel,
    evaluation: Evaluation,
    discriminator: Discriminator | None = None,
    saturates: bool = True,
) -> GANDiagnosis:
    """Compare samples with the evaluation's images.

    Arguments:
    model: in evaluation mode.
    evaluation: whose reference classifier, if there is one, says which classes are missing.
    discriminator: of this generator; None where it is not known.
    saturates: whether the loss that it was trained on does.
    """
    missing = {}
    if evaluation.classifier is not None:
        for name, share in class_shares(model, evaluation)["classes"].items():
            if share["samples"] < MISSING * share["real"]:
                missing[name] = (share["samples"], share["real"])
    real, labels = draw_images(evaluation.split)
    fake = generate_for(model, labels)
    of_discriminator = None
    if discriminator is not None:
        train, train_labels = draw_images(evaluation.data.train)
        samples = generate_for(model, train_labels)
        unseen = discriminate(discriminator, real, fake, labels)
        trained = discriminate(discriminator, train, samples, train_labels)
        of_discriminator = DiscriminatorDiagnosis(
            real_above_fake=unseen.real_above_fake,
            real_above_fake_train=trained.real_above_fake,
            logit_stddev=unseen.stddev,
            saturates=saturates,
        )
    return GANDiagnosis(
        diversity=diversity(fake, real),
        near_duplicates=near_duplicates(fake, real),
        missing=missing,
        discriminator=of_discriminator,
        fake_to_real=fake_to_real(fake, real),
        real_to_fake=real_to_fake(fake, real),
    )


def verdict_on(diagnosis: GANDiagnosis) -> Verdict:
    """The verdict, by the first of these rules that holds.

    Not a generative model: samples are MAX_FAKE_TO_REAL times as far from real images as isolated
    ones are from each other. Mode collapse: samples have less than MIN_DIVERSITY of the diversity
    of real images, or more than MAX_NEAR_DUPLICATES of them have a near duplicate. Partial mode
    collapse: classes have less than MISSING of their share; or real images are MAX_REAL_TO_FAKE
    times as far from samples as samples are from them, which needs no classifier, but sees only
    that most images are missing. A problem of D (`problem_of`). Else healthy.
    """
    variety = (
        f"Samples differ from each other {diagnosis.diversity:.2f} times as much as real images "
        f"do, and {diagnosis.near_duplicates:.1%} of them have a near duplicate."
    )
    discriminator = diagnosis.discriminator
    problem = None if discriminator is None else problem_of(discriminator)
    if diagnosis.fake_to_real is not None and diagnosis.fake_to_real > MAX_FAKE_TO_REAL:
        return Verdict(NOT_GENERATIVE, _why_not_learned(diagnosis.fake_to_real, problem))
    few_images = diagnosis.near_duplicates > MAX_NEAR_DUPLICATES
    if diagnosis.diversity < MIN_DIVERSITY or few_images:
        reason = f"It makes hardly more than a few images. {variety}"
        remedies = f"{PENALTIES}, adversarial_loss=relativistic, a smaller lr, another seed"
        return Verdict(COLLAPSED, [reason, f"Try more steps, {remedies}."])
    missing = _missing(diagnosis)
    if missing:
        remedies = f"adversarial_loss=relativistic, {PENALTIES}, a larger batch_size"
        return Verdict(PARTLY, [*missing, variety, f"Try more steps, {remedies}."])
    if problem is not None:
        sentences = [problem.sentence, variety, f"Try {problem.remedies}."]
        return Verdict(problem.label, sentences)
    unknown = (
        "Nothing can be said of the discriminator, which is not here: see the verdict in the run's "
        "summary.json."
    )
    return Verdict(HEALTHY, [variety, unknown if discriminator is None else discriminator.pairs])


def _why_not_learned(distance: float, problem: DiscriminatorProblem | None) -> list[str]:
    """Why samples do not look like the images, and what to try.

    The remedies for mode collapse and for a D that is too good after long training are not for the
    beginning, where D has an easy task.
    """
    reason = (
        f"It has not learned the images (yet): samples are {distance:.1f} times as far from the "
        "nearest real image as isolated real images (one in ten) are."
    )
    if problem is not None and problem.label == CONSTANT:
        return [reason, problem.sentence, f"Try {problem.remedies}."]
    if problem is not None and problem.label == WINS:
        return [reason, problem.sentence, "Try more steps, or a smaller trainer.discriminator.lr."]
    return [reason, "Try more steps, or another lr."]


def _missing(diagnosis: GANDiagnosis) -> list[str]:
    """What samples do not show, if it is much."""
    if diagnosis.missing:
        return [f"Classes are missing: {_format_missing(diagnosis.missing)}."]
    asymmetry = diagnosis.asymmetry
    if asymmetry is not None and asymmetry > MAX_REAL_TO_FAKE:
        return [
            "Many real images have no sample near them: the nearest is usually "
            f"{asymmetry:.1f} times as far away as the nearest real image is from a sample."
        ]
    return []


def _format_missing(missing: Mapping[str, tuple[float, float]]) -> str:
    classes = []
    for name, (samples, images) in missing.items():
        classes.append(f"{name} ({samples:.1%} of the samples, {images:.1%} of the images)")
    return ", ".join(classes)


def draw_images(split: ImageSet) -> Batch:
    """At most MAX_IMAGES images of a split with their labels, always the same: splits are ordered.

    MNIST's first test images are easier than its last.
    """
    subset = split.subset(MAX_IMAGES, generator(CONSTANT_SEED, "images of a diagnosis"))
    return subset.batch(slice(None))


@torch.no_grad()
def generate_for(model: GenerativeModel, labels: Tensor) -> Tensor:
    """A sample for each label (N,), always of the same noise, (N, C, H, W)."""
    noise = generator(CONSTANT_SEED, "health")
    images = []
    for batch in labels.split(BATCH):
        z = model.prior.sample(len(batch), generator=noise, labels=batch)
        images.append(model.generate(z, batch))
    return torch.cat(images)
