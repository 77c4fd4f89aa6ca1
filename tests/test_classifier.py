"""The in-domain classifier: its contract, its training, its figure; and what it says, as judge, of planted models."""

import csv
import json
import math
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import pytest
import torch
from conftest import SMALL, composed, rows, same, summary, train_in, write_pictures
from filelock import FileLock
from genmodels.judge import Judge
from hydra.errors import HydraException
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.distributions import Categorical

import genmodels
from genmodels import checkpoint, config, doors, judge, run_files, tracking
from genmodels.data.images import ImageData, ImageSet, ImageSpec, to_float
from genmodels.figures import snapshots
from genmodels.figures.registry import FIGURES
from genmodels.metrics import accuracy, sample_quality
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.classifier import Classifier
from genmodels.models.generative import GenerativeModel
from genmodels.report import tables
from genmodels.report.runs import Job, grouped
from genmodels.validation import UserError

FAST = ["model=classifier", "model.widths=[8,16]", "model.hidden=32", "batch_size=64"]
CLASSES = 4
Train = Callable[..., Path]


def build(shape: tuple[int, ...], *overrides: str) -> tuple[Classifier, dict]:
    cfg = composed(
        "train",
        "model=classifier",
        f"model.image_shape={list(shape)}",
        "model.num_classes=3",
        *overrides,
    )
    made = OmegaConf.to_container(cfg.model, resolve=True)
    torch.manual_seed(0)
    return checkpoint.rebuild(made), made  # type: ignore[return-value, arg-type]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (1, 15, 20)], ids=str)
def test_contract(shape: tuple[int, ...], tmp_path: Path) -> None:
    model, made = build(shape)
    images = torch.rand(5, *shape)
    answer, features = model(images), model.features(images)
    assert (
        answer.batch_shape == (5,)
        and answer.probs.shape == (5, 3)
        and answer.logits.dtype == torch.float32
    )
    assert features.shape == (5, 128) and features.dtype == torch.float32 and features.min() >= 0
    (-answer.log_prob(torch.tensor([0, 1, 2, 0, 1]))).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    checkpoint.export(tmp_path / "model.safetensors", model, made, {"name": "x"})
    again = genmodels.load(tmp_path)
    assert same(dict(again.state_dict()), dict(model.state_dict()))
    model = model.eval().to(
        memory_format=torch.channels_last
    )  # as it is loaded: the layout changes the last bit
    torch.testing.assert_close(again(images).logits, model(images).logits, rtol=0, atol=0)
    assert snapshots(model, None) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "override",
    [
        "model.num_classes=1",
        "model.widths=[]",
        "model.widths=[8,0]",
        "model.hidden=0",
        "model.dropout=1",
        "model.widths=[8,8,8,8,8,8]",
    ],
)
def test_illegal_sizes_are_named(override: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^{override.removeprefix('model.').partition('=')[0]}[=:]"
    ):
        build((1, 28, 28), override)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_in(
        tmp_path_factory.mktemp("trained") / "run",
        cache,
        *FAST,
        "max_steps=60",
        "evaluate_every=60",
    )


def test_it_learns_the_digits_in_seconds(trained: Path) -> None:
    done = summary(trained)["metrics"]["test"]
    assert done["n"] == 359 and 0.9 < done["accuracy"] <= 1 and 0 < done["nll"] < 0.5
    share = done["accuracy"]
    assert done["accuracy_standard_error"] == pytest.approx(math.sqrt(share * (1 - share) / 359))
    first = next(row["train"] for row in rows(trained) if "train" in row)
    assert first.keys() == {"loss", "accuracy", "gradient_norm", "lr"}
    assert first["loss"] == pytest.approx(math.log(10), rel=0.3)  # it begins by guessing


def test_resume_is_exact(train_resumed: Train) -> None:
    """With BatchNorm's running moments, their average, and dropout."""
    train_resumed(*FAST, "max_steps=12", "evaluate_every=4", "checkpoint_every=4", stops=[7])


