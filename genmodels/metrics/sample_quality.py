"""Scores of a model's samples against real images, for any family of models.

`evaluation.samples` images at temperature 1, always of the same noise for the same seed, against the test part. Frechet
and kernel distances have a `floor`: the same score of training images in the samples' place, which no model can be
expected to beat. They are no FID and no Inception scores unless their features say so.
"""

from typing import Any

import torch
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.metrics.accuracy import BATCH, Answers, Spread, evaluate
from genmodels.metrics.distances import coverage_scores, frechet_distance, kernel_distance
from genmodels.metrics.evaluation import Evaluation, sample
from genmodels.metrics.features import FeatureSpace, checksum_of
from genmodels.metrics.neighbours import neighbours
from genmodels.models.classifier import Classifier
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import CONSTANT_SEED, generator

GLANCED = 2000  # samples that training looks at
MISSING = 0.1  # of its share in the test part: a class with less is missing
COPY = 0.25  # of the usual distance of a test image to its nearest training image: a nearer sample is a copy

Seen = tuple[
    Answers, tuple[Spread, Spread]
]  # by a judge: its answers; spreads of the classes in features and pixels


def fd(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """The Frechet distance, lower is better, in squared units of the features: comparable for equal features and equal
    numbers of samples only."""
    space, fake = _seen(model, evaluation)
    floor = space.once(
        ("fd", len(fake)), lambda: frechet_distance(space.train(len(fake)), space.test)
    )
    return {
        "fd": frechet_distance(fake, space.test),
        "floor": floor,
        **_counts(fake, space.test),
        **space.label(),
    }


def kid(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """The kernel distance KID with its standard deviation over random subsets; lower is better, 0 in the mean for
    equal distributions, whatever the number of samples."""
    space, fake = _seen(model, evaluation)
    found, spread = _kid(fake, space.test)
    floor, _ = space.once(("kid", len(fake)), lambda: _kid(space.train(len(fake)), space.test))
    return {
        "kid": found,
        "kid_spread": spread,
        "floor": floor,
        **_counts(fake, space.test),
        **space.label(),
    }


def prdc(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """Precision and density: are samples like real images? Recall and coverage: are all real images like samples?"""
    space, fake = _seen(model, evaluation)
    return {**coverage_scores(space.test, fake), **_counts(fake, space.test), **space.label()}


def glance(model: GenerativeModel, space: FeatureSpace) -> dict[str, float]:
    """`fd` and `kid` of GLANCED samples against the validation part: what training logs, and selects by."""
    fake = space.of(sample(model, GLANCED, CONSTANT_SEED, len(space.data.spec.classes)))
    return {"fd": frechet_distance(fake, space.validation), "kid": _kid(fake, space.validation)[0]}


def memorisation(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """Does a model hand out training images? By distances in pixels of `evaluation.n` samples to their nearest ones.

    `nearer_to_train`: the share of samples that are nearer to one of m training images than to any of m test images, m
    the same for both. These are exchangeable for a model that has learned the distribution alone: 0.5, with the
    binomial `standard_error`; more is memory. `copies`: the share of samples that are nearer to any training image than
    COPY of what a test image is in the median. `test_copies`: the same of test images, which some data sets repeat.
    """
    data, size = evaluation.data, min(len(evaluation.data.train), len(evaluation.data.test))
    made = evaluation.sampled(model).batch(slice(0, evaluation.n)).images
    noise = generator(CONSTANT_SEED, "memorisation")
    real = data.test.drawn(evaluation.n, noise).batch(slice(None)).images
    to_train = neighbours(made, data.train.drawn(size, noise), 1).distance[:, 0]
    to_test = neighbours(made, data.test.drawn(size, noise), 1).distance[:, 0]
    share = ((to_train < to_test).double() + 0.5 * (to_train == to_test).double()).mean().item()
    to_any, usual = (neighbours(images, data.train, 1).distance[:, 0] for images in (made, real))
    near = COPY**2 * usual.median()  # of squared distances
    return {
        "nearer_to_train": share,
        "standard_error": (0.25 / len(made)) ** 0.5,
        "copies": (to_any < near).double().mean().item(),
        "test_copies": (usual < near).double().mean().item(),
        "n": len(made),
        "compared": size,
    }


def class_accuracy(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """Whether a conditional model makes what it is asked for, and not always the same one.

    As many samples of each class, at temperature 1. `accuracy`: the share that the judge takes for the class that was
    asked. It alone can pass for a model that makes one good image of each class; so `diversity`: the root mean square
    distance between two samples of a class over that between two of its test images, in the judge's features, averaged
    over the classes (1: as diverse, 0: all the same). `pixel_diversity` is the same in pixels; there the noise of the
    data counts, which mean images lack. Beside them the judge's own accuracy on the test part and the checksum of its
    weights: what other judges say does not compare.
    """
    judge, classes = _judge(evaluation), evaluation.data.spec.classes
    made, made_spreads = _made(judge, model, evaluation)
    real, real_spreads = _answers(judge, evaluation.data.test)
    ratios = [
        mine.distance() / theirs.distance()
        for mine, theirs in zip(made_spreads, real_spreads, strict=True)
    ]
    columns = dict(
        zip(("accuracy", "diversity", "pixel_diversity"), (made.by_class(), *ratios), strict=True)
    )
    numbers = made.numbers()
    return (
        {name: numbers[name] for name in ("accuracy", "accuracy_standard_error", "n")}
        | {name: columns[name].nanmean().item() for name in ("diversity", "pixel_diversity")}
        | {
            "judge_accuracy": real.numbers()["accuracy"],
            "judge_crc32": checksum_of(judge.state_dict()),
            "classes": {
                name: {column: values[index].item() for column, values in columns.items()}
                for index, name in enumerate(classes)
            },
        }
    )


def class_shares(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """Of which classes a model's samples are, in the judge's eyes; a conditional one is asked for all equally often.

    `entropy` of these shares and `test_entropy` of the test images' (at most log K), and `kl_to_test`, the KL
    divergence of the first from the second, 0 where they are the same; all in nats. `coverage`: the share of classes
    that are not MISSING.
    """
    judge, classes, test = _judge(evaluation), evaluation.data.spec.classes, evaluation.data.test
    made, _ = _made(judge, model, evaluation)
    found = made.confusion.sum(dim=0).double() / evaluation.samples  # (K,)
    expected = torch.bincount(test.labels[test.rows].cpu(), minlength=len(classes)).double() / len(
        test
    )  # (K,)
    return {
        "entropy": _entropy(found),
        "test_entropy": _entropy(expected),
        "kl_to_test": -_entropy(found) - torch.xlogy(found, expected).sum().item(),
        "coverage": (found >= MISSING * expected).double().mean().item(),
        "n": evaluation.samples,
        "judge_crc32": checksum_of(judge.state_dict()),
        "classes": {
            name: {"samples": found[index].item(), "test": expected[index].item()}
            for index, name in enumerate(classes)
        },
    }


def gan_train(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """The accuracy on test images of a classifier that was trained on the model's samples alone, with the classes that
    were asked for as labels (Shmelkov et al. 2018, "How good is my GAN?"; GAN-test is `class_accuracy`).

    `real_accuracy`: the same of a classifier that was trained on as many training images: the most to be expected.
    """
    made = evaluation.sampled(model)
    real = evaluation.data.train.drawn(len(made), generator(CONSTANT_SEED, "drawn"))
    return {
        "accuracy": _accuracy(evaluation, made),
        "real_accuracy": _accuracy(evaluation, real),
        "n": len(made),
        "n_real": len(real),
    }


def _accuracy(evaluation: Evaluation, part: ImageSet) -> float:
    assert evaluation.school is not None, "asked only where there is one"
    return evaluate(evaluation.school(part), evaluation.data.test)["accuracy"]


def _seen(model: GenerativeModel, evaluation: Evaluation) -> tuple[FeatureSpace, Tensor]:
    """The space of features, and the samples' places in it, (N, F)."""
    assert evaluation.features is not None, "asked only where there are features"
    space = evaluation.features()
    return space, evaluation.once(model, "features", lambda: space.of(evaluation.sampled(model)))


def _kid(fake: Tensor, real: Tensor) -> tuple[float, float]:
    return kernel_distance(fake, real, generator(CONSTANT_SEED, "subsets"))


def _judge(evaluation: Evaluation) -> Classifier:
    judge = evaluation.judge()
    assert judge is not None, "asked only where there is one"
    return judge


def _made(judge: Classifier, model: GenerativeModel, evaluation: Evaluation) -> Seen:
    return evaluation.once(model, "answers", lambda: _answers(judge, evaluation.sampled(model)))


def _answers(judge: Classifier, part: ImageSet) -> Seen:
    """The judge's answers, and the spread of each class in its features and in pixels."""
    found, features, pixels = Answers(judge), Spread(judge.num_classes), Spread(judge.num_classes)
    for images, labels in part.batches(BATCH):
        features.add(found.add(images, labels), labels)
        pixels.add(images, labels)
    return found, (features, pixels)


def _counts(fake: Tensor, real: Tensor) -> dict[str, int]:
    return {"n": len(fake), "n_real": len(real)}


def _entropy(shares: Tensor) -> float:
    return -torch.xlogy(shares, shares).sum().item()
