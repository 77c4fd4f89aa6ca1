"""The updates of a GAN's two networks, what a run of one leaves, and what is refused."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import same, settings_of
from hydra.errors import HydraException

import genmodels
from genmodels import checkpoint, safetensors_io
from genmodels.data.images import Batch, ImageData, ImageSet, ImageSpec
from genmodels.fitting import build
from genmodels.metrics.discriminator_diagnosis import WINS
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import HEALTHY
from genmodels.models.gan import Discriminator, Generator
from genmodels.models.generative import GenerativeModel
from genmodels.trainers.gan import GANTrainer
from genmodels.user_errors import UserError

NARROW = ["model.generator_width=4", "model.discriminator_width=4", "model.latent_dim=8"]
SMALL = ["model=gan", *NARROW, "batch_size=32", "precision=fp32"]


def trainer_of(
    *overrides: str, shape: tuple[int, int, int] = (1, 16, 16), model: str = "gan"
) -> GANTrainer:
    spec = ImageSpec("planted", shape, ("a", "b", "c"))
    settings = settings_of(f"model={model}", *NARROW, "precision=fp32", *overrides, spec=spec)
    trainer = build(settings).trainer
    assert isinstance(trainer, GANTrainer)
    return trainer


def batch_of(shape: tuple[int, int, int] = (1, 16, 16), n: int = 8) -> Batch:
    noise = torch.Generator().manual_seed(1)
    return Batch(torch.rand(n, *shape, generator=noise), torch.arange(n) % 3)


def state_of(updater: object) -> dict:
    return copy.deepcopy(updater.state_dict())


@pytest.mark.parametrize(("loss", "wins"), [("relativistic", True), ("wasserstein", False)])
def test_a_critic_that_is_never_wrong_is_a_bad_sign_unless_it_is_meant_to_be(
    loss: str, wins: bool
) -> None:
    """D says how bright an image is, and generated images are a bit darker than real ones."""

    class Brightness(torch.nn.Module):
        uses_batch_statistics = False

        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return 10 * images.mean(dim=(1, 2, 3))

    class Darker(GenerativeModel):
        def __init__(self) -> None:
            super().__init__((1, 16, 16), 256)
            self.scale = torch.nn.Parameter(torch.tensor(0.4))

        def generate(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
            return self.scale * torch.distributions.Normal(0, 1).cdf(z).view(-1, 1, 16, 16)

    trainer = trainer_of(f"adversarial_loss={loss}")
    trainer.discriminator.average, trainer.generator.average = Brightness(), Darker()
    noise = torch.Generator().manual_seed(1)
    images = (0.5 * 255 * torch.rand(300, 1, 16, 16, generator=noise)).to(torch.uint8)
    split = ImageSet(images, torch.full((300,), -1), torch.arange(300))
    data = ImageData(ImageSpec("planted", (1, 16, 16)), split, split, split)
    label = trainer.diagnose(Evaluation(trainer.model, data)).label
    assert label == (WINS if wins else HEALTHY)


@pytest.mark.parametrize("model", ["gan", "cgan"])
def test_each_network_moves_alone(model: str) -> None:
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


def test_batch_normalisation_of_one_network_is_not_the_others() -> None:
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


def test_one_batch_of_images_serves_both() -> None:
    """One forward pass of G a step; of D two for itself, and for G one, or two if relative."""
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
    """The slope of a linear discriminator is half of it in images of the range [-1, 1]."""
    trainer = trainer_of("adversarial_loss=wasserstein", shape=(1, 8, 8))

    class Plane(torch.nn.Module):
        uses_batch_statistics = False

        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.ones(()))

        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return self.slope * images[:, 0, 0, 0]

    plane = Plane()
    trainer.model.discriminator = plane
    trainer.discriminator.__init__(
        plane,
        optimizer=torch.optim.SGD,
        lr=1e-9,
        lr_schedule=lambda *_: 1.0,
        clip_norm=None,
        ema_images=0,
        batch_size=4,
        precision="fp32",
    )
    real, fake = torch.rand(2, 4, 1, 8, 8)
    for slope, expected in ((2.0, 0.0), (6.0, 10.0 * (3 - 1) ** 2)):
        plane.slope.data.fill_(slope)
        labels = torch.zeros(4, dtype=torch.long)
        terms = trainer.update_discriminator(real, fake, labels, 0, 10)
        assert terms["penalty"].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_wasserstein_loss_brings_its_recipe(channels: int) -> None:
    """D takes five steps for one of G, at the same rate also on colour images."""
    spec = ImageSpec("planted", (channels, 16, 16))
    usual = settings_of("model=gan", spec=spec)
    settings = settings_of("model=gan", "adversarial_loss=wasserstein", spec=spec)
    assert settings.trainer["n_critic"] == 5 and settings.lr < usual.lr
    rates = {settings.trainer[network]["lr"] for network in ("generator", "discriminator")}
    assert rates == {settings.lr}


def test_the_command_line_changes_the_recipe_of_a_loss() -> None:
    own = ["lr=0.01", "trainer.n_critic=2", "trainer.discriminator.lr=0.02", "optimizer=sgd"]
    trainer = trainer_of("adversarial_loss=wasserstein", *own)
    assert trainer.n_critic == 2
    assert (trainer.generator.lr, trainer.discriminator.lr) == (0.01, 0.02)
    assert isinstance(trainer.generator.optimizer, torch.optim.SGD)


def test_a_run_leaves_its_generator(
    train_here: Callable[..., Path], infer_here: Callable[..., None], tmp_path: Path
) -> None:
    """model.safetensors holds G alone, averaged; it gives all figures and quick metrics."""
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
def test_resume_is_exact_for_both_networks(
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
    for network in ("generator", "discriminator"):
        for name, before in one[network]["model"].items():
            if "running" not in name and "num_batches" not in name:
                torch.testing.assert_close(before, other[network]["model"][name], atol=1e-6, rtol=0)
        steps = {state["step"].item() for state in other[network]["optimizer"]["state"].values()}
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
    with pytest.raises((UserError, HydraException)) as caught:
        train_here(*overrides)
    assert message in str(caught.value)
