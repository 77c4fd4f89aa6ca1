"""Conditional models: what a label does, and labels that are missing or wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, composed, settings_of, write_pictures
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from genmodels import checkpoint
from genmodels.data.images import Batch, drop_labels
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.vae import elbo_terms
from genmodels.models.vae import MLPVAE, VAE, ConvVAE
from genmodels.randomness import reseed
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
    """Initial weights, terms and names are those of the code before there were labels."""
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
    terms = elbo_terms(model, torch.rand(4, 1, 28, 28), torch.arange(4))
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
    trainer = instantiate(settings_of("precision=fp32").trainer, model=model)
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


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_training_does_not_look_at_its_labels(kind: str) -> None:
    """Reading them would wait for an accelerator. Tensors on the meta device have no values."""
    model = cvae(kind=kind).to("meta").train()
    labels = torch.zeros(5, dtype=torch.long, device="meta")
    terms = elbo_terms(model, torch.zeros(5, 1, 8, 8, device="meta"), labels)
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
