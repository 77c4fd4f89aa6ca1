"""Generator and discriminator: their stages, initialisation, normalisation and labels."""

import pytest
import torch
from test_models import build
from torch import nn

from genmodels.models.batch_norm import BatchNorm2d
from genmodels.models.blocks import ConditionalBias, ResidualBlock
from genmodels.models.gan import GAN, Discriminator, Generator, feature_map_sizes

NARROW = ["model.generator_width=4", "model.discriminator_width=4", "model.latent_dim=8"]


def gan_of(name: str, *overrides: str, shape: tuple[int, int, int] = (1, 16, 16)) -> GAN:
    model, _ = build(name, shape, *NARROW, *overrides)
    assert isinstance(model, GAN)
    return model


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def residual_blocks(network: nn.Module) -> list[ResidualBlock]:
    return [layer for layer in network.modules() if isinstance(layer, ResidualBlock)]


def test_a_label_reaches_every_hidden_layer_of_the_generator() -> None:
    generator = gan_of("cgan", "model.generator_blocks=1").generator
    layers = list(generator.modules())
    biases = [layer for layer in layers if isinstance(layer, ConditionalBias)]
    # of the linear layer, of the transposed convolution, and of the first layer in each of 2 blocks
    relus = sum(isinstance(layer, nn.ReLU) for layer in layers)
    assert len(biases) == relus - len(residual_blocks(generator)) == 4
    z, labels = generator.prior.sample(3), torch.tensor([0, 1, 2])
    images = generator.generate(z, labels)
    for bias in biases:
        weight = bias.shift.weight.data
        bias.shift.weight.data = torch.zeros_like(weight)
        assert not torch.equal(generator.generate(z, labels), images)
        bias.shift.weight.data = weight


def test_a_label_changes_the_logit() -> None:
    """Also no label, which is that of images without labels."""
    discriminator = gan_of("cgan").discriminator
    nn.init.normal_(discriminator.class_directions.weight)
    images = torch.rand(1, 1, 16, 16).expand(4, -1, -1, -1)
    logits = discriminator(images, torch.tensor([-1, 0, 1, 2]))
    assert len(set(logits.tolist())) == 4
    torch.testing.assert_close(discriminator(images), logits[:1].expand(4))


def test_a_generator_takes_noise_of_either_shape() -> None:
    generator = gan_of("gan").generator.eval()
    z = generator.prior.sample(5)
    assert torch.equal(generator.generate(z), generator.generate(z[:, :, None, None]))


@pytest.mark.parametrize(
    ("shape", "smallest", "stages"),
    [
        ((1, 28, 28), (4, 4), 3),
        ((3, 64, 64), (4, 4), 4),
        ((3, 32, 32), (4, 4), 3),
        ((1, 28, 20), (4, 3), 3),
        ((1, 8, 8), (4, 4), 1),
        ((1, 5, 9), (3, 5), 1),
    ],
)
def test_feature_map_sizes(
    shape: tuple[int, int, int], smallest: tuple[int, int], stages: int
) -> None:
    sizes = feature_map_sizes(shape)
    assert sizes[0] == shape[1:] and sizes[-1] == smallest and len(sizes) == stages + 1


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"image_shape=\[1, 4, 4\]: must be of sides over 4 pixels"
    ):
        gan_of("gan", shape=(1, 4, 4))


def test_the_networks_are_those_of_the_paper() -> None:
    """Parameters of DCGAN's networks at 64x64, ngf = ndf = 64, nz = 100, counted by hand.

    Convolutions have biases besides those of the published code.
    """
    shape = (3, 64, 64)
    generator = Generator(
        image_shape=shape,
        latent_dim=100,
        generator_width=64,
        generator_norm="batch",
        generator_blocks=0,
    )
    kernels = 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    norms = 2 * (512 + 256 + 128 + 64)
    biases = 512 * 16 + 256 + 128 + 64 + 3
    assert count(generator) == 100 * 512 * 16 + kernels + norms + biases

    discriminator = Discriminator(
        image_shape=shape,
        discriminator_width=64,
        discriminator_norm="batch",
        discriminator_blocks=0,
    )
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    norms = 2 * (128 + 256 + 512)
    biases = 64 + 128 + 256 + 512
    head = 512 * 16 + 1
    assert count(discriminator) == kernels + norms + biases + head
    kinds = [type(layer) for layer in discriminator.body]
    stage = [nn.Conv2d, BatchNorm2d, nn.LeakyReLU]
    assert kinds == [nn.Conv2d, nn.LeakyReLU, *stage * 3, nn.Flatten]


