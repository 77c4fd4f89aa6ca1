"""Scores of samples: memorisation, distances with their floors, features, and GAN-train."""

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import Tensor

from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.metrics import features, sample_quality
from genmodels.metrics.distances import frechet_distance
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.features import FeatureSpace
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
    assert copied["real_copies"] == 0 and copied["n"] == 500
    new = memorisation(data, others)
    assert new["copies"] == 0 and abs(new["nearer_to_train"] - 0.5) < 3 * new["standard_error"]
    half = memorisation(data, torch.stack([train, others], dim=1).flatten(0, 1))
    assert half["copies"] == 0.5 and half["nearer_to_train"] == pytest.approx(0.75, abs=0.05)


def test_memorisation_is_read_against_validation_images() -> None:
    """Training and validation images are darker than test images, so 0.5 is no reference."""
    data, others = planted()
    images = data.train.images.clone()
    images[: 2 * 600] //= 2
    dark_train = ImageSet(images, data.train.labels, data.train.rows)
    dark_validation = replace(dark_train, rows=data.validation.rows)
    dark = replace(data, train=dark_train, validation=dark_validation)
    learned = memorisation(dark, others // 2)
    assert learned["nearer_to_train"] > 0.9 and learned["copies"] == 0
    validation = learned["validation_nearer_to_train"]
    assert validation == pytest.approx(learned["nearer_to_train"], abs=0.05)


def test_without_memory_validation_images_are_as_near_to_train_as_samples() -> None:
    data, others = planted()
    new, copied = memorisation(data, others), memorisation(data, data.train.images[:600])
    for metrics in (new, copied):
        assert abs(metrics["validation_nearer_to_train"] - 0.5) < 3 * metrics["standard_error"]
    model = Replay(others)
    on_validation = Evaluation(model, data, split="validation", samples=600, n=500)
    metrics = sample_quality.memorisation(model, on_validation)
    assert abs(metrics["test_nearer_to_train"] - 0.5) < 3 * metrics["standard_error"]


def gaussian_images(count: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """(count, 1, 4, 4) uint8: 16 independent Gaussian pixels."""
    noise = torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return (128 + 20 * (scale * noise + shift)).round().clamp(0, 255).to(torch.uint8)


def standard_normal_features(data: ImageData) -> FeatureSpace:
    """The pixels of `gaussian_images` in units of their standard deviation."""

    def extract(images: Tensor) -> Tensor:
        return (255 * images.flatten(1) - 128) / 20

    return FeatureSpace("gaussian", "", extract, data)


def gaussian_data(validation: int = 200) -> ImageData:
    """Images of N(0, I): 359 test images, as the digits have."""
    sizes = [500, validation, 359]
    images = gaussian_images(sum(sizes), seed=0)
    labels = torch.full((len(images),), -1)
    rows = torch.arange(len(images)).split(sizes)
    train, held_out, test = (ImageSet(images, labels, split) for split in rows)
    return ImageData(ImageSpec("gaussian", (1, 4, 4)), train, held_out, test)


def evaluation_in_gaussians(images: Tensor, data: ImageData, split: str = "test") -> Evaluation:
    space = standard_normal_features(data)
    model = Replay(images)
    samples = len(images)
    return Evaluation(model, data, split=split, samples=samples, feature_space=lambda: space)


def test_coverage_is_of_equal_numbers() -> None:
    """With 10,000 samples against 359 images it would be 1 for both."""
    same = evaluation_in_gaussians(gaussian_images(10_000, seed=1), gaussian_data())
    scores = sample_quality.prdc(same.model, same)
    assert scores["n"] == scores["n_real"] == 359
    missed = 1.0  # the five nearest of 358 real images and 359 samples are all real
    for k in range(1, 6):
        missed *= (359 - k) / (2 * 359 - k)
    assert scores["coverage"] == pytest.approx(1 - missed, abs=0.02)
    worse_images = gaussian_images(10_000, seed=2, scale=0.8, shift=0.3)
    worse = evaluation_in_gaussians(worse_images, gaussian_data())
    assert sample_quality.prdc(worse.model, worse)["coverage"] < 1 - missed - 0.02


def test_of_a_large_split_some_images_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones in each call, and in each process."""
    monkeypatch.setattr("genmodels.metrics.features.MAX_REAL_IMAGES", 300)
    evaluation = evaluation_in_gaussians(gaussian_images(400, seed=1), gaussian_data())
    assert sample_quality.fd(evaluation.model, evaluation)["n_real"] == 300
    drawn = evaluation.split_features
    assert torch.equal(drawn, standard_normal_features(gaussian_data()).real("test"))
    whole = standard_normal_features(gaussian_data()).features_of(gaussian_data().test)
    assert torch.isin(drawn, whole).all()


def bias_of_fd(n: int, n_real: int) -> float:
    """What the same standard normal distribution scores in 16 dimensions."""
    return 16 * (16 + 5) / 4 * (1 / n + 1 / n_real)


def test_the_floor_is_of_held_out_images_and_compares_at_their_number() -> None:
    data = gaussian_data()
    evaluation = evaluation_in_gaussians(gaussian_images(5000, seed=1), data)
    fd = sample_quality.fd(evaluation.model, evaluation)
    assert (fd["n"], fd["floor_n"], fd["n_real"]) == (5000, 200, 359)
    real = evaluation.feature_space.real("test")
    validation = evaluation.feature_space.real("validation")
    assert fd["floor"] == pytest.approx(frechet_distance(validation, real))
    first = evaluation.generated_features[:200]
    assert fd["fd_at_floor_n"] == pytest.approx(frechet_distance(first, real))
    assert fd["fd"] == pytest.approx(bias_of_fd(5000, 359), rel=0.25)
    for of_200 in ("floor", "fd_at_floor_n"):
        assert fd[of_200] == pytest.approx(bias_of_fd(200, 359), rel=0.25)
    kid = sample_quality.kid(evaluation.model, evaluation)
    assert kid["floor_n"] == 200
    assert abs(kid["floor"] - kid["kid"]) < 3 * kid["kid_standard_deviation"]


def test_training_images_do_not_change_the_floor() -> None:
    """Features may be fitted to them."""
    data = gaussian_data()
    floors = []
    for train in (data.train, data.validation):
        evaluation = evaluation_in_gaussians(gaussian_images(300, 1), replace(data, train=train))
        floors.append(sample_quality.fd(evaluation.model, evaluation)["floor"])
    assert floors[0] == floors[1]


def test_on_the_validation_split_the_floor_is_of_test_images() -> None:
    images = gaussian_images(300, seed=1)
    evaluation = evaluation_in_gaussians(images, gaussian_data(), split="validation")
    fd = sample_quality.fd(evaluation.model, evaluation)
    assert (fd["floor_n"], fd["n_real"]) == (300, 200)
    assert fd["fd_at_floor_n"] == fd["fd"]


def test_too_few_held_out_images_give_no_floor() -> None:
    evaluation = evaluation_in_gaussians(gaussian_images(300, 1), gaussian_data(validation=10))
    fd = sample_quality.fd(evaluation.model, evaluation)
    assert fd["floor"] is None and fd["fd_at_floor_n"] is None and fd["fd"] > 0
    assert sample_quality.kid(evaluation.model, evaluation)["floor"] is not None


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
    noise = model.prior.sample(3, generator=generator(5, "scored samples"))
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
    package = ModuleType("torch_fidelity")
    package.__spec__ = ModuleSpec("torch_fidelity", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity", package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    data, _ = planted(60)
    first_pixels = data.test.images[data.test.rows][:, 0, 0, 0].double()
    expected = first_pixels[:, None].expand(-1, 3)
    assert torch.equal(features.of_inception(data).real("test"), expected)
