"""Verdicts on generators: on planted images and on planted numbers."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.metrics.discriminator_diagnosis import (
    CONSTANT,
    OVERFITS,
    WINS,
    DiscriminatorDiagnosis,
)
from genmodels.metrics.discriminator_logits import discriminate
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.gan_diagnosis import (
    COLLAPSED,
    NOT_GENERATIVE,
    PARTLY,
    GANDiagnosis,
    diagnose,
    draw_images,
    quick_metrics,
    verdict_on,
)
from genmodels.metrics.sample_distances import fake_to_real, real_to_fake
from genmodels.metrics.verdict import HEALTHY
from genmodels.models.gan import GAN
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


def judged(unseen: float, train: float, **others: float) -> GANDiagnosis:
    """A diagnosis of diverse samples, with D's numbers."""
    return GANDiagnosis(
        1.0,
        0.0,
        discriminator=DiscriminatorDiagnosis(unseen, train, **{"logit_stddev": 1, **others}),
    )


@pytest.mark.parametrize(
    ("diagnosis", "label", "words"),
    [
        (judged(0.7, 0.75), HEALTHY, "in 75.0% of pairs"),
        (judged(0.6, 0.9), OVERFITS, "by heart"),
        (judged(0.99, 1.0), WINS, "learns little"),
        (judged(0.99, 1.0, saturates=False), HEALTHY, "in 100.0% of pairs"),
        (judged(0.5, 0.5, logit_stddev=0.001), CONSTANT, "D says the same of all images"),
        (
            replace(judged(0.6, 0.9), missing={"shirt": (0.001, 0.1)}),
            PARTLY,
            "shirt (0.1% of the samples, 10.0%",
        ),
        (GANDiagnosis(0.2, 0.0, {"shirt": (0.0, 0.1)}), COLLAPSED, "0.20 times"),
        (GANDiagnosis(0.9, 0.6), COLLAPSED, "60.0% of them have a near duplicate"),
        (
            GANDiagnosis(0.9, 0.0, fake_to_real=1.0, real_to_fake=1.3),
            PARTLY,
            "Many real images have no sample near them",
        ),
        (GANDiagnosis(0.9, 0.0, fake_to_real=1.05, real_to_fake=1.15), HEALTHY, "0.90 times"),
        (
            GANDiagnosis(0.01, 1.0, fake_to_real=3.0, real_to_fake=3.0),
            NOT_GENERATIVE,
            "3.0 times as far from the nearest real image as isolated real images (one in ten) are",
        ),
        (
            replace(judged(0.5, 0.5, logit_stddev=0.0), fake_to_real=3.0),
            NOT_GENERATIVE,
            "D says the same of all images (the standard deviation of its logits is 0)",
        ),
        (GANDiagnosis(0.9, 0.0), HEALTHY, "Nothing can be said of the discriminator"),
    ],
)
def test_verdicts_on_planted_numbers(diagnosis: GANDiagnosis, label: str, words: str) -> None:
    verdict = verdict_on(diagnosis)
    assert verdict.label == label and words in " ".join(verdict.sentences)


def gan(norm: str = "none", **others: int) -> GAN:
    torch.manual_seed(0)
    return GAN(
        image_shape=(1, 16, 16),
        latent_dim=4,
        generator_width=8,
        discriminator_width=8,
        generator_norm="batch",
        generator_blocks=0,
        discriminator_norm=norm,
        discriminator_blocks=0,
        **others,
    ).eval()


def blobs(count: int) -> torch.Tensor:
    """Smooth gray spots at random places, (N, 1, 16, 16) in [0, 1]."""
    noise = torch.Generator().manual_seed(0)
    center = 4 + 8 * torch.rand(count, 2, 1, 1, generator=noise)
    axis = torch.arange(16.0)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    squared = (rows - center[:, 0]) ** 2 + (columns - center[:, 1]) ** 2
    return (-squared / 8).exp()[:, None]


