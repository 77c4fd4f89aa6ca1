"""Scores of samples: distances between sets of features on cases that are known on paper, memory, selection by them."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import SMALL, rows, summary, train_in, write_pictures
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from genmodels import judge, safetensors_io
from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.errors import TooFewError
from genmodels.metrics import features, sample_quality
from genmodels.metrics.distances import (
    coverage_scores,
    frechet_distance,
    kernel_distance,
    radii,
    squared_discrepancy,
)
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.classifier import Classifier
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import generator
from genmodels.validation import UserError


def gaussian(count: int, units: int, seed: int = 0) -> Tensor:
    return torch.randn(
        count, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def whitened(count: int, units: int, seed: int = 0) -> Tensor:
    """Features whose mean is 0 and whose covariance is the unit matrix, exactly."""
    centred = gaussian(count, units, seed)
    orthogonal, _ = torch.linalg.qr(centred - centred.mean(dim=0))
    return orthogonal * math.sqrt(count - 1)


def test_frechet_distance_between_known_gaussians() -> None:
    unit, shift = whitened(300, 4), torch.tensor([1.0, -2, 0, 0.5], dtype=torch.float64)
    scale = torch.tensor([0.5, 1, 2, 3], dtype=torch.float64)
    rotation, _ = torch.linalg.qr(gaussian(4, 4, seed=2))
    assert frechet_distance(unit, unit) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(unit, unit + shift) == pytest.approx(5.25)
    expected = ((1 - scale) ** 2).sum().item()  # of commuting covariances: between their roots
    assert frechet_distance(unit, unit * scale) == pytest.approx(expected)
    both = frechet_distance(unit * scale @ rotation, (unit * scale.flip(0) + shift) @ rotation)
    assert both == pytest.approx(((scale - scale.flip(0)) ** 2).sum().item() + 5.25)
    one, other = (
        gaussian(60, 5) @ gaussian(5, 5, seed=3),
        gaussian(80, 5, seed=4),
    )  # that do not commute
    product = torch.linalg.eigvals(torch.cov(one.T) @ torch.cov(other.T)).real.sqrt().sum()
    expected = (
        ((one.mean(0) - other.mean(0)) ** 2).sum()
        + torch.cov(one.T).trace()
        + torch.cov(other.T).trace()
    )
    assert frechet_distance(one, other) == pytest.approx((expected - 2 * product).item())


def test_kernel_distance_is_unbiased_and_exact_for_constants() -> None:
    found = torch.tensor(
        [
            squared_discrepancy(gaussian(20, 3, 2 * seed), gaussian(20, 3, 2 * seed + 1))
            for seed in range(600)
        ]
    )
    assert abs(found.mean()) < 3 * found.std() / 600**0.5 and found.min() < 0 < found.max()
    one, other = torch.ones(5, 2).double(), 2 * torch.ones(5, 2).double()
    assert squared_discrepancy(one, other) == pytest.approx(2**3 + 5**3 - 2 * 3**3)
    mean, spread = kernel_distance(one, other, torch.Generator())
    assert mean == pytest.approx(79) and spread == pytest.approx(0)


class Identity(torch.nn.Module):
    """Features that are the images themselves, as torchmetrics wants a network."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_agreement_with_torchmetrics() -> None:
    real, fake = gaussian(90, 12), 1.3 * gaussian(70, 12, seed=1) + 0.2
    fid = FrechetInceptionDistance(feature=Identity(), normalize=True).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=70, normalize=True)
    for metric in (fid, kid):
        metric.update(
            real.view(-1, 3, 2, 2)[:70] if metric is kid else real.view(-1, 3, 2, 2), real=True
        )
        metric.update(fake.view(-1, 3, 2, 2), real=False)
    assert frechet_distance(real, fake) == pytest.approx(fid.compute().item(), abs=1e-4)
    assert squared_discrepancy(real[:70], fake) == pytest.approx(kid.compute()[0].item(), abs=1e-4)


