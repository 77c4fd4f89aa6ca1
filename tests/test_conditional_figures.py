"""Figures of conditional models: which labels they use, and images of these labels."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, write_pictures
from torch import Tensor

import genmodels
from genmodels.figures.latent_grid import GRID_SIDE
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult
from genmodels.figures.registry import FIGURES
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.vae import MLPVAE
from genmodels.registry import select
from genmodels.settings import read_settings
from genmodels.user_errors import UserError

CLASSES = 4


class LabelVAE(MLPVAE):
    """Its images are as bright as their labels say."""

    def __init__(self, num_classes: int = CLASSES, label_dropout: float = 0.1) -> None:
        super().__init__(
            image_shape=(1, 8, 8),
            latent_dim=3,
            widths=[4],
            likelihood=BernoulliLikelihood(),
            num_classes=num_classes,
            label_dropout=label_dropout,
        )
        self.eval().requires_grad_(False)

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, 1, 8, 8)."""
        assert labels is not None
        return labels.view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 4


def draw(name: str, model: MLPVAE | None = None, **options: object) -> FigureResult:
    return FIGURES[name].call(model or LabelVAE(), FigureOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "requested", "with_dropout", "without_dropout"),
    [
        ("class_grid", None, [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6, None),
        ("class_grid", [3, 1], [3] * 6 + [1] * 6, None),
        ("style_grid", None, [0, 1, 2, 3] * 6, None),
        ("style_grid", [2], [2] * 6, None),
        ("samples", [3, 1], [3, 1] * 3, None),
        ("samples", None, [-1] * 6, [0, 1, 2, 3, 0, 1]),
        ("interpolation", None, [-1] * 110, [0] * 110),
        ("interpolation", [2, 3], [2] * 110, None),
        ("region", None, [-1] * 6, [0] * 6),
        ("region", [2, 3], [2] * 6, None),
    ],
)
def test_labels_of_figures(
    name: str,
    requested: list[int] | None,
    with_dropout: list[int],
    without_dropout: list[int] | None,
) -> None:
    expected = {0.1: with_dropout, 0.0: without_dropout or with_dropout}
    for label_dropout, labels in expected.items():
        model = LabelVAE(label_dropout=label_dropout)
        result = draw(name, model, n=6, labels=requested)
        assert [row["label"] for row in result.table] == labels


@pytest.mark.parametrize(
    ("requested", "words"),
    [
        (None, "without a label"),
        ([1], "class dog"),
        ([1, 0], "classes dog, cat in turn"),
        ([0, 1, 2, 3, 0], "5 classes in turn"),
    ],
)
def test_titles_name_the_classes(requested: list[int] | None, words: str) -> None:
    result = draw("samples", n=10, labels=requested, classes=["cat", "dog"])
    title = result.figure.axes[0].get_title(loc="left").replace("\n", " ")
    assert title == f"10 samples, z ~ N(0, I), {words}"


def test_unknown_classes_are_refused() -> None:
    message = r"^labels=\[1, 9\]: must be classes from 0 to 3 \(0 cat, 1 dog\)$"
    with pytest.raises(ValueError, match=message):
        draw("samples", labels=[1, 9], classes=["cat", "dog", "2", "3"])
    unconditional = LabelVAE(num_classes=0, label_dropout=0.0)
    with pytest.raises(
        ValueError, match=r"^labels=\[1\]: must be null: this model knows no classes$"
    ):
        draw("samples", unconditional, labels=[1])


def test_a_row_of_the_style_grid_is_one_z() -> None:
    table = draw("style_grid", n=3).table
    z = torch.tensor([[row["z0"], row["z1"], row["z2"]] for row in table]).view(3, CLASSES, 3)
    assert (z == z[:, :1]).all() and len(z[:, 0].unique(dim=0)) == 3


