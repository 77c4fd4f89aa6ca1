"""Verdicts on generators: on planted images and on planted numbers."""

from collections.abc import Mapping

import pytest
import torch

from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.gan_diagnosis import (
    COLLAPSED,
    OVERFITS,
    PARTLY,
    WINS,
    GANDiagnosis,
    diagnose,
    real_above_fake,
    verdict_on,
)
from genmodels.metrics.verdict import HEALTHY
from genmodels.models.generative import GenerativeModel


def planted_data(
    images: torch.Tensor, labels: torch.Tensor | None = None, classes: tuple[str, ...] = ()
) -> ImageData:
    labels = torch.full((len(images),), -1) if labels is None else labels
    split = ImageSet(images, labels, torch.arange(len(images)))
    return ImageData(ImageSpec("planted", tuple(images.shape[1:]), classes), split, split, split)


class Replay(GenerativeModel):
    """A generator that shows given images, whatever the noise."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__(images.shape[1:], 4)
        self.images = torch.nn.Parameter(images, requires_grad=False)

    def generate(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Image number n for z whose first value is in the n-th of equal shares of N(0, 1)."""
        share = torch.distributions.Normal(0, 1).cdf(z[:, 0])
        return self.images[(share * len(self.images)).long().clamp(max=len(self.images) - 1)]


def test_verdicts_on_planted_generators() -> None:
    noise = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (300, 1, 8, 8), generator=noise, dtype=torch.uint8)
    data = planted_data(real)

    def label(images: torch.Tensor) -> str:
        model = Replay(images)
        return verdict_on(diagnose(model, Evaluation(model, data))).label

    floats = torch.rand(100_000, 1, 8, 8, generator=noise)
    assert label(floats) == HEALTHY
    assert label(torch.full((1, 1, 8, 8), 0.5)) == COLLAPSED  # constant
    assert label(0.5 + 0.1 * (floats - 0.5)) == COLLAPSED  # hardly any diversity
    assert label(floats[:20]) == COLLAPSED  # twenty images over and over
    model = Replay(real.float() / 255)
    assert diagnose(model, Evaluation(model, data)).diversity == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("diagnosis", "label", "words"),
    [
        (
            GANDiagnosis(1.0, 0.0, real_above_fake=0.7, real_above_fake_train=0.75),
            HEALTHY,
            "in 75.0% of pairs",
        ),
        (
            GANDiagnosis(1.0, 0.0, real_above_fake=0.6, real_above_fake_train=0.9),
            OVERFITS,
            "by heart",
        ),
        (
            GANDiagnosis(1.0, 0.0, real_above_fake=0.99, real_above_fake_train=1.0),
            WINS,
            "learns little",
        ),
        (
            GANDiagnosis(1.0, 0.0, {"shirt": (0.001, 0.1)}, 0.6, 0.9),
            PARTLY,
            "shirt (0.1% of the samples, 10.0%",
        ),
        (
            GANDiagnosis(0.2, 0.0, {"shirt": (0.0, 0.1)}),
            COLLAPSED,
            "0.20 times",
        ),
        (GANDiagnosis(0.9, 0.6), COLLAPSED, "60.0% of them have a near duplicate"),
        (
            GANDiagnosis(0.9, 0.0),
            HEALTHY,
            "Nothing can be said of the discriminator",
        ),
    ],
)
def test_verdicts_on_planted_numbers(diagnosis: GANDiagnosis, label: str, words: str) -> None:
    verdict = verdict_on(diagnosis)
    assert verdict.label == label and words in " ".join(verdict.sentences)


def test_missing_classes_are_named() -> None:
    """By a classifier that reads the class from the brightness."""

    class Brightness(torch.nn.Module):
        num_classes = 2

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((1, 2, 3))[:, None]

        def classify(self, features: torch.Tensor) -> torch.distributions.Categorical:
            return torch.distributions.Categorical(
                logits=torch.cat([0.5 - features, features - 0.5], dim=1) * 100
            )

    noise = torch.Generator().manual_seed(0)
    dark, bright = (
        torch.randint(low, low + 128, (200, 1, 8, 8), generator=noise, dtype=torch.uint8)
        for low in (0, 128)
    )
    data = planted_data(torch.cat([dark, bright]), torch.arange(400) // 200, ("dark", "bright"))
    both = torch.cat([dark, bright]).float() / 255 + 0.001 * torch.rand(
        400, 1, 8, 8, generator=noise
    )

    def missing(images: torch.Tensor) -> Mapping[str, tuple[float, float]]:
        model = Replay(images)
        return diagnose(model, Evaluation(model, data, classifier=Brightness)).missing

    assert missing(both) == {}
    assert missing(both[:200]) == {"bright": (0.0, 0.5)}


def test_pairs_told_apart() -> None:
    class First(torch.nn.Module):
        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return images[:, 0, 0, 0]

    ones, halves = torch.ones(300, 1, 1, 1), torch.full((300, 1, 1, 1), 0.5)
    labels = torch.zeros(300, dtype=torch.long)
    assert real_above_fake(First(), ones, halves, labels) == 1
    assert real_above_fake(First(), halves, ones, labels) == 0
    assert real_above_fake(First(), ones, ones, labels) == 0.5
