"""Metrics by a classifier's word: classes that models make, diversity, predictions counted."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from genmodels.data.images import ImageData, ImageSet, ImageSpec, to_float
from genmodels.metrics import sample_quality
from genmodels.metrics.accuracy import accuracy
from genmodels.metrics.diversity import ClassDiversity
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.features import of_pixels
from genmodels.metrics.predictions import predict
from genmodels.models.classifier import Classifier
from genmodels.models.generative import GenerativeModel
from genmodels.scoring import make_score, quantities_to_score

CLASSES = ("a", "b", "c", "d")
PER_CLASS = 100
Choose = Callable[[Tensor, Tensor], Tensor]  # (z, labels) -> rows of test images


class FirstPixelClassifier(Classifier):
    """Reads the class from the first pixel; the features are the pixels."""

    def __init__(self, confidence: float = 20.0) -> None:
        super().__init__(
            image_shape=(1, 4, 4), num_classes=len(CLASSES), widths=[1], hidden=1, dropout=0.0
        )
        self.confidence = confidence

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def classify(self, features: Tensor) -> Categorical:
        classes = (features[:, 0] * 255).round().long()
        return Categorical(logits=self.confidence * nn.functional.one_hot(classes, len(CLASSES)))


@pytest.fixture(scope="module")
def data() -> ImageData:
    """Noise images of each class in turn, which the first pixel tells."""
    count = len(CLASSES) * PER_CLASS
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 4, 4), dtype=torch.uint8, generator=noise)
    labels = torch.arange(count) % len(CLASSES)
    images[:, 0, 0, 0] = labels.to(torch.uint8)
    split = ImageSet(images, labels, torch.arange(count))
    return ImageData(ImageSpec("planted", (1, 4, 4), CLASSES), split, split, split)


class TestImages(GenerativeModel):
    """Gives the test images that `choose` picks."""

    __test__ = False

    def __init__(self, data: ImageData, choose: Choose) -> None:
        super().__init__((1, 4, 4), latent_dim=1, num_classes=len(CLASSES))
        self.data, self.choose = data, choose

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        return to_float(self.data.test.images[self.choose(z, labels)])


def evaluation_of(data: ImageData, choose: Choose, samples: int) -> Evaluation:
    model = TestImages(data, choose)
    return Evaluation(model, data, classifier=FirstPixelClassifier, samples=samples)


def any_image(z: Tensor) -> Tensor:
    """Rows of images of class 0, by the noise."""
    return (z.flatten() * 1e5).long() % PER_CLASS * len(CLASSES)


def what_is_asked_for(z: Tensor, labels: Tensor) -> Tensor:
    return any_image(z) + labels


def one_image_of_each_class(z: Tensor, labels: Tensor) -> Tensor:
    return labels


def any_class(z: Tensor, labels: Tensor) -> Tensor:
    return any_image(z) + z.abs().flatten().mul(1e3).long() % len(CLASSES)


@pytest.mark.parametrize(
    ("choose", "right", "diversity"),
    [
        (what_is_asked_for, 1.0, 1.0),
        (one_image_of_each_class, 1.0, 0.0),
        (any_class, 1 / len(CLASSES), 1.0),
    ],
)
def test_class_accuracy_of_planted_models(
    choose: Choose, right: float, diversity: float, data: ImageData
) -> None:
    evaluation = evaluation_of(data, choose, samples=4000)
    metrics = sample_quality.class_accuracy(evaluation.model, evaluation)
    assert metrics["accuracy"] == pytest.approx(right, abs=0.03)
    assert metrics["n"] == 4000 and metrics["reference_accuracy"] == 1
    assert metrics["diversity"] == pytest.approx(diversity, abs=0.02)
    assert metrics["pixel_diversity"] == pytest.approx(diversity, abs=0.02)
    assert tuple(metrics["classes"]) == CLASSES
    assert metrics["classes"]["b"]["accuracy"] == pytest.approx(right, abs=0.06)


@pytest.mark.parametrize(("choose", "right"), [(what_is_asked_for, 1.0), (any_class, 0.25)])
def test_runs_score_class_accuracy(choose: Choose, right: float, data: ImageData) -> None:
    model = TestImages(data, choose)
    assert quantities_to_score(model, "classifier", None) == ["fd", "kid", "class_accuracy"]
    names = quantities_to_score(model, None, "class_accuracy")
    assert names == ["class_accuracy"]
    score = make_score(names, data, lambda: of_pixels(data), FirstPixelClassifier)
    assert score(model) == {"class_accuracy": pytest.approx(right, abs=0.04)}


def test_only_conditional_models_have_a_class_accuracy() -> None:
    unconditional = GenerativeModel((1, 4, 4), latent_dim=1)
    assert quantities_to_score(unconditional, "classifier", None) == ["fd", "kid"]


def class_shares(data: ImageData, choose: Choose) -> dict:
    evaluation = evaluation_of(data, choose, samples=1000)
    return sample_quality.class_shares(evaluation.model, evaluation)


def test_shares_of_all_classes(data: ImageData) -> None:
    shares = class_shares(data, what_is_asked_for)
    assert shares["entropy"] == shares["real_entropy"] == pytest.approx(math.log(4))
    assert shares["kl_to_real"] == pytest.approx(0, abs=1e-9)
    assert shares["coverage"] == 1


def test_shares_of_half_of_the_classes(data: ImageData) -> None:
    shares = class_shares(data, lambda z, labels: labels % 2)
    assert shares["coverage"] == 0.5
    assert shares["entropy"] == pytest.approx(math.log(2))
    assert shares["kl_to_real"] == pytest.approx(math.log(2))
    assert shares["classes"]["a"] == {"samples": 0.5, "real": 0.25}
    assert shares["classes"]["c"]["samples"] == 0


def test_diversity_from_sums_is_that_of_all_pairs() -> None:
    torch.manual_seed(0)
    values, labels = 3 + torch.randn(90, 5), torch.arange(90) % 3
    diversity = ClassDiversity(5)
    for rows in torch.arange(90).split(40):
        diversity.add(values[rows], labels[rows])
    diversity.add(torch.ones(1, 5), torch.tensor([4]))
    distances = diversity.distance()
    for label in range(3):
        pairs = nn.functional.pdist(values[labels == label].double())
        torch.testing.assert_close(distances[label], pairs.square().mean().sqrt())
    assert distances[3:].isnan().all()  # of no member, and of one


def test_predictions_are_counted(data: ImageData) -> None:
    """A classifier that is half right: images of classes 2 and 3 look like 0 and 1."""
    images = data.test.images.clone()
    images[:, 0, 0, 0] %= 2
    split = ImageSet(images, data.test.labels, data.test.rows)
    classifier = FirstPixelClassifier(confidence=1.0)
    predictions = predict(classifier, split)
    expected = torch.zeros(4, 4, dtype=torch.long)
    expected[[0, 1, 2, 3], [0, 1, 0, 1]] = PER_CLASS
    assert torch.equal(predictions.confusion, expected)
    assert predictions.by_class().tolist() == [1, 1, 0, 0]
    evaluation = Evaluation(classifier, ImageData(data.spec, split, split, split))
    metrics = accuracy(classifier, evaluation)
    assert metrics["accuracy"] == 0.5 and metrics["n"] == 400
    assert metrics["accuracy_standard_error"] == pytest.approx(0.025)
    assert metrics["nll"] == pytest.approx(math.log(math.e + 3) - 0.5, rel=1e-6)