def test_smoothed_labels_bound_the_loss(train_here: Train) -> None:
    """Of a share s spread over K classes no answer costs less than the entropy of such a label."""
    smooth = train_here(*FAST, "max_steps=30", "evaluate_every=30", "trainer.label_smoothing=0.5")
    right, others = 0.5 + 0.5 / 10, 0.5 / 10
    floor = -right * math.log(right) - 9 * others * math.log(others)
    assert floor < rows(smooth)[-3]["train"]["loss"] < 2.3
    with pytest.raises(UserError, match=r"trainer.label_smoothing=1: must be"):
        train_here(*FAST, "trainer.label_smoothing=1", folder="other")


def test_a_loss_that_is_not_finite_is_explained(train_here: Train) -> None:
    with pytest.raises(UserError, match=r"^step \d+: loss is not finite"):
        train_here(*FAST, "max_steps=40", "lr=1e30")


def test_data_without_labels_are_refused(train_here: Train, tmp_path: Path) -> None:
    write_pictures(tmp_path / "noise")
    with pytest.raises(UserError, match=r"^model=classifier: needs labels, but noise has none$"):
        train_here(*FAST, "dataset=folder", f"dataset.root={tmp_path / 'noise'}")


@pytest.mark.parametrize(
    "override", ["kl_weight=3", "kl_schedule=cosine", "likelihood=bernoulli", "model.latent_dim=3"]
)
def test_knobs_that_it_does_not_have_are_refused(
    override: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", override, "model=classifier"])
    with pytest.raises(HydraException) as caught:
        composed("train", override, "model=classifier")
    message = doors._explain(caught.value, "train")
    assert message.startswith(f"{override.partition('=')[0]}: ") and "\n" not in message


def test_its_names_and_captions_speak_of_no_latents() -> None:
    settings = OmegaConf.to_container(composed("train", *FAST), resolve=True)
    choices = {"dataset": "digits", "model": "classifier"}
    assert config.run_name(settings, choices).startswith("digits-classifier-seed0-")  # type: ignore[arg-type]
    about = {"settings": config.numbers(settings), "choices": choices}  # type: ignore[arg-type]
    assert (
        config.caption(about, 7)
        == "digits \N{MIDDLE DOT} classifier \N{MIDDLE DOT} seed 0 \N{MIDDLE DOT} step 7"
    )


def test_what_infer_gives(trained: Path, infer_here: Callable) -> None:
    infer_here(f"checkpoint={trained}")
    results = Path("results/run")
    assert {path.name for path in results.iterdir()} == {
        "confusion.png",
        "confusion.csv",
        "metrics.json",
    }
    found = json.loads((results / "metrics.json").read_text())["accuracy"]
    assert found == pytest.approx(summary(trained)["metrics"]["test"])
    with open(results / "confusion.csv", newline="") as file:
        table = list(csv.DictReader(file))
    right = sum(int(row["images"]) for row in table if row["class"] == row["answer"])
    assert sum(int(row["images"]) for row in table) == 359
    assert right / 359 == pytest.approx(summary(trained)["metrics"]["test"]["accuracy"])
    assert matplotlib.image.imread(results / "confusion.png")[..., :3].std() > 0.02
    with pytest.raises(
        UserError,
        match="figures: samples cannot be had from a Classifier, which can give confusion",
    ):
        infer_here(f"checkpoint={trained}", "figures=[samples]")


def test_shares_are_printed_with_their_digits(tmp_path: Path) -> None:
    numbers = {
        "accuracy": 0.99432,
        "standard_error": 0.00075,
        "nll": 0.0213,
        "elbo": -90.123,
        "n": 5,
    }
    assert (
        tracking.in_words(numbers)
        == "accuracy 0.9943, standard error 0.00075, nll 0.021, elbo -90.12, n 5"
    )
    jobs = [
        Job(tmp_path, {"seed": seed}, {"metrics": {"test": {"accuracy": share, "n": 9}}}, [])
        for seed, share in enumerate((0.9930, 0.9940))
    ]
    assert tables.group_table(grouped(jobs, ["seed"]))[0]["accuracy"] == "0.9935 ± 0.0007"
    assert tables.text_table(tables.job_table(jobs, ["seed"])).endswith(" 0.994")


class Oracle(nn.Module):
    """A judge that reads the class from the first pixel; the features are the pixels."""

    num_classes = CLASSES

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def classify(self, features: Tensor) -> Categorical:
        classes = (features[:, 0] * 255).round().long()
        return Categorical(
            logits=20.0 * nn.functional.one_hot(classes, CLASSES), validate_args=False
        )


@pytest.fixture(scope="module")
def data() -> ImageData:
    """400 noise images, a hundred of each class, which the first pixel tells."""
    noise = torch.randint(
        0, 256, (400, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.arange(400) % CLASSES
    noise[:, 0, 0, 0] = labels.to(torch.uint8)
    part = ImageSet(noise, labels, torch.arange(400))
    return ImageData(ImageSpec("planted", (1, 4, 4), ("a", "b", "c", "d")), part, part, part)


class Fake(GenerativeModel):
    """Gives test images that `choose` picks by (z, labels)."""

    def __init__(self, data: ImageData, choose: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__((1, 4, 4), latent_dim=1)
        self.num_classes = CLASSES
        self.data, self.choose = data, choose
        self.unused = nn.Parameter(torch.zeros(()))

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        return to_float(self.data.test.images[self.choose(z, labels)])


def any_of(z: Tensor) -> Tensor:
    """A number from 0 to 99 by the noise."""
    return (z.flatten() * 1e5).long() % 100


@pytest.mark.parametrize(
    ("choose", "right", "diversity"),
    [
        (
            lambda z, labels: any_of(z) * CLASSES + labels,
            1.0,
            1.0,
        ),  # what it was asked for, as diverse as the data
        (lambda z, labels: labels, 1.0, 0.0),  # one image of each class
        (
            lambda z, labels: any_of(z) * CLASSES + z.abs().flatten().mul(1e3).long() % CLASSES,
            1 / CLASSES,
            1.0,
        ),
    ],
    ids=["good", "collapsed", "deaf"],
)
def test_planted_conditional_models(
    choose: Callable, right: float, diversity: float, data: ImageData
) -> None:
    evaluation = Evaluation(data, judge=Oracle, samples=4000)  # type: ignore[arg-type]
    found = sample_quality.class_accuracy(Fake(data, choose), evaluation)
    assert (
        found["accuracy"] == pytest.approx(right, abs=0.03)
        and found["n"] == 4000
        and found["judge_accuracy"] == 1
    )
    assert found["diversity"] == pytest.approx(diversity, abs=0.02)
    assert found["pixel_diversity"] == pytest.approx(diversity, abs=0.02)
    assert list(found["classes"]) == ["a", "b", "c", "d"]
    assert found["classes"]["b"]["accuracy"] == pytest.approx(right, abs=0.06)


def test_shares_of_classes(data: ImageData) -> None:
    def shares(of: Callable) -> dict:
        evaluation = Evaluation(data, judge=Oracle, samples=1000)  # type: ignore[arg-type]
        return sample_quality.class_shares(Fake(data, of), evaluation)

    fair = shares(lambda z, labels: labels)
    assert fair["entropy"] == fair["test_entropy"] == pytest.approx(math.log(CLASSES))
    assert fair["kl_to_test"] == pytest.approx(0, abs=1e-9)
    assert fair["coverage"] == 1
    half = shares(lambda z, labels: labels % 2)
    assert half["coverage"] == 0.5
    assert half["entropy"] == pytest.approx(math.log(2)) == pytest.approx(half["kl_to_test"])
    assert (
        half["classes"]["a"] == {"samples": 0.5, "test": 0.25}
        and half["classes"]["c"]["samples"] == 0
    )


def test_distances_from_sums_are_those_of_all_pairs() -> None:
    torch.manual_seed(0)
    values, labels = 3 + torch.randn(90, 5), torch.arange(90) % 3
    spread = accuracy.Spread(5)
    for some in torch.arange(90).split(40):
        spread.add(values[some], labels[some])
    spread.add(torch.ones(1, 5), torch.tensor([4]))
    expected = [
        nn.functional.pdist(values[labels == label].double()).square().mean().sqrt()
        for label in range(3)
    ]
    torch.testing.assert_close(spread.distance()[:3], torch.stack(expected))
    assert spread.distance()[3:].isnan().all()  # none, and one


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_in(tmp_path_factory.mktemp("vae") / "vae", cache, *SMALL, "max_steps=1")


@pytest.mark.slow
def test_a_missing_judge_is_trained_and_found_again(
    vae: Path,
    infer_here: Callable,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(cache, tmp_path / "my cache")
    here = f"dataset.cache={tmp_path / 'my cache'}"
    monkeypatch.setattr(judge, "RECIPE", (*FAST, "max_steps=1", "wandb.mode=disabled"))
    command = (f"checkpoint={vae}", "figures=[]", "samples=100", here)
    infer_here(*command)
    assert (
        "left out metrics class_shares: there is none yet; metrics=all trains it, once"
        in caplog.text
    )
    assert "left out metrics fd, kid, prdc: there is none yet" in caplog.text
    infer_here(*command, "metrics=[class_shares]")
    assert "python train.py model=classifier" in caplog.text
    (folder,) = (path for path in (tmp_path / "my cache/classifiers").iterdir() if path.is_dir())
    assert summary(folder)["status"] == "finished" and folder.name.startswith(
        "digits-classifier-seed0-"
    )
    assert folder.name.endswith(summary(folder)["data"])
    first = json.loads(Path("results/vae/metrics.json").read_text())["class_shares"]
    monkeypatch.setattr(subprocess, "run", None)
    infer_here(*command)
    again = json.loads(Path("results/vae/metrics.json").read_text())["class_shares"]
    assert again == first and sum(
        share["samples"] for share in first["classes"].values()
    ) == pytest.approx(1)
    crc = checkpoint.safetensors_io.load(folder / run_files.INFERENCE)[1]["crc32"]
    assert first["judge_crc32"] == f"{crc:08x}"


def test_two_processes_train_one_judge(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits for the first, and a user's own train.py in that folder is waited for, too."""
    calls, found = [], []

    def training(*_: object, **__: object) -> SimpleNamespace:
        calls.append(1)
        time.sleep(0.1)
        for name in (run_files.SUMMARY, run_files.INFERENCE):
            (folder / name).write_bytes((trained / name).read_bytes())
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", training)
    folder = tmp_path / "judge"
    folder.mkdir()
    threads = [
        threading.Thread(target=lambda: found.append(Judge(folder, ()).model(torch.device("cpu"))))
        for _ in range(2)
    ]
    with FileLock(folder / ".lock"):
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        assert not calls
    for thread in threads:
        thread.join()
    assert (
        len(calls) == 1
        and all(isinstance(model, Classifier) for model in found)
        and len(found) == 2
    )


def test_a_judge_that_cannot_be_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(ValueError, match=r"could not be trained; .*train\.log says why"):
        Judge(tmp_path / "judge", ()).model(torch.device("cpu"))


def test_which_judge(data: ImageData, tmp_path: Path) -> None:
    def name(choice: str, **details: object) -> str:
        settings = {f"dataset.{key}": value for key, value in details.items()} | {
            "dataset._target_": "os.system"
        }
        about = {"choices": {"dataset": choice}, "settings": settings}
        return Judge.of(about, data, "/root", str(tmp_path)).folder.name

    assert name("emnist", split="letters").startswith("emnist-letters-classifier-seed0-")
    assert name("emnist", split="letters") != name("emnist", split="balanced")
    assert name("folder", name="it's \\ cats", background="#ff8800", side=32) != name(
        "folder", name="dogs"
    )
    for choice in ("nowhere", "../model/vae", "None"):
        with pytest.raises(ValueError, match="no data set of this project"):
            name(choice)
    with pytest.raises(ValueError, match="must be a plain text"):
        name("folder", name="${oc.env:HOME}")
    unlabelled = ImageData(ImageSpec("faces", (1, 4, 4)), data.train, data.train, data.train)
    with pytest.raises(ValueError, match="faces has no labels"):
        Judge.of(
            {"choices": {"dataset": "digits"}, "settings": {}}, unlabelled, "data", str(tmp_path)
        )


def test_a_figure_of_many_classes(data: ImageData, tmp_path: Path) -> None:
    """No names and no numbers in its cells, but it is drawn."""
    from genmodels.figures.plotting import FigureOptions

    model, _ = build((1, 4, 4), "model.widths=[4]", "model.num_classes=40")
    picture = FIGURES["confusion"].call(model.eval(), FigureOptions(test=data.test))
    picture.save(tmp_path, "confusion", "caption")
    assert len(picture.table) == 1600 and sum(row["images"] for row in picture.table) == 400
