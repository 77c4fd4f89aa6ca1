"""Conditional models: what a label does, labels that are missing or wrong, figures of both."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, settings_of, write_pictures
from test_models import build_vae
from torch import Tensor, nn

import genmodels
from genmodels.data.images import Batch, ImageSpec, drop_labels
from genmodels.figures import grids, latent, latent_maps
from genmodels.figures.options import FigureOptions
from genmodels.figures.registry import FIGURES
from genmodels.fitting import build
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.vae import elbo_terms
from genmodels.models.vae import MLPVAE, VAE, ConvVAE
from genmodels.randomness import reseed
from genmodels.registry import select
from genmodels.settings import read_settings
from genmodels.trainers.vae import VAETrainer
from genmodels.validation import UserError

CLASSES = 4
SMALL_CVAE = ["model=cvae_mlp", *SMALL[1:]]


def vae(kind: str = "mlp", num_classes: int = CLASSES, label_dropout: float = 0.1) -> VAE:
    """A small model in evaluation mode, of images (1, 8, 8) and three latent dimensions."""
    torch.manual_seed(0)
    options = {
        "image_shape": (1, 8, 8),
        "latent_dim": 3,
        "likelihood": BernoulliLikelihood(),
        "num_classes": num_classes,
        "label_dropout": label_dropout,
    }
    if kind == "mlp":
        model: VAE = MLPVAE(widths=[16], **options)
    else:
        model = ConvVAE(widths=[4, 8], hidden=16, **options)
    return model.eval().requires_grad_(False)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def largest_differences(one: Tensor, other: Tensor) -> Tensor:
    """(B,)."""
    return (one - other).abs().flatten(1).amax(dim=1)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_labels_change_both_networks(kind: str) -> None:
    model, images, z = vae(kind), torch.rand(5, 1, 8, 8), torch.randn(5, 3)
    zeros, ones = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    of_zeros, of_ones = model.generate(z, zeros), model.generate(z, ones)
    assert largest_differences(of_zeros, of_ones).min() > 1e-4
    means = [model.encode(images, labels).mean for labels in (zeros, ones)]
    assert largest_differences(*means).min() > 1e-4

    mixed = model.generate(z, torch.tensor([0, 1, 0, 1, 1]))  # each row has its own label
    torch.testing.assert_close(mixed[[0, 2]], of_zeros[[0, 2]])
    torch.testing.assert_close(mixed[[1, 3, 4]], of_ones[[1, 3, 4]])
    without = model.generate(z)
    torch.testing.assert_close(without, model.generate(z, -ones), rtol=0, atol=0)
    assert not torch.allclose(without, of_zeros)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_label_reaches_every_hidden_layer(kind: str) -> None:
    """As many conditional biases as hidden layers, none of which is without effect."""
    model = vae(kind).requires_grad_(True)
    labels = torch.tensor([0, 1])
    model.generate(model.encode(torch.rand(2, 1, 8, 8), labels).mean, labels).sum().backward()
    for network in (model.encoder, model.decoder):
        shifts = [weight for name, weight in network.named_parameters() if ".shift." in name]
        assert len(shifts) == sum(isinstance(layer, nn.ReLU) for layer in network.children())
        assert all(weight.grad is not None and weight.grad.any() for weight in shifts)
    gradient = model.label_embedding.weight.grad
    assert gradient is not None
    assert gradient[:, 0].ne(0).tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("name", "weights", "distortion", "kl"),
    [
        ("vae", 23288.356494053227, 2175.51886, 0.05682113),
        ("vae_mlp", 29889.216035591235, 2179.32385, 0.375631598),
    ],
)
def test_unconditional_models_are_what_they_were(
    name: str, weights: float, distortion: float, kl: float
) -> None:
    """Numbers of the code before there were labels: the same weights, terms and names."""
    model = build_vae(name, (1, 28, 28), "likelihood=bernoulli")
    total = sum(parameter.double().abs().sum().item() for parameter in model.parameters())
    assert total == pytest.approx(weights, rel=1e-12)
    assert {key.split(".")[0] for key in model.state_dict()} == {"encoder", "decoder"}
    assert type(model.encoder) is type(model.decoder) is nn.Sequential
    torch.manual_seed(1)
    terms = elbo_terms(model, torch.rand(4, 1, 28, 28), torch.arange(4))
    assert terms.distortion.sum().item() == pytest.approx(distortion, rel=1e-5)
    assert terms.kl.sum().item() == pytest.approx(kl, rel=1e-4)


def test_dropped_labels() -> None:
    labels = torch.arange(40_000) % CLASSES
    torch.manual_seed(3)
    dropped = drop_labels(labels, 0.1)
    share = (dropped == -1).double().mean().item()
    assert share == pytest.approx(0.1, abs=0.006)  # 4 standard errors
    assert ((dropped == labels) | (dropped == -1)).all()
    torch.manual_seed(3)
    assert torch.equal(drop_labels(labels, 0.1), dropped)
    state = torch.get_rng_state()
    assert drop_labels(labels, 0.0) is labels and torch.equal(torch.get_rng_state(), state)


def test_training_hides_the_same_labels_from_encoder_and_decoder() -> None:
    """At each step anew, as a function of the step."""
    overrides = [*SMALL_CVAE, "model.label_dropout=0.5", "precision=fp32", "device=cpu"]
    classes = tuple(str(label) for label in range(CLASSES))
    settings = settings_of(*overrides, spec=ImageSpec("planted", (1, 8, 8), classes))
    model, trainer, _ = build(settings)
    assert isinstance(model, VAE) and isinstance(trainer, VAETrainer)
    rows: list[Tensor] = []  # of the embedding, which are labels + 1
    model.label_embedding.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0]))
    batch = Batch(torch.rand(200, 1, 8, 8), torch.arange(200) % CLASSES)
    for step in (0, 1, 0):
        reseed(0, "train", step)
        trainer.update(batch, step, 10)
    of_encoder, of_decoder = rows[::2], rows[1::2]
    assert len(of_encoder) == 3 and all(map(torch.equal, of_encoder, of_decoder))
    share = (of_encoder[0] == 0).double().mean().item()
    assert share == pytest.approx(0.5, abs=0.15)  # 4 standard errors
    assert torch.equal(of_encoder[0], of_encoder[2])
    assert not torch.equal(of_encoder[0], of_encoder[1])


@pytest.mark.parametrize(
    ("label_dropout", "labels", "message"),
    [
        (0.1, [0, 4], r"labels=\[4\]: must be integers from 0 to 3, or -1 for no label$"),
        (0.0, None, r"labels=\[-1\]: must be integers from 0 to 3: .* without label_dropout"),
        (0.0, [0, -1], r"labels=\[-1\]"),
    ],
)
def test_labels_that_are_no_class_are_refused(
    label_dropout: float, labels: list[int] | None, message: str
) -> None:
    model = vae(label_dropout=label_dropout)
    given = None if labels is None else torch.tensor(labels)
    with pytest.raises(ValueError, match=f"^{message}"):
        model.generate(torch.zeros(2, 3), given)
    with pytest.raises(ValueError, match=f"^{message}"):
        model.encode(torch.rand(2, 1, 8, 8), given)


def test_figures_refuse_labels_that_are_no_class() -> None:
    options = FigureOptions(labels=[1, 9], classes=["cat", "dog", "2", "3"])
    message = r"^labels=\[1, 9\]: must be classes from 0 to 3 \(0 cat, 1 dog\)$"
    with pytest.raises(ValueError, match=message):
        grids.samples(vae(), options)
    unconditional = vae(num_classes=0, label_dropout=0.0)
    message = r"^labels=\[1\]: must be null: this model knows no classes$"
    with pytest.raises(ValueError, match=message):
        grids.samples(unconditional, FigureOptions(labels=[1]))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_training_does_not_look_at_its_labels(kind: str) -> None:
    """On an accelerator every look would wait. Tensors of the meta device have no values."""
    model = vae(kind).to("meta").train()
    labels = torch.zeros(5, dtype=torch.long, device="meta")
    terms = elbo_terms(model, torch.zeros(5, 1, 8, 8, device="meta"), labels)
    assert terms.elbo.shape == (5,)
    with pytest.raises(NotImplementedError, match="meta"):
        model.eval().generate(torch.zeros(5, 3, device="meta"), labels)


@pytest.mark.parametrize(
    ("num_classes", "label_dropout", "message"),
    [
        (-1, 0.0, "num_classes=-1"),
        (2, 1.0, "label_dropout=1"),
        (0, 0.1, r"label_dropout=0\.1: must be 0 for a model without classes"),
    ],
)
def test_illegal_options_are_refused(num_classes: int, label_dropout: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        vae("mlp", num_classes, label_dropout)


def test_data_without_labels_are_refused(train_here: Callable, tmp_path: Path) -> None:
    write_pictures(tmp_path / "mine")
    with pytest.raises(UserError, match=r"^model=cvae_mlp: needs labels, but mine has none$"):
        train_here(*SMALL_CVAE, "dataset=folder", f"dataset.root={tmp_path / 'mine'}")


@pytest.mark.parametrize("label_dropout", [0.0, 0.1])
def test_which_labels_figures_use(label_dropout: float) -> None:
    model = vae(label_dropout=label_dropout)

    def labels_of(figure: Callable, **options: object) -> list[int]:
        return [row["label"] for row in figure(model, FigureOptions(n=6, **options)).table]

    assert labels_of(grids.class_grid) == [label for label in range(CLASSES) for _ in range(6)]
    assert labels_of(grids.class_grid, labels=[3, 1]) == [3] * 6 + [1] * 6
    assert labels_of(grids.style_grid) == [0, 1, 2, 3] * 6
    assert labels_of(grids.style_grid, labels=[2]) == [2] * 6
    assert labels_of(grids.samples, labels=[3, 1]) == [3, 1] * 3
    assert labels_of(grids.samples) == ([-1] * 6 if label_dropout else [0, 1, 2, 3, 0, 1])
    for figure in (latent.interpolation, latent_maps.region):
        assert set(labels_of(figure)) == {-1 if label_dropout else 0}
        assert set(labels_of(figure, labels=[2, 3])) == {2}


def test_a_row_of_the_style_grid_is_one_z() -> None:
    rows = grids.style_grid(vae(), FigureOptions(n=3)).table
    z = torch.tensor([(row["z0"], row["z1"], row["z2"]) for row in rows]).view(3, CLASSES, 3)
    assert z.eq(z[:, :1]).all() and z[:, 0].unique(dim=0).shape == (3, 3)
    noise = [(row["z0"], row["z1"]) for row in grids.class_grid(vae(), FigureOptions(n=3)).table]
    assert len(set(noise)) == 3 * CLASSES  # there each image has its own


def test_images_of_the_class_grid_are_of_their_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that paints its label: the sheet's rows are as bright as their labels say."""
    model = vae()
    monkeypatch.setattr(
        model, "generate", lambda z, labels: labels.view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 4
    )
    result = grids.class_grid(model, FigureOptions(n=2, labels=[3, 1]))
    sheet = result.figure.axes[0].images[0].get_array()
    assert sheet.shape[:2] == (18, 18)
    assert (sheet[:8, :8] == 191).all() and (sheet[10:, 10:] == 64).all()


