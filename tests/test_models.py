"""The contract of every generative model in conf/model, over shapes; and what each is made of."""

from pathlib import Path

import pytest
import torch
from conftest import ROOT, composed, settings_of
from hydra.utils import get_class
from torch import nn

from genmodels import checkpoint
from genmodels.data.images import ImageSpec
from genmodels.models import blocks, vae_networks
from genmodels.models.classifier import Classifier
from genmodels.models.gan import GAN
from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE


def is_generative(name: str) -> bool:
    """Whether a model of conf/model makes images."""
    return not issubclass(get_class(composed("train", f"model={name}").model._target_), Classifier)


MODELS = sorted(
    path.stem for path in (ROOT / "conf/model").glob("*.yaml") if is_generative(path.stem)
)
VAES = [name for name in MODELS if "vae" in name]
ACTIVATION = nn.LeakyReLU | nn.SiLU
WEIGHTED = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 28, 20)]


def build(name: str, shape: tuple[int, int, int], *overrides: str) -> tuple[nn.Module, dict]:
    """A freshly initialised model of conf/model, and its configuration."""
    spec = ImageSpec("planted", shape, ("a", "b", "c"))
    config = settings_of(f"model={name}", *overrides, spec=spec).model
    torch.manual_seed(0)
    return checkpoint.rebuild(config), config


def build_generative(
    name: str, shape: tuple[int, int, int], *overrides: str
) -> tuple[GenerativeModel, dict]:
    """The same; of a GAN, the generator."""
    model, config = build(name, shape, *overrides)
    if isinstance(model, GAN):
        model = model.generator
    assert isinstance(model, GenerativeModel)
    return model, config


def build_vae(name: str, shape: tuple[int, int, int], *overrides: str) -> VAE:
    model, _ = build(name, shape, *overrides)
    assert isinstance(model, VAE)
    return model


@pytest.mark.parametrize(("shape", "latent_dim"), list(zip(SHAPES, [7, 1, 7, 7, 1], strict=True)))
@pytest.mark.parametrize("name", MODELS)
def test_contract(name: str, shape: tuple[int, int, int], latent_dim: int, tmp_path: Path) -> None:
    """Shapes, range, a gradient to every parameter, and the same images once saved and rebuilt."""
    prior = ["prior=standard_normal"] if name in VAES else []  # others: test_learned_priors
    model, config = build_generative(name, shape, f"model.latent_dim={latent_dim}", *prior)
    z = model.prior.sample(3)
    assert z.shape == (3, latent_dim)
    images = model.generate(z)
    assert images.shape == (3, *shape) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    assert model.sample(2).shape == (2, *shape)

    if isinstance(model, VAE):
        images = model.generate(model.encode(torch.rand(3, *shape)).rsample())
    images.sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), parameter_name

    path = tmp_path / "model.safetensors"
    checkpoint.export(path, model, config, {"name": "x"})
    rebuilt, about = checkpoint.open_run(path)
    assert about == {"name": "x"} and type(rebuilt) is type(model)
    assert not any(key.startswith(("module.", "_orig_mod.")) for key in rebuilt.state_dict())
    model.eval().to(memory_format=torch.channels_last)  # as in training
    torch.testing.assert_close(rebuilt.generate(z), model.generate(z), rtol=0, atol=0)


@pytest.mark.parametrize("name", VAES)
def test_encoders_and_decoders(name: str) -> None:
    model = build_vae(name, (1, 28, 28), "model.latent_dim=5")
    images, labels = torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long)
    posterior = model.encode(images, labels)
    assert posterior.mean.shape == posterior.log_variance.shape == posterior.stddev.shape == (4, 5)
    likelihood = model.decode(posterior.rsample(), labels)
    assert likelihood.log_prob(images).shape == (4,)
    assert likelihood.mean.shape == likelihood.sample().shape == images.shape


@pytest.mark.parametrize("norm", blocks.NORMS)
@pytest.mark.parametrize("name", VAES)
def test_hidden_layers_are_normalised(name: str, norm: str) -> None:
    """All but the last layer of each network.

    Only normalisation over the batch makes an image's posterior depend on the other images.
    """
    model = build_vae(name, (1, 28, 28), f"model.norm={norm}", "model.widths=[8,16]")
    kinds: dict[str, tuple[type, ...]] = {
        "batch": (nn.BatchNorm1d, nn.BatchNorm2d),
        "layer": (nn.GroupNorm,),
        "none": (),
    }
    layers = list(model.modules())
    normalisations = sum(isinstance(layer, kinds[norm]) for layer in layers)
    hidden = sum(isinstance(layer, ACTIVATION) for layer in layers)
    assert hidden >= 4
    assert normalisations == (0 if norm == "none" else hidden)

    images, labels = torch.rand(6, 1, 28, 28), torch.zeros(6, dtype=torch.long)
    in_six = model.train().encode(images, labels).mean[:2]
    in_two = model.train().encode(images[:2], labels[:2]).mean
    assert torch.allclose(in_six, in_two, atol=1e-5) == (norm != "batch")


