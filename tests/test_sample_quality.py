"""Scores of samples: memorisation, distances with their floors, features, and GAN-train."""

import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.metrics import features, sample_quality
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.classifier import Classifier
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import generator


class Replay(GenerativeModel):
    """Shows given images in turn, whatever the noise, and records it."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(images.shape[1:], 2)
        self.images = images.float() / 255
        self.noise: list[Tensor] = []

    @property
    def device(self) -> torch.device:
        return self.images.device

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        start = sum(map(len, self.noise))
        self.noise.append(z)
        return self.images[torch.arange(start, start + len(z)) % len(self.images)]


def planted(count: int = 600, classes: tuple[str, ...] = ()) -> tuple[ImageData, Tensor]:
    """Noise as training, validation and test images, and as much that is in none of them."""
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4 * count, 1, 8, 8), generator=noise, dtype=torch.uint8)
    labels = torch.full((len(images),), -1)
    if classes:
        labels = torch.arange(len(images)) % len(classes)
    *rows, others = torch.arange(len(images)).split(count)
    train, validation, test = (ImageSet(images, labels, split) for split in rows)
    spec = ImageSpec("planted", (1, 8, 8), classes)
    return ImageData(spec, train, validation, test), images[others]


def memorisation(data: ImageData, images: Tensor) -> dict[str, float]:
    model = Replay(images)
    return sample_quality.memorisation(model, Evaluation(model, data, samples=600, n=500))


def test_memorisation_of_planted_models() -> None:
    data, others = planted()
    train = data.train.images[data.train.rows]
    copied = memorisation(data, train)
    assert copied["copies"] == copied["nearer_to_train"] == 1
    assert copied["test_copies"] == 0 and copied["n"] == 500
    new = memorisation(data, others)
    assert new["copies"] == 0 and abs(new["nearer_to_train"] - 0.5) < 3 * new["standard_error"]
    half = memorisation(data, torch.stack([train, others], dim=1).flatten(0, 1))
    assert half["copies"] == 0.5 and half["nearer_to_train"] == pytest.approx(0.75, abs=0.05)


def test_scores_state_their_features_and_their_floor() -> None:
    data, others = planted()
    space = features.of_pixels(data)
    model = Replay(others)
    evaluation = Evaluation(model, data, samples=600, feature_space=lambda: space)
    fd = sample_quality.fd(model, evaluation)
    assert fd["features"].items() >= {"name": "pixels", "crc32": space.checksum}.items()
    assert (fd["n"], fd["n_real"]) == (600, 600) and space.real("test").shape == (600, 64)
    assert fd["fd"] == pytest.approx(fd["floor"], rel=0.1)  # as good as real images
    kid = sample_quality.kid(model, evaluation)
    assert abs(kid["kid"]) < 3 * kid["kid_standard_deviation"]
    prdc = sample_quality.prdc(model, evaluation)
    assert prdc.keys() >= {"precision", "recall", "density", "coverage"}
    assert fd["features"] == kid["features"] == prdc["features"]
    assert sum(map(len, model.noise)) == 600  # they were made once

    dark = Replay(others // 2)
    evaluation = Evaluation(dark, data, samples=600, feature_space=lambda: space)
    assert sample_quality.fd(dark, evaluation)["fd"] > 10 * fd["fd"]


def test_the_checksum_of_features_tells_what_they_were_fitted_to() -> None:
    data, _ = planted()
    checksum = features.of_pixels(data).checksum
    assert features.of_pixels(data).checksum == checksum
    assert features.of_pixels(planted(300)[0]).checksum != checksum


def test_principal_components_are_those_of_the_covariance() -> None:
    data, _ = planted()
    pixels = data.train.images[data.train.rows].flatten(1).double() / 255
    variances = torch.linalg.eigvalsh(torch.cov(pixels.T)).flip(0)[:64]
    components = features.of_pixels(data).real("train")
    torch.testing.assert_close(components.var(dim=0), variances, rtol=1e-4, atol=1e-7)


def test_the_same_seed_makes_the_same_samples() -> None:
    data, others = planted(60)
    model = Replay(others)
    assert len(Evaluation(model, data, samples=3, seed=5).generated) == 3
    noise = model.prior.sample(3, generator=generator(5, "judged samples"))
    assert torch.equal(model.noise[0], noise)


def test_gan_train_trains_on_samples_and_on_as_many_images() -> None:
    data, others = planted(classes=("a", "b"))
    trained_on = []

    def train_classifier(images: ImageSet) -> Classifier:
        trained_on.append(images)
        sizes = {"widths": [4], "hidden": 4, "dropout": 0.0}
        return Classifier(image_shape=(1, 8, 8), num_classes=2, **sizes).eval()

    model = Replay(others)
    evaluation = Evaluation(model, data, samples=50, train_classifier=train_classifier)
    metrics = sample_quality.gan_train(model, evaluation)
    assert metrics["n"] == metrics["n_real"] == 50
    assert 0.3 < metrics["accuracy"] < 0.7 and 0.3 < metrics["real_accuracy"] < 0.7
    samples, real = trained_on
    assert torch.equal(samples.images, others[:50])
    assert torch.equal(samples.labels, torch.arange(50) % 2)
    assert len(real) == 50 and set(real.rows.tolist()) <= set(data.train.rows.tolist())


def test_inception_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    message = "features=inception: needs torch-fidelity: uv sync --extra inception"
    with pytest.raises(ValueError, match=message):
        features.of_inception(planted(60)[0])


class Extractor(torch.nn.Module):
    """Inception as torch-fidelity has it; the package, its network and weights are not here."""

    def __init__(self, name: str, layers: list[str]) -> None:
        super().__init__()
        assert layers == ["2048"]

    def forward(self, images: Tensor) -> tuple[Tensor]:
        assert images.dtype == torch.uint8 and images.shape[1] == 3
        return (images[:, :, 0, 0].float(),)


def test_inception_gets_three_channels_of_256_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    data, _ = planted(60)
    first_pixels = data.test.images[data.test.rows][:, 0, 0, 0].double()
    expected = first_pixels[:, None].expand(-1, 3)
    assert torch.equal(features.of_inception(data).real("test"), expected)