def test_coverage_scores_of_planted_sets() -> None:
    one, other = gaussian(120, 3), gaussian(120, 3, seed=1)
    same = coverage_scores(one, one, k=5)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    far = coverage_scores(one, one + 1000)
    assert set(far.values()) == {0.0}
    two = coverage_scores(
        torch.cat([one, one + 1000]), torch.cat([other, other]) + 0
    )  # half of the real ones
    assert two["recall"] < 0.5 and two["coverage"] < 0.5 and two["precision"] > 0.8
    many = coverage_scores(gaussian(3000, 3), gaussian(3000, 3, seed=1))
    assert many["density"] == pytest.approx(1, abs=0.05) and many["coverage"] == pytest.approx(
        1 - 2**-5, abs=0.02
    )


def test_coverage_scores_are_those_of_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake, k = gaussian(50, 2), gaussian(40, 2, seed=1) + 0.5, 3
    near = {
        name: torch.cdist(some, some).sort(dim=1).values[:, k]
        for name, some in (("r", real), ("f", fake))
    }
    between = torch.cdist(real, fake)
    expected = {
        "precision": (between <= near["r"][:, None]).any(0),
        "recall": (between <= near["f"]).any(1),
        "density": (between <= near["r"][:, None]).sum(0) / k,
        "coverage": between.amin(dim=1) <= near["r"],
    }
    for compared in (8_000_000, 90):  # all at once, and one or two rows at a time
        monkeypatch.setattr("genmodels.metrics.distances.COMPARED", compared)
        found = coverage_scores(real, fake, k)
        assert found == pytest.approx(
            {name: value.double().mean().item() for name, value in expected.items()}
        )
        torch.testing.assert_close(radii(real, k).sqrt(), near["r"])


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (lambda a, b: frechet_distance(a, b), "samples=4: must be more than 8"),
        (
            lambda a, b: kernel_distance(a[:1], b, torch.Generator()),
            "samples=1: must be more than 3",
        ),
        (lambda a, b: coverage_scores(b, a), "samples=4: must be more than 5"),
    ],
)
def test_too_few_are_refused(score: Callable, words: str) -> None:
    with pytest.raises(TooFewError, match=words):
        score(gaussian(4, 8), gaussian(40, 8))


class Replay(GenerativeModel):
    """Shows given images in turn, whatever the noise; with labels, of the class that is asked for if it can."""

    def __init__(self, images: Tensor) -> None:
        super().__init__(images.shape[1:], 2)
        self.images = torch.nn.Parameter(images.float() / 255, requires_grad=False)
        self.next = 0

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        places = torch.arange(self.next, self.next + len(z)) % len(self.images)
        self.next += len(z)
        return self.images[places]