def test_a_row_of_the_style_grid_is_one_noise_where_each_class_has_a_prior() -> None:
    means = 10.0 * torch.arange(CLASSES)[:, None].expand(CLASSES, 3)
    prior = GaussianMixture.of(torch.ones(CLASSES, 1), means, torch.eye(3).expand(CLASSES, 3, 3))
    table = draw("style_grid", LabelVAE().with_prior(prior), n=3).table
    z = torch.tensor([[row["z0"], row["z1"], row["z2"]] for row in table]).view(3, CLASSES, 3)
    noise = z - means
    torch.testing.assert_close(noise, noise[:, :1].expand_as(noise), atol=1e-5, rtol=0)
    assert len(noise[:, 0].round(decimals=3).unique(dim=0)) == 3


def test_each_image_of_the_class_grid_has_its_own_z() -> None:
    z = {(row["z0"], row["z1"]) for row in draw("class_grid", n=3).table}
    assert len(z) == 3 * CLASSES


def test_images_of_the_class_grid_are_of_their_class() -> None:
    result = draw("class_grid", n=2, labels=[3, 1])
    sheet = result.figure.axes[0].images[0].get_array()
    assert sheet.shape[:2] == (18, 18)
    assert (sheet[:8, :8] == 191).all() and (sheet[10:, 10:] == 64).all()


def labels_in(name: str) -> str:
    """The labels of a figure's table, one after the other."""
    with open(f"results/run/{name}-labels3_7.csv", newline="") as file:
        return "".join(row["label"] for row in csv.DictReader(file))


def test_from_training_to_figures(train_here: Callable, infer_here: Callable) -> None:
    """The number of classes comes from the data, and survives saving and loading."""
    run = train_here("model=cvae_mlp", *SMALL[1:], "max_steps=3")
    config = read_settings(run)["model"]
    assert config["num_classes"] == 10 and config["label_dropout"] == 0.1
    model = genmodels.load(run)
    assert {"class_grid", "style_grid"} <= select("figures", None, FIGURES, model).keys()
    assert model.num_classes == 10
    assert model.sample(2, torch.tensor([3, 7])).shape == (2, 1, 28, 28)
    figures = "figures=[samples,class_grid,style_grid,latent_grid]"
    metrics = "metrics=[leakage,elbo_classification]"
    infer_here(f"checkpoint={run}", figures, metrics, "n=4", "labels=[3,7]")
    assert labels_in("samples") == "3737"
    assert labels_in("class_grid") == "33337777"
    assert labels_in("style_grid") == "37" * 4
    assert labels_in("latent_grid") == "3" * GRID_SIDE**2
    measured = json.loads(Path("results/run/metrics.json").read_text())
    assert 0 <= measured["leakage"]["accuracy"] <= 1
    assert measured["elbo_classification"]["n"] == 359
    with pytest.raises(UserError, match=r"^labels=\[99\]: must be classes from 0 to 9$"):
        infer_here(f"checkpoint={run}", "labels=[99]")


def test_unconditional_runs_have_no_class_figures(
    train_here: Callable, infer_here: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = tmp_path / "mine"
    write_pictures(images, count=30)
    data = ["dataset=folder", f"dataset.root={images}"]
    run = train_here(*SMALL, "max_steps=1", "batch_size=16", *data)
    assert "class_grid" not in select("figures", "all", FIGURES, genmodels.load(run))
    no_classes = r"^labels=\[3\]: must be null: this model knows no classes$"
    with pytest.raises(UserError, match=no_classes):
        infer_here(f"checkpoint={run}", "labels=[3]")
    with pytest.raises(UserError, match="figures: class_grid cannot be had from a MLPVAE"):
        infer_here(f"checkpoint={run}", "figures=[class_grid]")
    infer_here(f"checkpoint={run}", f"dataset.root={images}", "figures=[]")
    assert re.search(r"skipped metrics leakage.*: its data have none", caplog.text)
    no_labels = "metrics: leakage needs labels of the images, but its data have none"
    with pytest.raises(UserError, match=no_labels):
        infer_here(f"checkpoint={run}", f"dataset.root={images}", "metrics=[leakage]")