@pytest.mark.parametrize("blocks", [0, 2])
def test_residual_blocks_follow_each_hidden_layer(blocks: int) -> None:
    """Of widths 8 and 4 at 16x16, each with two 3x3 convolutions; G's are normalised."""
    keys = ["model.generator_blocks={}", "model.discriminator_blocks={}"]
    gan = gan_of("gan", *(key.format(blocks) for key in keys))
    without = gan_of("gan", *(key.format(0) for key in keys))
    convolutions = sum(2 * (9 * width * width + width) for width in (8, 4))
    norms = sum(2 * 2 * width for width in (8, 4))
    added = count(gan.generator) - count(without.generator)
    assert added == blocks * (convolutions + norms)
    assert count(gan.discriminator) - count(without.discriminator) == blocks * convolutions
    images = gan.generator.generate(gan.generator.prior.sample(3))
    assert images.shape == (3, 1, 16, 16)
    assert gan.discriminator(images).shape == (3,)


def test_a_residual_block_without_normalisation_begins_by_adding_nothing() -> None:
    gan = gan_of("gan", "model.generator_norm=none")
    features = torch.rand(2, 8, 4, 4)
    for block in (residual_blocks(gan.generator)[0], residual_blocks(gan.discriminator)[1]):
        assert torch.equal(block(features), features)
        nn.init.ones_(block.second.weight)
        assert not torch.equal(block(features), features)


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_a_residual_block_with_normalisation_does_not_begin_at_zero(norm: str) -> None:
    """Spectral normalisation would divide by 0."""
    overrides = (f"model.discriminator_norm={norm}", "penalty=none")
    discriminator = gan_of("gan", *overrides).discriminator
    features = torch.rand(2, 8, 4, 4)
    changed = residual_blocks(discriminator)[1](features)
    assert changed.isfinite().all() and not torch.equal(changed, features)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_activations_keep_their_size(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    gan = GAN(
        image_shape=shape,
        latent_dim=64,
        generator_width=16,
        discriminator_width=16,
        generator_norm="none",
        generator_blocks=1,
        discriminator_norm="none",
        discriminator_blocks=1,
    )
    assert 0.5 < gan.generator.body(torch.randn(64, 64)).std() < 3
    features = gan.discriminator.features(torch.rand(64, *shape))
    assert 0.1 < features.square().mean().sqrt() < 3


def test_spectral_norm_holds_every_layer() -> None:
    """Each weight's largest singular value is 1, about: the power iteration has converged."""
    discriminator = gan_of("cgan", "model.discriminator_norm=spectral").discriminator
    images, labels = torch.rand(8, 1, 16, 16), torch.arange(8) % 3
    for _ in range(20):
        discriminator.train()(images, labels)
    first, second = (layer for layer in discriminator.body if isinstance(layer, nn.Conv2d))
    layers = (first, second, discriminator.head, discriminator.class_directions)
    for layer in layers:
        assert nn.utils.parametrize.is_parametrized(layer, "weight")
        singular_value = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert singular_value.item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("norm", "uses_batch"), [("none", False), ("batch", True)])
def test_only_batch_norm_lets_a_logit_depend_on_other_images(norm: str, uses_batch: bool) -> None:
    penalty = "penalty=none"
    discriminator = gan_of("gan", f"model.discriminator_norm={norm}", penalty).discriminator
    assert discriminator.uses_batch_statistics == uses_batch
    images = torch.rand(6, 1, 16, 16)
    in_six, in_two = discriminator(images)[:2], discriminator(images[:2])
    assert torch.allclose(in_six, in_two, atol=1e-5) != uses_batch


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.latent_dim=0", "latent_dim=0"),
        ("model.generator_width=0", "generator_width=0"),
        ("model.discriminator_width=-1", "discriminator_width=-1"),
        ("model.generator_blocks=-1", "generator_blocks=-1: must be an integer >= 0"),
        ("model.discriminator_blocks=-1", "discriminator_blocks=-1: must be an integer >= 0"),
        ("model.generator_norm=layer", "generator_norm=layer: must be one of none, batch$"),
        ("model.discriminator_norm=layer", "discriminator_norm=layer: must be one of none, "),
    ],
)
def test_illegal_networks_are_refused(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gan_of("gan", override)
