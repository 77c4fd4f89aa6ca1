"""The in-domain classifier: its contract, its training, its figure."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pytest
import torch
from conftest import composed, rows, same, settings_of, summary, train_in, write_pictures
from hydra.errors import HydraException

import genmodels
from genmodels import checkpoint, cli
from genmodels.caption import caption
from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.figures.options import FigureOptions
from genmodels.figures.registry import FIGURES
from genmodels.figures.snapshots import snapshots
from genmodels.formatting import format_metrics
from genmodels.models.classifier import Classifier
from genmodels.run_name import number_settings, run_name
from genmodels.user_errors import UserError

FAST = ["model=classifier", "model.widths=[8,16]", "model.hidden=32", "batch_size=64"]
CLASSES = 4
Train = Callable[..., Path]


def build(shape: tuple[int, ...], *overrides: str) -> tuple[Classifier, dict]:
    spec = ImageSpec("planted", (shape[0], shape[1], shape[2]), ("a", "b", "c"))
    config = settings_of("model=classifier", *overrides, spec=spec).model
    torch.manual_seed(0)
    model = checkpoint.rebuild(config)
    assert isinstance(model, Classifier)
    return model, config


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
    ("name", "value"),
    [
        ("num_classes", 1),
        ("widths", []),
        ("widths", [8, 0]),
        ("widths", [8] * 6),
        ("hidden", 0),
        ("dropout", 1),
    ],
)
def test_illegal_sizes_are_named(name: str, value: object) -> None:
    config = build((1, 28, 28))[1] | {name: value}
    with pytest.raises(ValueError, match=rf"^{name}[=:]"):
        checkpoint.rebuild(config)


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
    assert first.keys() == {"loss", "accuracy", "gradient_norm", "clipped", "lr"}
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
    with pytest.raises(
        UserError,
        match=r"^model=classifier: needs labels, but noise has none: its images do not lie in",
    ):
        train_here(*FAST, "dataset=folder", f"dataset.root={tmp_path / 'noise'}")


@pytest.mark.parametrize(
    "override", ["kl_weight=3", "kl_schedule=cosine", "likelihood=bernoulli", "model.latent_dim=3"]
)
def test_settings_that_it_does_not_have_are_refused(override: str) -> None:
    arguments = [override, "model=classifier"]
    with pytest.raises(HydraException) as caught:
        composed("train", *arguments)
    message = cli.explain(caught.value, "train", arguments)
    assert message.startswith(f"{override.partition('=')[0]}: not a ") and "\n" not in message


def test_its_names_and_captions_speak_of_no_latents() -> None:
    settings = settings_of(*FAST)
    values = settings.as_dict()
    assert run_name(values, settings.choices).startswith("digits-classifier-seed0-")
    about = {"settings": number_settings(values), "choices": settings.choices}
    assert caption(about, 7).split(" \N{MIDDLE DOT} ") == [
        "digits",
        "classifier",
        "seed 0",
        "step 7",
    ]


def test_what_infer_gives(trained: Path, infer_here: Callable) -> None:
    infer_here(f"checkpoint={trained}")
    results = Path("results/run")
    assert {path.name for path in results.iterdir()} == {
        "confusion.png",
        "confusion.csv",
        "metrics.json",
    }
    numbers = json.loads((results / "metrics.json").read_text())["accuracy"]
    assert numbers == pytest.approx(summary(trained)["metrics"]["test"])
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


def test_shares_are_printed_with_their_digits() -> None:
    numbers = {
        "accuracy": 0.99432,
        "standard_error": 0.00075,
        "nll": 0.0213,
        "elbo": -90.123,
        "n": 5,
    }
    text = "accuracy 0.9943, standard error 0.00075, nll 0.021, elbo -90.12, n 5"
    assert format_metrics(numbers) == text


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


def test_a_figure_of_many_classes(data: ImageData, tmp_path: Path) -> None:
    """No names and no numbers in its cells, but it is drawn."""
    config = {**build((1, 4, 4), "model.widths=[4]")[1], "num_classes": 40}
    model = checkpoint.rebuild(config)
    picture = FIGURES["confusion"].call(model.eval(), FigureOptions(test=data.test))
    picture.save(tmp_path, "confusion", "caption")
    assert len(picture.table) == 1600 and sum(row["images"] for row in picture.table) == 400
