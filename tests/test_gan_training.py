"""The GAN: its two players, their updates, what a run of one leaves, and what is refused."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import composed, same
from genmodels.config import settle
from hydra.utils import instantiate
from test_models import build

import genmodels
from genmodels import checkpoint, safetensors_io
from genmodels.data.images import Batch, ImageData, ImageSet, ImageSpec
from genmodels.losses.adversarial import Penalty
from genmodels.metrics import gan_diagnosis
from genmodels.metrics.evaluation import Evaluation
from genmodels.models.blocks import ConditionalBias
from genmodels.models.gan import GAN, Discriminator, Generator, sides_of
from genmodels.models.generative import GenerativeModel
from genmodels.trainers.gan import GANTrainer
from genmodels.validation import UserError

NARROW = ["model.generator_width=4", "model.discriminator_width=4", "model.latent_dim=8"]
SMALL = ["model=gan", *NARROW, "batch_size=32", "precision=fp32"]


def trainer_of(
    *overrides: str, shape: tuple[int, int, int] = (1, 16, 16), model: str = "gan"
) -> GANTrainer:
    cfg = composed("train", f"model={model}", *NARROW, "precision=fp32", *overrides)
    settle(cfg, ImageSpec("planted", shape, ("a", "b", "c")))
    torch.manual_seed(0)
    network = checkpoint.rebuild(dict(cfg.model))
    return instantiate(cfg.trainer, model=network.to(memory_format=torch.channels_last))


def batch_of(shape: tuple[int, int, int] = (1, 16, 16), n: int = 8) -> Batch:
    noise = torch.Generator().manual_seed(1)
    return Batch(torch.rand(n, *shape, generator=noise), torch.arange(n) % 3)


def state_of(updater: object) -> dict:
    return copy.deepcopy(updater.state_dict())


@pytest.mark.parametrize("model", ["gan", "cgan"])
def test_each_player_moves_alone(model: str) -> None:
    """Bit for bit: weights, average and optimizer of the other one, and no gradient for it."""
    trainer, batch = trainer_of(model=model), batch_of()
    trainer.update(batch, 0, 10)  # both optimizers have a state
    real, labels = batch
    fake = trainer.model.generator.generate(trainer.model.generator.prior.sample(8), labels)
    generator, discriminator = state_of(trainer.generator), state_of(trainer.discriminator)
    for weights in trainer.model.parameters():
        weights.grad = None

    trainer.update_discriminator(real, fake.detach(), labels, 0, 10)
    assert same(generator, trainer.generator.state_dict())
    assert not same(discriminator["model"], trainer.discriminator.state_dict()["model"])
    assert all(weights.grad is None for weights in trainer.model.generator.parameters())

    discriminator = state_of(trainer.discriminator)
    for weights in trainer.model.parameters():
        weights.grad = None
    trainer.update_generator(fake, real, labels, 0, 10)
    assert same(discriminator, trainer.discriminator.state_dict())
    assert not same(generator["model"], trainer.generator.state_dict()["model"])
    assert all(weights.grad is None for weights in trainer.model.discriminator.parameters())


def test_batch_normalisation_of_one_player_is_not_the_others() -> None:
    trainer, batch = trainer_of("experiment=gan_dcgan", *NARROW), batch_of()
    fake = trainer.model.generator.generate(trainer.model.generator.prior.sample(8)).detach()
    before = state_of(trainer.generator)
    trainer.update_discriminator(batch.images, fake, batch.labels, 0, 10)
    assert same(before, trainer.generator.state_dict())


@pytest.mark.parametrize("n_critic", [1, 3])
def test_the_generator_takes_its_turn(n_critic: int) -> None:
    trainer, batch = trainer_of(f"trainer.n_critic={n_critic}"), batch_of()
    moved = []
    for step in range(6):
        before = [weights.detach().clone() for weights in trainer.model.generator.parameters()]
        terms = trainer.update(batch, step, 10)
        moved.append(
            not same(before, [weights.detach() for weights in trainer.model.generator.parameters()])
        )
        assert ("generator_loss" in terms) == moved[-1]
    assert moved == [(step + 1) % n_critic == 0 for step in range(6)]


def test_one_batch_of_images_serves_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """One forward pass of G a step; of D two for itself, and for G one, or two where the loss compares."""
    for loss, passes in (("non_saturating", 3), ("relativistic", 4)):
        trainer, seen = trainer_of(f"adversarial_loss={loss}"), []
        for network in trainer.model.children():
            network.register_forward_hook(lambda network, *_, seen=seen: seen.append(type(network)))
        trainer.update(batch_of(), 1, 10)  # a step without a penalty
        trainer.update(batch_of(), 8, 10)  # one with
        assert seen.count(Generator) == 2 and seen.count(Discriminator) == 2 * passes, loss


def test_penalties_count_their_steps_and_are_of_float32() -> None:
    trainer = trainer_of("penalty.every=2", "precision=bf16")
    kinds: list[torch.dtype] = []
    trainer.model.discriminator.body[0].register_forward_hook(
        lambda _, __, output: kinds.append(output.dtype)
    )
    assert "penalty" in trainer.update(batch_of(), 0, 10)
    assert kinds[:2] == [torch.float32] * 2
    kinds.clear()
    assert "penalty" not in trainer.update(batch_of(), 1, 10)
    assert set(kinds) == {torch.bfloat16}


def test_the_gradient_penalty_of_a_unit_slope_is_none() -> None:
    trainer = trainer_of("adversarial_loss=wasserstein", shape=(1, 8, 8))

    class Plane(Discriminator):
        def forward(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
            return self.slope * images[:, 0, 0, 0]

    plane = Plane(image_shape=(1, 8, 8), discriminator_width=1, discriminator_norm="none")
    trainer.penalty = Penalty(0.0, 0.0, 10.0, 1, 1.0)
    images = torch.rand(4, 1, 8, 8), torch.rand(4)
    for slope, expected in (
        (2.0, 0.0),
        (6.0, 10.0 * (3 - 1) ** 2),
    ):  # of [0, 1]: half of it in [-1, 1]
        plane.slope = slope
        found = trainer._penalty(plane, images, images, torch.zeros(4, dtype=torch.long), 0.0)
        torch.testing.assert_close(found, torch.full((4,), expected), atol=1e-5, rtol=1e-5)


def test_conditioning_reaches_every_block() -> None:
    model = trainer_of(model="cgan").model
    generator, biases = (
        model.generator,
        [m for m in model.generator.modules() if isinstance(m, ConditionalBias)],
    )
    hidden = [m for m in generator.modules() if isinstance(m, torch.nn.ReLU)]
    assert len(biases) == len(hidden) == 2
    z, labels = generator.prior.sample(3), torch.tensor([0, 1, 2])
    plain = generator.generate(z, labels)
    for bias in biases:
        kept = bias.shift.weight.detach().clone()
        torch.nn.init.zeros_(bias.shift.weight)
        assert not torch.equal(generator.generate(z, labels), plain)
        bias.shift.weight.data.copy_(kept)
    images = torch.rand(1, 1, 16, 16).expand(4, -1, -1, -1)
    torch.nn.init.normal_(model.discriminator.class_directions.weight)
    logits = model.discriminator(images, torch.tensor([-1, 0, 1, 2]))
    assert len(set(logits.tolist())) == 4
    torch.testing.assert_close(
        model.discriminator(images), logits[:1].expand(4)
    )  # without labels, as with -1


def test_a_generator_takes_noise_of_either_shape() -> None:
    generator = trainer_of().model.generator.eval()
    z = generator.prior.sample(5)
    assert torch.equal(generator.generate(z), generator.generate(z[:, :, None, None]))
    images = generator.sample(6, temperature=0.0)
    assert (images == images[:1]).all()


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
def test_sides(shape: tuple, smallest: tuple, stages: int) -> None:
    sides = sides_of(shape)
    assert sides[0] == shape[1:] and sides[-1] == smallest and len(sides) == stages + 1


def test_the_networks_are_those_of_the_paper() -> None:
    """Parameters of DCGAN's generator and discriminator at 64x64, ngf = ndf = 64, nz = 100, counted by hand; beside
    those of the published code, biases of the convolutions."""
    common = {"image_shape": (3, 64, 64)}
    generator = Generator(**common, latent_dim=100, generator_width=64, generator_norm="batch")
    discriminator = Discriminator(**common, discriminator_width=64, discriminator_norm="batch")
    kernels = 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    norms = 2 * (512 + 256 + 128 + 64)
    biases = 512 * 16 + 256 + 128 + 64 + 3
    assert (
        sum(p.numel() for p in generator.parameters()) == 100 * 512 * 16 + kernels + norms + biases
    )
    kernels = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    assert sum(p.numel() for p in discriminator.parameters()) == (
        kernels + 64 + 128 + 256 + 512 + 2 * (128 + 256 + 512) + 512 * 16 + 1
    )
    assert all(
        isinstance(
            layer, torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.LeakyReLU | torch.nn.Flatten
        )
        for layer in discriminator.body
    )


def test_activations_keep_their_size() -> None:
    for shape in ((1, 28, 28), (3, 64, 64)):
        torch.manual_seed(0)
        gan = GAN(
            image_shape=shape,
            latent_dim=64,
            generator_width=16,
            discriminator_width=16,
            generator_norm="none",
            discriminator_norm="none",
        )
        assert 0.5 < gan.generator.body(torch.randn(64, 64)).std() < 3
        assert 0.1 < gan.discriminator.features(torch.rand(64, *shape)).square().mean().sqrt() < 3


def test_spectral_norm_holds_every_layer() -> None:
    """At evaluation each weight has largest singular value 1, about: the power iteration has converged in training."""
    trainer = trainer_of("model.discriminator_norm=spectral", model="cgan")
    for step in range(15):
        trainer.update(batch_of(), step, 1000)
    layers = [
        m for m in trainer.model.discriminator.eval().modules() if hasattr(m, "parametrizations")
    ]
    assert len(layers) == 4  # two convolutions, head, class directions
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(
            1, abs=0.1
        )


def planted_data(
    images: torch.Tensor, labels: torch.Tensor | None = None, classes: tuple[str, ...] = ()
) -> ImageData:
    labels = torch.full((len(images),), -1) if labels is None else labels
    part = ImageSet(images, labels, torch.arange(len(images)))
    return ImageData(ImageSpec("planted", tuple(images.shape[1:]), classes), part, part, part)


class Replay(GenerativeModel):
    """A generator that shows given images, whatever the noise."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__(images.shape[1:], 4)
        self.images = torch.nn.Parameter(images, requires_grad=False)

    def generate(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Image number n for any z whose first value is in the n-th of equal shares of the normal distribution."""
        share = torch.distributions.Normal(0, 1).cdf(z[:, 0])
        return self.images[(share * len(self.images)).long().clamp(max=len(self.images) - 1)]


def test_verdicts_on_planted_generators() -> None:
    noise = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (300, 1, 8, 8), generator=noise, dtype=torch.uint8)
    evaluation = Evaluation(planted_data(real))

    def label(images: torch.Tensor) -> str:
        return gan_diagnosis.judge(gan_diagnosis.examine(Replay(images), evaluation)).label

    floats = torch.rand(100_000, 1, 8, 8, generator=noise)
    assert label(floats) == gan_diagnosis.HEALTHY
    assert label(torch.full((1, 1, 8, 8), 0.5)) == gan_diagnosis.COLLAPSED  # constant
    assert label(0.5 + 0.1 * (floats - 0.5)) == gan_diagnosis.COLLAPSED  # hardly any spread
    assert label(floats[:20]) == gan_diagnosis.COLLAPSED  # twenty images over and over
    found = gan_diagnosis.examine(Replay(real.float() / 255), evaluation)
    assert found.spread == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("case", "label", "words"),
    [
        (
            gan_diagnosis.Case(1.0, 0.0, held_out=0.7, trained=0.75),
            gan_diagnosis.HEALTHY,
            "in 75.0% of pairs",
        ),
        (
            gan_diagnosis.Case(1.0, 0.0, held_out=0.6, trained=0.9),
            gan_diagnosis.OVERFITS,
            "by heart",
        ),
        (
            gan_diagnosis.Case(1.0, 0.0, held_out=0.99, trained=1.0),
            gan_diagnosis.WINS,
            "learns little",
        ),
        (
            gan_diagnosis.Case(1.0, 0.0, {"shirt": (0.001, 0.1)}, 0.6, 0.9),
            gan_diagnosis.PARTLY,
            "shirt (0.1% of the samples, 10.0%",
        ),
        (
            gan_diagnosis.Case(0.2, 0.0, {"shirt": (0.0, 0.1)}),
            gan_diagnosis.COLLAPSED,
            "0.20 times",
        ),
        (gan_diagnosis.Case(0.9, 0.6), gan_diagnosis.COLLAPSED, "60.0% of them have a twin"),
        (
            gan_diagnosis.Case(0.9, 0.0),
            gan_diagnosis.HEALTHY,
            "nothing can be said without its discriminator",
        ),
    ],
)
def test_verdicts_on_planted_numbers(case: gan_diagnosis.Case, label: str, words: str) -> None:
    found = gan_diagnosis.judge(case)
    assert found.label == label and words in " ".join(found.sentences)


def test_missing_classes_are_named() -> None:
    """By a judge that reads the class from the brightness."""

    class Brightness(torch.nn.Module):
        num_classes = 2

        def features(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((1, 2, 3))[:, None]

        def classify(self, features: torch.Tensor) -> torch.distributions.Categorical:
            return torch.distributions.Categorical(
                logits=torch.cat([0.5 - features, features - 0.5], dim=1) * 100
            )

    noise = torch.Generator().manual_seed(0)
    dark, bright = (
        torch.randint(low, low + 128, (200, 1, 8, 8), generator=noise, dtype=torch.uint8)
        for low in (0, 128)
    )
    data = planted_data(torch.cat([dark, bright]), torch.arange(400) // 200, ("dark", "bright"))
    evaluation = Evaluation(data, judge=Brightness)
    both = torch.cat([dark, bright]).float() / 255 + 0.001 * torch.rand(
        400, 1, 8, 8, generator=noise
    )
    assert gan_diagnosis.examine(Replay(both), evaluation).missing == {}
    found = gan_diagnosis.examine(Replay(both[:200]), evaluation).missing
    assert found == {"bright": (0.0, 0.5)}


def test_pairs_told_apart() -> None:
    class First(torch.nn.Module):
        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return images[:, 0, 0, 0]

    ones, halves = torch.ones(300, 1, 1, 1), torch.full((300, 1, 1, 1), 0.5)
    labels = torch.zeros(300, dtype=torch.long)
    assert gan_diagnosis.real_above_fake(First(), ones, halves, labels) == 1
    assert gan_diagnosis.real_above_fake(First(), halves, ones, labels) == 0
    assert gan_diagnosis.real_above_fake(First(), ones, ones, labels) == 0.5


def test_a_run_leaves_its_generator(
    train_here: Callable[..., Path], infer_here: Callable[..., None], tmp_path: Path
) -> None:
    """model.safetensors holds G alone, averaged; all figures and quick metrics can be had from it."""
    folder = train_here("model=cgan", *NARROW, "max_steps=4", figures=True)
    tensors, metadata = safetensors_io.load(folder / "model.safetensors")
    assert metadata["model"]["_target_"] == "genmodels.models.gan.Generator"
    assert not any("discriminator" in name for name in [*tensors, *metadata["model"]])
    model = genmodels.load(folder)
    assert type(model) is Generator and model.sample(3, torch.tensor([1, 2, 3])).shape == (
        3,
        1,
        28,
        28,
    )
    state = checkpoint.latest(folder).states["trainer"]
    assert same(dict(state["generator"]["average"]), dict(tensors))
    assert {path.stem for path in (folder / "figures").glob("*.png")} >= {
        "samples",
        "class_grid",
        "training_progress",
    }
    infer_here(f"checkpoint={folder}")
    assert list(tmp_path.glob("results/*/metrics.json"))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [
            "adversarial_loss=hinge",
            "model.discriminator_norm=spectral",
            "trainer.n_critic=2",
            "trainer.instance_noise=0.1",
        ],
    ],
)
def test_resume_is_exact_for_both_players(
    overrides: list[str], train_resumed: Callable[..., Path]
) -> None:
    train_resumed(
        *SMALL,
        *overrides,
        "max_steps=20",
        "evaluate_every=10",
        "checkpoint_every=10",
        stops=[3, 13],
    )


def test_a_finished_run_goes_on_as_a_new_one(train_here: Callable[..., Path]) -> None:
    first = train_here(*SMALL, "max_steps=3", folder="first")
    second = train_here(*SMALL, "max_steps=1", f"init_from={first}", "lr=1e-9", folder="second")
    one, other = (checkpoint.latest(folder).states["trainer"] for folder in (first, second))
    for player in ("generator", "discriminator"):
        for name, before in one[player]["model"].items():
            if "running" not in name and "num_batches" not in name:
                torch.testing.assert_close(before, other[player]["model"][name], atol=1e-6, rtol=0)
        steps = {state["step"].item() for state in other[player]["optimizer"]["state"].values()}
        assert steps == {4.0}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=gan", "kl_weight=30"], "kl_weight"),
        (["model=gan", "model.latent_dim=0"], "latent_dim=0"),
        (["model=gan", "model.generator_width=0"], "generator_width=0"),
        (["model=gan", "model.discriminator_width=-1"], "discriminator_width=-1"),
        (
            ["model=gan", "model.generator_norm=layer"],
            "generator_norm=layer: must be one of none, batch",
        ),
        (["model=gan", "model.discriminator_norm=batch"], "discriminator_norm=batch"),
        (["model=gan", "trainer.n_critic=0"], "n_critic=0"),
        (["model=gan", "trainer.instance_noise=-1"], "instance_noise=-1"),
        (["model=gan", "penalty.every=0"], "every=0"),
        (
            ["model=gan", "adversarial_loss=hinge", "+adversarial_loss.label_smoothing=0.1"],
            "label_smoothing",
        ),
        (["model=gan", "diff_augment.translation=2"], "translation=2"),
        (
            ["model=gan", "batch_size=5000"],
            "batch_size=5000: must be at most 1295, the number of training images",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    overrides: list[str], message: str, train_here: Callable[..., Path]
) -> None:
    with pytest.raises(Exception) as caught:
        train_here(*overrides)
    if not isinstance(caught.value, UserError):
        assert "Could not override" in str(
            caught.value
        )  # which the door puts in its own words: test_doors.py
    assert message in str(caught.value)


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"image_shape=\[1, 4, 4\]: must be of sides over 4 pixels"
    ):
        build("gan", (1, 4, 4))