@pytest.mark.parametrize("name", VAES)
def test_encoders_see_images_around_zero(name: str) -> None:
    """A black and a white image are -1 and 1 to the first layer."""
    model = build_vae(name, (1, 28, 28))
    first = next(layer for layer in model.encoder.modules() if isinstance(layer, WEIGHTED))
    inputs: list[torch.Tensor] = []
    first.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    model.encode(torch.stack([torch.zeros(1, 28, 28), torch.ones(1, 28, 28)]))
    (seen,) = inputs
    assert seen[0].eq(-1).all() and seen[1].eq(1).all()


@pytest.mark.parametrize("name", VAES)
def test_units_below_zero_go_on_learning(name: str) -> None:
    """Biases of -100 keep all LeakyReLUs below zero; each weight before them has a gradient."""
    model = build_vae(name, (1, 28, 28), "model.activation=leaky_relu")
    networks = [*model.encoder.modules(), *model.decoder.modules()]
    layers = [layer for layer in networks if isinstance(layer, WEIGHTED)]
    for layer in layers:
        if layer.bias is not None:
            nn.init.constant_(layer.bias, -100)
    images, z = torch.rand(4, 1, 28, 28), torch.randn(4, model.latent_dim)
    condition = model.condition(None, 4)
    output = model.encoder(images, *condition).sum() + model.decoder(z, *condition).sum()
    output.backward()
    assert all(layer.weight.grad is not None and layer.weight.grad.any() for layer in layers)


@pytest.mark.parametrize("name", VAES)
def test_hidden_layers_have_the_activation_that_is_asked_for(name: str) -> None:
    model = build_vae(name, (1, 28, 28), "model.activation=silu")
    kinds = {type(layer) for layer in model.modules()}
    assert nn.SiLU in kinds and not kinds & {nn.ReLU, nn.LeakyReLU}


def test_an_unknown_norm_or_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="activation=tanh: must be one of leaky_relu, relu, silu"):
        build("vae", (1, 28, 28), "model.activation=tanh")
    with pytest.raises(ValueError, match="norm=group: must be one of none, batch, layer"):
        build("vae", (1, 28, 28), "model.norm=group")


@pytest.mark.parametrize("name", MODELS)
def test_samples_at_temperature_zero_are_all_alike(name: str) -> None:
    """Under N(0, I); other priors may have several modes."""
    model, _ = build_generative(name, (1, 8, 8))
    model = model.with_prior(StandardNormal(model.latent_dim)).eval()
    images = model.sample(3, temperature=0.0)
    torch.testing.assert_close(images, images[:1].expand(3, -1, -1, -1))
    with pytest.raises(ValueError, match="temperature=-1"):
        model.sample(1, temperature=-1)


@pytest.mark.parametrize("kind", ["vae", "vae_mlp"])
def test_z_reaches_every_hidden_layer_of_a_decoder(kind: str) -> None:
    """All but the first, whose input it is; with skips=false none."""
    model = build_vae(kind, (1, 8, 8))
    z = torch.randn(2, model.latent_dim)
    model.requires_grad_(True).generate(z).sum().backward()
    shifts = [weights for name, weights in model.named_parameters() if ".shift." in name]
    hidden = sum(isinstance(layer, ACTIVATION) for layer in model.decoder.modules())
    assert len(shifts) == hidden - 1 > 0
    assert all(weights.grad is not None and weights.grad.any() for weights in shifts)

    plain = build_vae(kind, (1, 8, 8), "model.skips=false")
    assert not [name for name, _ in plain.named_parameters() if ".shift." in name]


@pytest.mark.parametrize("side", range(4, 70))
def test_halving_and_doubling_any_side_are_inverse(side: int) -> None:
    network = vae_networks.conv_decoder(2, 4, [4, 2], (1, side, 2 * side))
    assert network(torch.zeros(1, 2)).shape == (1, 1, side, 2 * side)


def test_halvings() -> None:
    assert blocks.halvings(28, 3) == [28, 14, 7, 4]
    assert blocks.halved_sizes((3, 28, 20), 2) == [(28, 20), (14, 10), (7, 5)]
    with pytest.raises(
        ValueError, match="widths: 4 stages halve a side of 8 pixels too often: at most 3"
    ):
        blocks.halvings(8, 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.latent_dim=0", "latent_dim=0"),
        ("model.widths=[]", "widths="),
        ("model.widths=[0]", "widths="),
    ],
)
@pytest.mark.parametrize("name", VAES)
def test_illegal_sizes_are_named(name: str, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, (1, 28, 28), override)


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
