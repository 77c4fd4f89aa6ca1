"""The contract of every generative model in conf/model, over shapes; and what each is made of."""

from pathlib import Path

import pytest
import torch
from conftest import ROOT, composed
from genmodels.config import settle
from hydra.utils import get_object
from omegaconf import OmegaConf

from genmodels import checkpoint
from genmodels.data.images import ImageSpec
from genmodels.models import blocks
from genmodels.models.classifier import Classifier
from genmodels.models.gan import GAN

MODELS = sorted(
    path.stem
    for path in (ROOT / "conf/model").glob("*.yaml")
    if not issubclass(
        get_object(composed("train", f"model={path.stem}").model._target_), Classifier
    )
)
VAES = [name for name in MODELS if "vae" in name]
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 28, 20)]


def build(name: str, shape: tuple[int, ...], *overrides: str) -> tuple[torch.nn.Module, dict]:
    """A generative model and what rebuilds it; of a GAN, the generator."""
    cfg = composed("train", f"model={name}", *overrides)
    settle(cfg, ImageSpec("planted", shape, ("a", "b", "c")))
    config = OmegaConf.to_container(cfg.model, resolve=True)
    torch.manual_seed(0)
    model = checkpoint.rebuild(config)
    model = model.generator if isinstance(model, GAN) else model
    return model, checkpoint.part_of(config, model)


@pytest.mark.parametrize("latent_dim", [1, 7])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_contract(name: str, shape: tuple[int, ...], latent_dim: int, tmp_path: Path) -> None:
    """Shapes, range, a gradient to every parameter, and the same images from a saved and rebuilt model."""
    model, config = build(name, shape, f"model.latent_dim={latent_dim}")
    z = model.prior.sample(3)
    assert z.shape == (3, latent_dim)
    images = model.generate(z)
    assert images.shape == (3, *shape) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    assert model.sample(2).shape == (2, *shape)

    if hasattr(model, "encode"):
        images = model.generate(model.encode(torch.rand(3, *shape)).rsample())
    images.sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, parameter_name

    checkpoint.export(tmp_path / "model.safetensors", model, config, {"name": "x"})
    again, about = checkpoint.open_run(tmp_path / "model.safetensors")
    assert about == {"name": "x"} and type(again) is type(model)
    assert not any(name.startswith(("module.", "_orig_mod.")) for name in again.state_dict())
    torch.testing.assert_close(again.generate(z), model.eval().generate(z), rtol=0, atol=0)


@pytest.mark.parametrize("name", VAES)
def test_encoders_and_decoders(name: str) -> None:
    model, _ = build(name, (1, 28, 28), "model.latent_dim=5")
    images, labels = torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long)
    posterior = model.encode(images, labels)
    assert posterior.mean.shape == posterior.log_variance.shape == posterior.stddev.shape == (4, 5)
    likelihood = model.decode(posterior.rsample(), labels)
    assert likelihood.log_prob(images).shape == (4,)
    assert likelihood.mean.shape == likelihood.sample().shape == images.shape


@pytest.mark.parametrize("norm", blocks.NORMS)
@pytest.mark.parametrize("name", VAES)
def test_hidden_layers_are_normalised(name: str, norm: str) -> None:
    """All of them but the last of each network: it has scale and shift for each; an image's own layers are alike
    whatever else is in the batch, but for those over the batch."""
    model, _ = build(name, (1, 28, 28), f"model.norm={norm}", "model.widths=[8,16]")
    kinds = {
        "batch": (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d),
        "layer": (torch.nn.GroupNorm,),
        "none": (),
    }[norm]
    found = sum(isinstance(layer, kinds) for layer in model.modules())
    hidden = sum(isinstance(layer, torch.nn.ReLU) for layer in model.modules())
    assert found == (hidden if norm != "none" else 0) and hidden >= 4
    images, labels = torch.rand(6, 1, 28, 28), torch.zeros(6, dtype=torch.long)
    together, alone = (model.train().encode(images[:n], labels[:n]).mean[:2] for n in (6, 2))
    assert torch.allclose(together, alone, atol=1e-5) == (norm != "batch")


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="norm=group: must be one of none, batch, layer"):
        build("vae", (1, 28, 28), "model.norm=group")


@pytest.mark.parametrize("name", MODELS)
def test_temperature_is_a_variance(name: str) -> None:
    model, _ = build(name, (1, 8, 8), "model.latent_dim=50")
    noise = [
        model.prior.sample(2000, temperature, torch.Generator().manual_seed(1))
        for temperature in (0.0, 1.0, 4.0)
    ]
    assert noise[0].abs().max() == 0
    assert noise[1].var().item() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(
        noise[2], 2 * noise[1]
    )  # the same noise, twice the standard deviation
    with pytest.raises(ValueError, match="temperature=-1"):
        model.prior.sample(1, -1)


@pytest.mark.parametrize("side", range(4, 70))
def test_halving_and_doubling_any_side_are_inverse(side: int) -> None:
    network = blocks.conv_decoder(2, 4, [4, 2], (1, side, 2 * side))
    assert network(torch.zeros(1, 2)).shape == (1, 1, side, 2 * side)


def test_halvings() -> None:
    assert blocks.halvings(28, 3) == [28, 14, 7, 4]
    with pytest.raises(
        ValueError, match="widths: 4 stages halve a side of 8 pixels too often: at most 3"
    ):
        blocks.halvings(8, 4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.latent_dim=0"], "latent_dim=0"),
        (["model.widths=[]"], "widths="),
        (["model.widths=[0]"], "widths="),
    ],
)
@pytest.mark.parametrize("name", VAES)
def test_illegal_sizes_are_named(name: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, (1, 28, 28), *overrides)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "genmodels.models.vae.torch.load",
        "genmodels.models.vae.nn.Linear",
        "genmodels.models.blocks.halvings",
        "genmodels.models.vae.Likelihood",
        "genmodels.trainers.vae.VAETrainer",
        "genmodels.models.nowhere.X",
        "VAE",
        "",
    ],
)
def test_rebuild_calls_nothing_but_our_models(target: str) -> None:
    with pytest.raises(ValueError, match="_target_="):
        checkpoint.rebuild({"_target_": target})
