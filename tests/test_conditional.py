"""Conditional models: what a label does, labels that are missing or wrong, and the numbers and figures of both."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, composed, write_pictures
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

import genmodels
from genmodels import checkpoint
from genmodels.data.images import Batch, ImageData, ImageSet, ImageSpec, drop_labels
from genmodels.figures import grids, latent, latent_maps
from genmodels.figures.options import FigureOptions
from genmodels.figures.registry import FIGURES
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.models.vae import MLPVAE, VAE, ConvVAE
from genmodels.randomness import reseed
from genmodels.registry import select
from genmodels.validation import UserError

CLASSES = 4
SMALL_CVAE = ["model=cvae_mlp", *SMALL[1:]]


def cvae(label_dropout: float = 0.1, kind: str = "mlp") -> VAE:
    torch.manual_seed(0)
    options = {
        "image_shape": (1, 8, 8),
        "latent_dim": 3,
        "likelihood": BernoulliLikelihood(),
        "num_classes": CLASSES,
        "label_dropout": label_dropout,
    }
    model = (
        MLPVAE(widths=[16], **options)
        if kind == "mlp"
        else ConvVAE(widths=[4, 8], hidden=16, **options)
    )
    return model.eval().requires_grad_(False)


def data_of(images: Tensor, labels: Tensor, classes: int = CLASSES) -> ImageData:
    """The same images (N, C, H, W) uint8 as every part."""
    part = ImageSet(images, labels, torch.arange(len(images)))
    return ImageData(
        ImageSpec("planted", tuple(images.shape[1:]), tuple(map(str, range(classes)))),
        part,
        part,
        part,
    )


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_labels_change_both_networks(kind: str) -> None:
    model, images, z = cvae(kind=kind), torch.rand(5, 1, 8, 8), torch.randn(5, 3)
    zeros, ones = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    assert (model.generate(z, zeros) - model.generate(z, ones)).abs().amax(
        dim=(1, 2, 3)
    ).min() > 1e-4
    assert (model.encode(images, zeros).mean - model.encode(images, ones).mean).abs().amax(
        dim=1
    ).min() > 1e-4
    mixed = model.generate(z, torch.tensor([0, 1, 0, 1, 1]))
    torch.testing.assert_close(
        mixed[[0, 2]], model.generate(z, zeros)[[0, 2]]
    )  # each row has its own label
    torch.testing.assert_close(mixed[[1, 3, 4]], model.generate(z, ones)[[1, 3, 4]])
    torch.testing.assert_close(model.generate(z), model.generate(z, -ones), rtol=0, atol=0)
    assert not torch.allclose(model.generate(z), model.generate(z, zeros))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_the_label_reaches_every_hidden_layer(kind: str) -> None:
    """As many conditional biases as hidden layers, none of which is without effect."""
    model = cvae(kind=kind).requires_grad_(True)
    labels = torch.tensor([0, 1])
    model.generate(model.encode(torch.rand(2, 1, 8, 8), labels).mean, labels).sum().backward()
    for network in (model.encoder, model.decoder):
        shifts = [parameter for name, parameter in network.named_parameters() if ".shift." in name]
        assert len(shifts) == sum(isinstance(layer, nn.ReLU) for layer in network)
        assert all(weights.grad is not None and weights.grad.abs().sum() > 0 for weights in shifts)
    assert model.label_embedding.weight.grad[:, 0].ne(0).tolist() == [
        False,
        True,
        True,
        False,
        False,
    ]


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
    """Against numbers of the code before there were labels: the same initial weights, the same terms, no new names."""
    cfg = composed("train", f"model={name}", "likelihood=bernoulli", "model.image_shape=[1,28,28]")
    config = OmegaConf.to_container(cfg.model, resolve=True)
    torch.manual_seed(0)
    model = checkpoint.rebuild(config)
    assert isinstance(model, VAE)
    assert sum(value.double().abs().sum().item() for value in model.parameters()) == pytest.approx(
        weights, rel=1e-12
    )
    assert {key.split(".")[0] for key in model.state_dict()} == {"encoder", "decoder"}
    assert type(model.encoder) is type(model.decoder) is nn.Sequential
    torch.manual_seed(1)
    terms = elbo.elbo_terms(model, torch.rand(4, 1, 28, 28), torch.arange(4))
    assert terms.distortion.sum().item() == pytest.approx(distortion, rel=1e-5)
    assert terms.kl.sum().item() == pytest.approx(kl, rel=1e-4)


def test_dropped_labels() -> None:
    labels = torch.arange(40_000) % CLASSES
    torch.manual_seed(3)
    dropped = drop_labels(labels, 0.1)
    assert (dropped == -1).double().mean().item() == pytest.approx(
        0.1, abs=0.006
    )  # 4 standard errors
    assert ((dropped == labels) | (dropped == -1)).all()
    torch.manual_seed(3)
    assert torch.equal(drop_labels(labels, 0.1), dropped)
    state = torch.get_rng_state()
    assert drop_labels(labels, 0.0) is labels and torch.equal(torch.get_rng_state(), state)


def test_training_hides_the_same_labels_from_encoder_and_decoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, seen = cvae(label_dropout=0.5).train().requires_grad_(True), []
    trainer = instantiate(composed("train", "precision=fp32").trainer, model=model)
    condition = model.condition
    monkeypatch.setattr(
        model, "condition", lambda labels, n: seen.append(labels) or condition(labels, n)
    )
    batch = Batch(torch.rand(200, 1, 8, 8), torch.arange(200) % CLASSES)
    for step in (0, 1, 0):
        reseed(0, "train", step)
        trainer.update(batch, step, 10)
    assert len(seen) == 6 and all(map(torch.equal, seen[::2], seen[1::2]))
    assert (seen[0] == -1).double().mean().item() == pytest.approx(
        0.5, abs=0.15
    )  # 4 standard errors
    assert torch.equal(seen[0], seen[4]) and not torch.equal(
        seen[0], seen[2]
    )  # a function of the step


def test_labels_that_are_none_are_refused() -> None:
    z = torch.zeros(2, 3)
    with pytest.raises(
        ValueError, match=r"^labels=\[4\]: must be integers from 0 to 3, or -1 for no label$"
    ):
        cvae().generate(z, torch.tensor([0, 4]))
    with pytest.raises(
        ValueError, match=r"^labels=\[-1\]: must be integers from 0 to 3: .* without label_dropout"
    ):
        cvae(label_dropout=0).generate(z)
    with pytest.raises(ValueError, match=r"labels=\[-1\]"):
        cvae(label_dropout=0).encode(torch.rand(2, 1, 8, 8), torch.tensor([0, -1]))
    with pytest.raises(
        ValueError, match=r"^labels=\[1, 9\]: must be classes from 0 to 3 \(0 cat, 1 dog\)$"
    ):
        grids.samples(cvae(), FigureOptions(labels=[1, 9], classes=["cat", "dog", "2", "3"]))
    unconditional = MLPVAE(
        image_shape=(1, 8, 8), latent_dim=3, widths=[4], likelihood=BernoulliLikelihood()
    )
    with pytest.raises(
        ValueError, match=r"^labels=\[1\]: must be null: this model knows no classes$"
    ):
        grids.samples(unconditional, FigureOptions(labels=[1]))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_training_does_not_look_at_its_labels(kind: str) -> None:
    """On an accelerator every look would wait for it. Tensors of the meta device have no values to look at."""
    model = cvae(kind=kind).to("meta").train()
    labels = torch.zeros(5, dtype=torch.long, device="meta")
    terms = elbo.elbo_terms(model, torch.zeros(5, 1, 8, 8, device="meta"), labels)
    assert terms.elbo.shape == (5,)
    with pytest.raises(NotImplementedError, match="meta"):
        model.eval().generate(torch.zeros(5, 3, device="meta"), labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": -1}, "num_classes=-1"),
        ({"num_classes": 2, "label_dropout": 1.0}, "label_dropout=1"),
        (
            {"num_classes": 0, "label_dropout": 0.1},
            "label_dropout=0.1: must be 0 for a model without classes",
        ),
    ],
)
def test_illegal_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPVAE(
            image_shape=(1, 8, 8),
            latent_dim=3,
            widths=[4],
            likelihood=BernoulliLikelihood(),
            **options,
        )


def test_data_without_labels_are_refused(train_here: Callable, tmp_path: Path) -> None:
    write_pictures(tmp_path / "mine")
    with pytest.raises(UserError, match=r"^model=cvae_mlp: needs labels, but mine has none$"):
        train_here(*SMALL_CVAE, "dataset=folder", f"dataset.root={tmp_path / 'mine'}")


@pytest.mark.parametrize("label_dropout", [0.0, 0.1])
def test_which_labels_figures_use(label_dropout: float) -> None:
    model = cvae(label_dropout)

    def labels_of(figure: Callable, **wishes: object) -> list[int]:
        return [row["label"] for row in figure(model, FigureOptions(n=6, **wishes)).table]

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
    lines = grids.style_grid(cvae(), FigureOptions(n=3)).table
    z = torch.tensor([[row[f"z{index}"] for index in range(3)] for row in lines]).view(
        3, CLASSES, 3
    )
    assert z.eq(z[:, :1]).all() and z[:, 0].unique(dim=0).shape == (3, 3)
    noise = [(row["z0"], row["z1"]) for row in grids.class_grid(cvae(), FigureOptions(n=3)).table]
    assert len(set(noise)) == 3 * CLASSES  # there each image has its own


def test_images_of_the_class_grid_are_of_their_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that paints its label: the sheet's rows are as bright as their labels say."""
    model = cvae()
    monkeypatch.setattr(
        model, "generate", lambda z, labels: labels.view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 4
    )
    sheet = (
        grids.class_grid(model, FigureOptions(n=2, labels=[3, 1]))
        .figure.axes[0]
        .images[0]
        .get_array()
    )
    assert (
        sheet.shape[:2] == (18, 18)
        and (sheet[:8, :8] == 191).all()
        and (sheet[10:, 10:] == 64).all()
    )


def test_from_training_to_figures(train_here: Callable, infer_here: Callable) -> None:
    """The doors: number of classes from the data, reload, figures by default, labels asked for, refused, metrics."""
    run = train_here(*SMALL_CVAE, "max_steps=3")
    config = OmegaConf.load(run / "config.yaml")
    assert config.model.num_classes == 10 and config.model.label_dropout == 0.1
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
    assert re.search(r"left out metrics leakage.*: its data have none", caplog.text)
    with pytest.raises(
        UserError, match="metrics: leakage needs labels of the images, but its data have none"
    ):
        infer_here(f"checkpoint={run}", f"dataset.root={tmp_path / 'mine'}", "metrics=[leakage]")