def test_from_training_to_figures(train_here: Callable, infer_here: Callable) -> None:
    """Classes from the data, reload, default figures, labels asked for and refused, metrics."""
    run = train_here(*SMALL_CVAE, "max_steps=3")
    config = read_settings(run)["model"]
    assert config["num_classes"] == 10 and config["label_dropout"] == 0.1
    model = genmodels.load(run)
    assert {"class_grid", "style_grid"} <= select("figures", None, FIGURES, model).keys()
    assert model.num_classes == 10 and model.sample(2, torch.tensor([3, 7])).shape == (2, 1, 28, 28)
    infer_here(
        f"checkpoint={run}",
        "figures=[samples,class_grid,style_grid,latent_grid]",
        "n=4",
        "labels=[3,7]",
    )
    for name, labels in (
        ("samples", "3737"),
        ("class_grid", "33337777"),
        ("style_grid", "37" * 4),
        ("latent_grid", "3" * latent_maps.GRID**2),
    ):
        assert "".join(row["label"] for row in table(Path(f"results/run/{name}.csv"))) == labels
    metrics = json.loads(Path("results/run/metrics.json").read_text())
    assert 0 <= metrics["leakage"]["accuracy"] <= 1 and metrics["elbo_classification"]["n"] == 359
    with pytest.raises(UserError, match=r"^labels=\[99\]: must be classes from 0 to 9$"):
        infer_here(f"checkpoint={run}", "labels=[99]")


def test_unconditional_runs_give_no_class_figures(
    train_here: Callable, infer_here: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_pictures(tmp_path / "mine", count=30)
    run = train_here(
        *SMALL,
        "max_steps=1",
        "batch_size=16",
        "dataset=folder",
        f"dataset.root={tmp_path / 'mine'}",
    )
    assert "class_grid" not in select("figures", "all", FIGURES, genmodels.load(run))
    with pytest.raises(
        UserError, match=r"^labels=\[3\]: must be null: this model knows no classes$"
    ):
        infer_here(f"checkpoint={run}", "labels=[3]")
    with pytest.raises(UserError, match="figures: class_grid cannot be had from a MLPVAE"):
        infer_here(f"checkpoint={run}", "figures=[class_grid]")
    infer_here(f"checkpoint={run}", f"dataset.root={tmp_path / 'mine'}", "figures=[samples]")
    assert re.search(r"skipped metrics leakage.*: its data have none", caplog.text)
    with pytest.raises(
        UserError, match="metrics: leakage needs labels of the images, but its data have none"
    ):
        infer_here(f"checkpoint={run}", f"dataset.root={tmp_path / 'mine'}", "metrics=[leakage]")