def test_noise_before_a_constant_discriminator_is_not_healthy() -> None:
    """An untrained G that makes diverse noise, and a D of whose logits nothing can be learned."""
    model = gan()
    with torch.no_grad():
        model.generator.body[-1].weight.mul_(1000)
        model.discriminator.head.weight.zero_()
    data = planted_data((blobs(400) * 255).to(torch.uint8))
    diagnosis = diagnose(model.generator, Evaluation(model, data), model.discriminator)
    assert diagnosis.diversity > 0.5 and diagnosis.near_duplicates < 0.1
    verdict = verdict_on(diagnosis)
    assert verdict.label == NOT_GENERATIVE
    assert "D says the same of all images" in verdict.sentences[1]
    assert "weaker penalty" in verdict.sentences[2]


def test_an_untrained_generator_has_not_collapsed() -> None:
    model = gan()
    data = planted_data((blobs(400) * 255).to(torch.uint8))
    diagnosis = diagnose(model.generator, Evaluation(model, data), model.discriminator)
    verdict = verdict_on(diagnosis)
    assert verdict.label == NOT_GENERATIVE
    assert verdict.sentences[0].startswith("It has not learned the images (yet)")
    assert "stronger penalty" not in " ".join(verdict.sentences)


def test_distances_between_samples_and_images() -> None:
    """Images on a line, one brightness apart; the distance of two of them is 8 times that."""
    step = 0.01
    real = (step * torch.arange(10.0)).view(10, 1, 1, 1).expand(10, 1, 8, 8)
    assert fake_to_real(real + 0.3 * step, real) == pytest.approx(0.3, abs=1e-5)
    assert fake_to_real(real[:1], real) == pytest.approx(0, abs=1e-4)  # one mode, in full
    assert real_to_fake(real[:1], real) == pytest.approx(4, abs=1e-4)
    assert math.isnan(fake_to_real(real, real[:1].expand(10, 1, 8, 8)))


def test_most_classes_missing_are_seen_without_a_classifier() -> None:
    noise = torch.Generator().manual_seed(0)
    centers = torch.rand(5, 1, 8, 8, generator=noise)
    classes = torch.arange(20_500) % 5
    images = centers[classes] * 0.8 + 0.2 * torch.rand(20_500, 1, 8, 8, generator=noise)
    data = planted_data((255 * images[:500]).to(torch.uint8))
    samples, classes = images[500:], classes[500:]

    def label(images: torch.Tensor) -> str:
        model = Replay(images)
        return verdict_on(diagnose(model, Evaluation(model, data))).label

    assert label(samples) == HEALTHY
    assert label(samples[classes < 2]) == PARTLY


def test_images_are_drawn_from_the_whole_split() -> None:
    """A split of dark images, followed by bright ones: the first 1,000 are dark."""
    brightness = torch.arange(4000) // 2000 * 255
    split = planted_data(brightness.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)).test
    images, _ = draw_images(split)
    assert len(images) == 1000 and images.mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.equal(images, draw_images(split).images)
    metrics = quick_metrics(Replay(split.batch(slice(None)).images), split)
    assert metrics["diversity"] == pytest.approx(1, abs=0.02) and metrics["n"] == 1000


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
        uses_batch_statistics = False

        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return images[:, 0, 0, 0]

    ones, halves = torch.ones(300, 1, 1, 1), torch.full((300, 1, 1, 1), 0.5)
    labels = torch.zeros(300, dtype=torch.long)

    def share(real: torch.Tensor, fake: torch.Tensor) -> float:
        return discriminate(First(), real, fake, labels).real_above_fake

    assert share(ones, halves) == 1 and share(halves, ones) == 0 and share(ones, ones) == 0.5
    assert discriminate(First(), ones, halves, labels).stddev == pytest.approx(0.25)
    assert discriminate(First(), ones, ones, labels).stddev == 0


def test_a_discriminator_with_batch_norm_is_asked_as_it_plays() -> None:
    """Real and generated images in separate batches, and without a trace in its buffers."""
    discriminator = gan("batch").discriminator
    real, fake = blobs(120), 1 - blobs(120)
    labels = torch.full((120,), -1)
    before = copy.deepcopy(discriminator.state_dict())
    logits = discriminate(discriminator, real, fake, labels)
    after = discriminator.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not discriminator.training
    discriminator.train()
    with torch.no_grad():
        torch.testing.assert_close(logits.real, discriminator(real, labels))
        torch.testing.assert_close(logits.fake, discriminator(fake, labels))
        evaluated = discriminator.eval()(real, labels)
    assert not torch.allclose(logits.real, evaluated)
