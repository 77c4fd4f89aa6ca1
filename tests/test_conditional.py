"""Conditional models: what a label does, and labels that are missing or wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, settings_of, write_pictures
from test_models import build_vae
from torch import Tensor, nn

from genmodels.data.images import Batch, ImageSpec, drop_labels
from genmodels.fitting import build
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.vae import elbo_terms
from genmodels.models.vae import MLPVAE, VAE, ConvVAE
from genmodels.randomness import reseed
from genmodels.trainers.vae import VAETrainer
from genmodels.user_errors import UserError

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
    """As many shifts as hidden layers, none without effect; a decoder's first reads the label."""
    model = vae(kind).requires_grad_(True)
    labels = torch.tensor([0, 1])
    model.generate(model.encode(torch.rand(2, 1, 8, 8), labels).mean, labels).sum().backward()
    for network in (model.encoder, model.decoder):
        shifts = [weight for name, weight in network.named_parameters() if ".shift." in name]
        hidden = sum(isinstance(layer, nn.LeakyReLU) for layer in network.modules())
        assert len(shifts) == hidden - (network is model.decoder)
        assert all(weight.grad is not None and weight.grad.any() for weight in shifts)
    gradient = model.label_embedding.weight.grad
    assert gradient is not None
    assert gradient[:, 0].ne(0).tolist() == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("name", "weights", "distortion", "kl"),
    [
        ("vae", 23288.356494053227, 2175.49169, 0.08086284),
        ("vae_mlp", 29889.216035591235, 2179.81470, 0.423379779),
    ],
)
def test_unconditional_models_are_what_they_were(
    name: str, weights: float, distortion: float, kl: float
) -> None:
    """With the networks of then, weights and terms are those of the code before labels."""
    then = ["likelihood=bernoulli", "prior=standard_normal"]
    then += ["model.skips=false", "model.activation=leaky_relu"]
    model = build_vae(name, (1, 28, 28), *then)
    total = sum(parameter.double().abs().sum().item() for parameter in model.parameters())
    assert total == pytest.approx(weights, rel=1e-12)
    assert {key.split(".")[0] for key in model.state_dict()} == {"encoder", "decoder"}
    assert not [name for name in model.state_dict() if ".shift." in name]
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
    with pytest.raises(
        UserError,
        match=r"^model=cvae_mlp: needs labels, but mine has none: its images do not lie in",
    ):
        train_here(*SMALL_CVAE, "dataset=folder", f"dataset.root={tmp_path / 'mine'}")
