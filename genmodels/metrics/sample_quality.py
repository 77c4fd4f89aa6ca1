"""Scores of a model's samples against real images, for any family of models.

`evaluation.samples` images at temperature 1, always of the same noise for the same seed, against
the evaluation's split. They are no FID and no Inception scores unless their features say so.

Frechet and kernel distances have a `floor`: the same score of `floor_n` held-out images in the
samples' place, which no model can be expected to beat. These are validation images (test images
where the evaluation is on the validation split): drawn like the training images, but not among
those that the features were fitted to.
"""

from typing import Any

import torch
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.metrics.distances import coverage_scores, frechet_distance, kernel_distance
from genmodels.metrics.evaluation import ClassPredictions, Evaluation
from genmodels.metrics.features import checksum_of
from genmodels.metrics.neighbours import neighbours
from genmodels.metrics.predictions import predict
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import CONSTANT_SEED, generator

MISSING = 0.1  # of its share in the test split: a class with less is missing
COPY = 0.25  # of a test image's usual distance to its nearest training image: nearer is a copy


def fd(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """The Frechet distance in squared units of the features; lower is better.

    Comparable for equal features and equal numbers of images only: n images from the very
    distribution of n_real others score above 0. F independent Gaussian features of variance 1, for
    example, score F (F + 5) / 4 (1 / n + 1 / n_real) in the mean, to first order. Held-out images
    may be fewer than samples. So `floor` is to be compared with `fd_at_floor_n`, the distance of
    the first `floor_n` samples, and not with `fd`. Both are None where `floor_n` images are too
    few.
    """
    space = evaluation.feature_space
    fake, real = evaluation.generated_features, evaluation.split_features
    held_out = _held_out(evaluation)
    floor = space.floor("fd", frechet_distance, held_out, evaluation.split_name)
    distance = frechet_distance(fake, real)
    at_floor_n: float | None = distance
    if floor is None:
        at_floor_n = None
    elif len(held_out) < len(fake):
        at_floor_n = frechet_distance(fake[: len(held_out)], real)
    return {
        "fd": distance,
        "fd_at_floor_n": at_floor_n,
        "floor": floor,
        "n": len(fake),
        "floor_n": len(held_out),
        "n_real": len(real),
        **space.label(),
    }


def kid(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """The kernel distance KID, with its standard deviation over random subsets; lower is better.

    0 in the mean for equal distributions, whatever the number of samples, so that it compares with
    its `floor` though that may be of fewer images.
    """
    space = evaluation.feature_space
    fake, real = evaluation.generated_features, evaluation.split_features
    distance, deviation = _kernel_distance(fake, real)

    def mean_distance(fake: Tensor, real: Tensor) -> float:
        return _kernel_distance(fake, real)[0]

    held_out = _held_out(evaluation)
    return {
        "kid": distance,
        "kid_standard_deviation": deviation,
        "floor": space.floor("kid", mean_distance, held_out, evaluation.split_name),
        "n": len(fake),
        "floor_n": len(held_out),
        "n_real": len(real),
        **space.label(),
    }


def prdc(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """Precision and density: are samples like real images? Recall and coverage: the reverse.

    Of as many samples as real images, `n` = `n_real`, a random subset (constant seed) of those that
    are more. Among many more samples than real images even a bad model has some near each real one:
    its coverage is 1, where that of real images in equal number is 1 - 2^-k.
    """
    fake, real = evaluation.generated_features, evaluation.split_features
    size = min(len(fake), len(real))
    subsets = generator(CONSTANT_SEED, "subsets of equal size")
    fake = fake[torch.randperm(len(fake), generator=subsets)[:size]]
    real = real[torch.randperm(len(real), generator=subsets)[:size]]
    return {
        **coverage_scores(real, fake),
        "n": size,
        "n_real": size,
        **evaluation.feature_space.label(),
    }


def memorisation(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """Does a model copy training images? By distances in pixels of `evaluation.n` samples.

    `nearer_to_train`: the share of samples that are nearer to one of m training images than to any
    of m test images, m the same for both, with the binomial `standard_error`. Where these are
    exchangeable, 0.5 is without memory. The training split of a data set may differ from its test
    split (other writers, say), so `validation_nearer_to_train` is the same share of as many
    validation images (or all, if they are fewer), which nobody has memorised: more than that is
    memory. (`test_nearer_to_train` where the evaluation is on the validation split, whose images
    take the place of the test images.)

    `copies`: the share of samples that are nearer to any training image than COPY of what a test
    image is in the median. `real_copies`: the same of test images, which some data sets repeat.
    """
    train, split = evaluation.data.train, evaluation.split
    size = min(len(train), len(split))
    noise = generator(CONSTANT_SEED, "memorisation")
    fake = evaluation.generated.batch(slice(0, evaluation.n)).images
    real = split.subset(evaluation.n, noise).batch(slice(None)).images
    some_train = train.subset(size, noise)
    some_real = split.subset(size, noise)
    held_out = evaluation.held_out.subset(evaluation.n, noise).batch(slice(None)).images
    held_out_key = f"{evaluation.held_out_name}_nearer_to_train"

    fake_to_any = neighbours(fake, train, 1).distance[:, 0]
    real_to_any = neighbours(real, train, 1).distance[:, 0]
    near = COPY**2 * real_to_any.median()  # of squared distances
    return {
        "nearer_to_train": _share_nearer(fake, some_train, some_real),
        "standard_error": (0.25 / len(fake)) ** 0.5,
        held_out_key: _share_nearer(held_out, some_train, some_real),
        "copies": (fake_to_any < near).double().mean().item(),
        "real_copies": (real_to_any < near).double().mean().item(),
        "n": len(fake),
        "compared": size,
    }


def class_accuracy(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """Whether a conditional model makes what it is asked for, and not always the same image.

    As many samples of each class, at temperature 1. `accuracy`: the share that the reference
    classifier recognises as the class that was asked for. It alone can pass for a model that makes
    one good image of each class; so `diversity`: the root mean square distance between two samples
    of a class over that between two of its test images, in the classifier's features, averaged over
    the classes (1: as diverse, 0: all the same). `pixel_diversity` is the same in pixels; there the
    noise of the data counts, which mean images lack. Beside them the classifier's own accuracy on
    the test split and the checksum of its weights: other classifiers' numbers do not compare.
    """
    classifier = evaluation.require_classifier()
    fake = evaluation.generated_predictions
    real = ClassPredictions(classifier, evaluation.split)
    columns = {
        "accuracy": fake.predictions.by_class(),
        "diversity": fake.feature_diversity.distance() / real.feature_diversity.distance(),
        "pixel_diversity": fake.pixel_diversity.distance() / real.pixel_diversity.distance(),
    }
    classes = {}
    for index, name in enumerate(evaluation.classes):
        classes[name] = {column: values[index].item() for column, values in columns.items()}
    numbers = fake.predictions.numbers()
    return {
        "accuracy": numbers["accuracy"],
        "accuracy_standard_error": numbers["accuracy_standard_error"],
        "n": numbers["n"],
        "diversity": columns["diversity"].nanmean().item(),
        "pixel_diversity": columns["pixel_diversity"].nanmean().item(),
        "reference_accuracy": real.predictions.numbers()["accuracy"],
        "reference_crc32": checksum_of(classifier.state_dict()),
        "classes": classes,
    }


def class_shares(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """Of which classes a model's samples are, by the reference classifier.

    A conditional model is asked for all classes equally often. `entropy` of these shares and
    `real_entropy` of the test images' (at most log K), and `kl_to_real`, the KL divergence of the
    first from the second, 0 where they are the same; all in nats. `coverage`: the share of classes
    that are not MISSING.
    """
    classes, split = evaluation.classes, evaluation.split
    confusion = evaluation.generated_predictions.predictions.confusion
    shares = confusion.sum(dim=0).double() / evaluation.samples  # (K,)
    labels = split.labels[split.rows].cpu()
    expected = torch.bincount(labels, minlength=len(classes)).double() / len(split)  # (K,)
    by_class = {}
    for index, name in enumerate(classes):
        by_class[name] = {"samples": shares[index].item(), "real": expected[index].item()}
    return {
        "entropy": _entropy(shares),
        "real_entropy": _entropy(expected),
        "kl_to_real": -_entropy(shares) - torch.xlogy(shares, expected).sum().item(),
        "coverage": (shares >= MISSING * expected).double().mean().item(),
        "n": evaluation.samples,
        "reference_crc32": checksum_of(evaluation.require_classifier().state_dict()),
        "classes": by_class,
    }


def gan_train(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """The accuracy on test images of a classifier that was trained on the model's samples alone.

    Their labels are the classes that were asked for (Shmelkov et al. 2018, "How good is my GAN?";
    GAN-test is `class_accuracy`). `real_accuracy`: the same of a classifier that was trained on as
    many training images: the most to be expected.
    """
    fake = evaluation.generated
    real = evaluation.data.train.subset(len(fake), generator(CONSTANT_SEED, "drawn"))
    return {
        "accuracy": _accuracy_after_training_on(fake, evaluation),
        "real_accuracy": _accuracy_after_training_on(real, evaluation),
        "n": len(fake),
        "n_real": len(real),
    }


def _accuracy_after_training_on(images: ImageSet, evaluation: Evaluation) -> float:
    classifier = evaluation.train_classifier(images)
    predictions = predict(classifier, evaluation.split)
    return predictions.numbers()["accuracy"]


def _held_out(evaluation: Evaluation) -> ImageSet:
    """Held-out images for a floor: as many as samples, or all there are."""
    draws = generator(CONSTANT_SEED, "drawn")
    return evaluation.held_out.subset(evaluation.samples, draws)


def _share_nearer(images: Tensor, one: ImageSet, other: ImageSet) -> float:
    """The share of images (N, C, H, W) that are nearer to an image of one set than to any of the
    other; ties count half."""
    to_one = neighbours(images, one, 1).distance[:, 0]
    to_other = neighbours(images, other, 1).distance[:, 0]
    nearer = (to_one < to_other).double() + 0.5 * (to_one == to_other).double()
    return nearer.mean().item()


def _kernel_distance(fake: Tensor, real: Tensor) -> tuple[float, float]:
    subsets = generator(CONSTANT_SEED, "subsets")
    return kernel_distance(fake, real, subsets)


def _entropy(shares: Tensor) -> float:
    return -torch.xlogy(shares, shares).sum().item()