def planted(count: int = 600, classes: tuple[str, ...] = ()) -> tuple[ImageData, Tensor]:
    """Noise as training, validation and test images, a third each, and as much that is in none of them."""
    noise = torch.randint(
        0, 256, (4 * count, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    labels = torch.arange(len(noise)) % len(classes) if classes else torch.full((len(noise),), -1)
    train, validation, test, rest = torch.arange(len(noise)).split(count)
    parts = [ImageSet(noise, labels, part) for part in (train, validation, test)]
    return ImageData(ImageSpec("planted", (1, 8, 8), classes), *parts), noise[rest]


def test_memory_of_a_model_that_copies_and_of_one_that_does_not() -> None:
    data, others = planted()
    train = data.train.images[data.train.rows]
    copied = sample_quality.memorisation(Replay(train), Evaluation(data, samples=600, n=500))
    assert (
        copied["copies"] == copied["nearer_to_train"] == 1
        and copied["test_copies"] == 0
        and copied["n"] == 500
    )
    new = sample_quality.memorisation(Replay(others), Evaluation(data, samples=600, n=500))
    assert new["copies"] == 0 and abs(new["nearer_to_train"] - 0.5) < 3 * new["standard_error"]
    half = torch.stack([train, others], dim=1).flatten(0, 1)
    partly = sample_quality.memorisation(Replay(half), Evaluation(data, samples=600))
    assert partly["copies"] == 0.5 and partly["nearer_to_train"] == pytest.approx(0.75, abs=0.05)


def test_scores_say_what_saw_the_images_and_what_floor_they_have() -> None:
    data, others = planted()
    space = features.of_pixels(data)
    evaluation = Evaluation(data, samples=600, features=lambda: space)
    model = Replay(others)
    found = sample_quality.fd(model, evaluation)
    assert found["seen_by"].items() >= {"features": "pixels", "crc32": space.checksum}.items()
    assert (found["n"], found["n_real"]) == (600, 600) and space.test.shape == (600, 64)
    assert found["fd"] == pytest.approx(found["floor"], rel=0.1)  # as good as real images
    kid = sample_quality.kid(model, evaluation)
    assert abs(kid["kid"]) < 3 * kid["kid_spread"] and kid["seen_by"] == found["seen_by"]
    assert sample_quality.prdc(model, evaluation).keys() >= {
        "precision",
        "recall",
        "density",
        "coverage",
        "seen_by",
    }
    assert model.next == 600  # they were made once
    dark = sample_quality.fd(
        Replay(others // 2), Evaluation(data, samples=600, features=lambda: space)
    )
    assert dark["fd"] > 10 * found["fd"]
    assert features.of_pixels(data).checksum == space.checksum
    half = features.of_pixels(planted(300)[0])
    assert half.checksum != space.checksum


def test_principal_components_are_those_of_the_covariance() -> None:
    data, _ = planted()
    pixels = data.train.images[data.train.rows].flatten(1).double() / 255
    values = torch.linalg.eigvalsh(torch.cov(pixels.T)).flip(0)
    found = features.of_pixels(data).of(data.train)
    torch.testing.assert_close(found.var(dim=0), values[:64], rtol=1e-4, atol=1e-7)


def test_gan_train_teaches_the_samples_and_as_many_images() -> None:
    data, others = planted(classes=("a", "b"))
    taught = []

    def school(part: ImageSet) -> Classifier:
        taught.append(part)
        return Classifier(
            image_shape=(1, 8, 8), num_classes=2, widths=[4], hidden=4, dropout=0.0
        ).eval()

    found = sample_quality.gan_train(Replay(others), Evaluation(data, samples=50, school=school))
    assert [len(part) for part in taught] == [50, 50] and found["n"] == found["n_real"] == 50
    assert torch.equal(taught[0].images, others[:50]) and torch.equal(
        taught[0].labels, torch.arange(50) % 2
    )
    assert set(taught[1].rows.tolist()) <= set(data.train.rows.tolist())
    assert 0.3 < found["accuracy"] < 0.7 and 0.3 < found["real_accuracy"] < 0.7


def test_inception_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(
        ValueError, match="features=inception: needs torch-fidelity: uv sync --extra inception"
    ):
        judge.feature_space("inception", planted(60)[0], None)


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_in(tmp_path_factory.mktemp("vae") / "vae", cache, *SMALL, "max_steps=20")


def test_training_keeps_the_best_evaluation(train_here: Callable[..., Path]) -> None:
    """At a learning rate at which it goes up and down; the numbers of the end are of the weights that are kept."""
    settings = (*SMALL, "max_steps=12", "evaluate_every=2", "lr=1", "features=pixels")
    last = train_here(*settings, folder="last")
    found = {row["step"]: row["validation"] for row in rows(last) if "validation" in row}
    assert all({"elbo", "fd", "kid"} <= numbers.keys() for numbers in found.values())
    for name, best in (("fd", min), ("elbo", max)):
        folder = train_here(*settings, f"select={name}", folder=name)
        step = best(found, key=lambda at: found[at][name])
        metadata = safetensors_io.load(folder / "model.safetensors")[1]
        assert metadata["about"]["step"] == step == summary(folder)["selected"]["step"]
        assert summary(folder)["metrics"]["validation"]["elbo"] == found[step]["elbo"]
        assert [row for row in rows(folder) if "train" in row] == [
            row for row in rows(last) if "train" in row
        ]
    assert (
        len({summary(Path(name))["metrics"]["test"]["elbo"] for name in ("last", "fd", "elbo")}) > 1
    )


def test_selection_survives_a_stop(train_resumed: Callable[..., Path]) -> None:
    folder = train_resumed(
        *SMALL,
        "max_steps=10",
        "evaluate_every=3",
        "lr=0.3",
        "features=pixels",
        "select=kid",
        stops=(4, 7),
    )
    assert "selected" in summary(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model=gan", "select=elbo"], "select=elbo: must be one of fd, kid, null for a Generator"),
        (["model=classifier", "select=fd"], "select=fd: must be one of null for a Classifier"),
        (["model=classifier", "features=pixels"], "features=pixels: must be null for a Classifier"),
        (
            [*SMALL, "features=pixel"],
            "features=pixel: must be one of null, classifier, pixels, inception",
        ),
    ],
)
def test_what_cannot_be_selected_is_refused(
    settings: list[str], words: str, train_here: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=words):
        train_here(*settings)


def test_too_few_validation_images_are_refused_before_the_first_step(
    train_here: Callable[..., Path], tmp_path: Path
) -> None:
    write_pictures(tmp_path / "pictures", count=40)
    with pytest.raises(
        UserError, match=r"must be more than .* for a Frechet distance on the valid"
    ):
        train_here(
            "model=gan",
            "dataset=folder",
            f"dataset.root={tmp_path / 'pictures'}",
            "dataset.side=8",
            "model.generator_width=4",
            "model.discriminator_width=4",
            "batch_size=4",
            "features=pixels",
        )
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_several_checkpoints_in_one_table(
    vae: Path,
    train_here: Callable[..., Path],
    infer_here: Callable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = train_here(
        "model=gan",
        "model.generator_width=4",
        "model.discriminator_width=4",
        "max_steps=2",
        folder="gan",
    )
    command = ("figures=[]", "features=pixels", "samples=300", "metrics=[fd,kid,prdc,memorisation]")
    caplog.clear()
    infer_here(f"checkpoint=[{vae},{other}]", *command)
    table = caplog.text.split("metric ")[-1]
    assert all(
        name in table
        for name in ("vae", "gan", "fd.fd", "kid.floor", "prdc.recall", "memorisation.copies")
    )
    assert len(list(Path("results").glob("comparison-*.csv"))) == 1
    alone = json.loads(Path("results/gan/metrics.json").read_text())
    assert alone["time"].keys() == {"fd", "kid", "prdc", "memorisation"} and alone["seed"] == 0
    infer_here(f"checkpoint={other}", *command)
    again = json.loads(Path("results/gan/metrics.json").read_text())
    assert {**again, "time": None} == {
        **alone,
        "time": None,
    }  # the same noise, alone or beside others


def test_refusals_of_comparisons(
    vae: Path,
    train_here: Callable[..., Path],
    infer_here: Callable,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_pictures(tmp_path / "pictures", count=40)
    other = train_here(
        "model=gan",
        "dataset=folder",
        f"dataset.root={tmp_path / 'pictures'}",
        "dataset.side=8",
        "model.generator_width=4",
        "model.discriminator_width=4",
        "max_steps=1",
        "batch_size=4",
    )
    with pytest.raises(UserError, match="was trained on other data than"):
        infer_here(f"checkpoint=[{vae},{other}]", "figures=[]", "metrics=all")
    with pytest.raises(UserError, match="two of them have the same name"):
        infer_here(f"checkpoint=[{vae},{vae}]", "figures=[]", "metrics=all")
    with pytest.raises(
        UserError, match="samples=20: must be more than 64, of real images too, for a Frechet"
    ):
        infer_here(
            f"checkpoint={vae}", "figures=[]", "metrics=[fd]", "features=pixels", "samples=20"
        )
    infer_here(f"checkpoint={vae}", "figures=[]", "features=pixels", "samples=20")
    assert "left out metrics fd: samples=20: must be more than 64" in caplog.text
    assert "kid" in json.loads(Path("results/vae/metrics.json").read_text())


def test_the_same_seed_makes_the_same_samples() -> None:
    data, others = planted(60)
    model = Replay(others)
    noise = model.prior.sample(3, generator=generator(5, "judged samples"))
    seen = []
    model.generate = lambda z, labels=None: (seen.append(z), model.images[: len(z)])[1]  # type: ignore
    Evaluation(data, samples=3, seed=5).sampled(model)
    assert torch.equal(seen[0], noise)


def test_inception_sees_three_channels_of_256_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package as it answers; its network and weights are not here."""

    class Extractor(torch.nn.Module):
        def __init__(self, name: str, layers: list[str]) -> None:
            super().__init__()
            assert layers == ["2048"]

        def forward(self, images: Tensor) -> tuple[Tensor]:
            assert images.dtype == torch.uint8 and images.shape[1] == 3
            return (images[:, :, 0, 0].float(),)

    module = ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    data, _ = planted(60)
    found = judge.feature_space("inception", data, None).test
    first = data.test.images[data.test.rows][:, 0, 0, 0].double()
    assert torch.equal(found, first[:, None].expand(-1, 3))
