"""The update of a network: clipping, weight decay, the moving average and its BatchNorm."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, rows, same, settings_of, trained_states, weights
from torch import nn

from genmodels.data.images import Batch, ImageSpec
from genmodels.fitting import build
from genmodels.models.batch_norm_statistics import recompute_statistics
from genmodels.schedules import WarmupCosine
from genmodels.trainers.optimizers import parameter_groups
from genmodels.trainers.updater import Updater

SMALL_GAN = [
    "model=gan",
    "model.generator_width=4",
    "model.discriminator_width=4",
    "model.latent_dim=8",
    "batch_size=32",
    "precision=fp32",
]


def updater_of(network: nn.Module, **arguments: object) -> Updater:
    """Gradient descent at rate 1 without a moving average, with these arguments changed."""
    usual = {
        "optimizer": torch.optim.SGD,
        "lr": 1.0,
        "lr_schedule": lambda step, total: 1.0,
        "clip_norm": None,
        "ema_images": 0,
        "batch_size": 1,
        "precision": "fp32",
    }
    return Updater(network, **(usual | arguments))


def built(*overrides: str, shape: tuple[int, int, int] = (1, 16, 16)) -> Any:
    """The trainer of these settings, for images of this shape and three classes."""
    spec = ImageSpec("planted", shape, ("a", "b", "c"))
    return build(settings_of(*overrides, spec=spec)).trainer


def batch_of(shape: tuple[int, int, int] = (1, 16, 16), n: int = 8, seed: int = 0) -> Batch:
    noise = torch.Generator().manual_seed(seed)
    return Batch(torch.rand(n, *shape, generator=noise), torch.arange(n) % 3)


def test_the_average_follows_with_the_stated_half_life() -> None:
    """Weights jump from 0 to 1 and stay: after a half-life the average is 1/2, after two 3/4."""
    network = nn.Linear(1, 1, bias=False)
    updater = updater_of(
        network,
        optimizer=torch.optim.AdamW,
        lr=1e-12,
        lr_schedule=WarmupCosine(warmup_steps=0, end=0.0),
        clip_norm=1.0,
        ema_images=200,
        batch_size=10,
    )
    network.weight.data.zero_()
    step = 0
    for value, expected in [(0.0, 0.0), (1.0, 0.5), (1.0, 0.75)]:
        network.weight.data.fill_(value)
        for _ in range(2000 if step == 0 else 20):
            updater.update(network(torch.ones(1, 1)).sum(), {}, step, 10_000)
            step += 1
        assert next(updater.average.parameters()).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("n_critic", [1, 5])
def test_the_average_of_the_generator_counts_its_own_updates(n_critic: int) -> None:
    """Of weights older than the last quarter of its updates it has 2 %, at any n_critic."""
    updater = built(*SMALL_GAN, f"trainer.n_critic={n_critic}").generator
    updates = 400
    for update in range(updates):
        for parameter in updater.model.parameters():
            parameter.data.fill_(1.0 if update < 0.75 * updates else 0.0)
        no_change = 0.0 * sum(parameter.sum() for parameter in updater.model.parameters())
        last_step = (update + 1) * n_critic - 1
        updater.update(no_change, {}, last_step, updates * n_critic)
    share = 0.5 ** (math.log(4 / 3) / 0.05)
    for parameter in updater.average.parameters():
        assert parameter.flatten()[0].item() == pytest.approx(share, rel=0.1)


def test_the_half_life_of_the_generator_is_in_images_of_the_run() -> None:
    trainer = built(*SMALL_GAN, "trainer.n_critic=5")
    assert trainer.discriminator.half_life == pytest.approx(50_000 / 32)
    assert trainer.generator.half_life == pytest.approx(50_000 / 32 / 5)


def test_gradients_up_to_the_limit_stay_as_they_are() -> None:
    """The loss 3 w has the gradient 3: at a limit of 1 the step is 1, at one of 3 it is 3."""
    for clip_norm, clip_scale, step, clipped in ((1.0, 1.0, 1.0, 1), (1.0, 3.0, 3.0, 0)):
        network = nn.Linear(1, 1, bias=False)
        before = network.weight.item()
        updater = updater_of(network, clip_norm=clip_norm, clip_scale=clip_scale)
        measured = updater.update(3 * network.weight.sum(), {}, 0, 10)
        assert before - network.weight.item() == pytest.approx(step, rel=1e-5)
        assert measured == {"gradient_norm": 3.0, "clipped": clipped}
    measured = updater_of(network).update(3 * network.weight.sum(), {}, 0, 10)
    assert measured.keys() == {"gradient_norm"}


@pytest.mark.parametrize(
    ("shape", "limit"),
    [((1, 28, 28), 200.0), ((1, 14, 14), 100.0), ((3, 56, 56), 400 * math.sqrt(3))],
)
def test_a_vae_clips_by_the_root_of_the_values_of_an_image(
    shape: tuple[int, int, int], limit: float
) -> None:
    trainer = built(*SMALL, shape=shape)
    assert trainer.updater.largest_norm == pytest.approx(limit)


def test_rows_have_the_share_of_clipped_steps(train_here: Callable[..., Path]) -> None:
    for limit, share in (("1e-6", 1.0), ("1e6", 0.0)):
        options = [*SMALL, f"trainer.updater.clip_norm={limit}", "max_steps=4"]
        folder = train_here(*options, "evaluate_every=4", folder=limit)
        assert {row["train"]["clipped"] for row in rows(folder) if "train" in row} == {share}


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=cvae", "likelihood=gaussian_learned", "model.norm=batch"],
        ["model=vae", "model.mean_batch_norm=0.6", "model.norm=layer"],
        ["model=cgan", "model.discriminator_norm=spectral"],
        ["model=classifier"],
    ],
)
def test_only_matrices_and_kernels_decay(overrides: list[str]) -> None:
    """Without gradients AdamW multiplies them by 1 - lr * decay, and leaves all else."""
    model = built(*overrides).model
    optimizer = partial(torch.optim.AdamW, weight_decay=0.5)
    updater = updater_of(model, optimizer=optimizer, lr=0.1)
    assert updater.optimizer.defaults["fused"]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    updater.update(0.0 * sum(parameter.sum() for parameter in model.parameters()), {}, 0, 10)
    for name, parameter in model.named_parameters():
        others = ("embedding", "class_directions", "prior.noise")
        decays = parameter.dim() >= 2 and not any(part in name for part in others)
        expected = before[name] * (0.95 if decays else 1.0)
        torch.testing.assert_close(parameter.detach(), expected, msg=name)


def test_every_parameter_is_in_one_group() -> None:
    model = built("model=cvae", "model.norm=batch").model
    decayed, others = (group["params"] for group in parameter_groups(model))
    assert {*decayed, *others} == {*model.parameters()} and not {*decayed} & {*others}
    assert len(decayed) + len(others) == len(list(model.parameters()))


def test_a_state_of_other_groups_is_refused() -> None:
    """Such as that of an optimizer with all parameters in one group."""
    network = nn.Linear(2, 2)
    state = updater_of(network).state_dict()
    state["optimizer"] = torch.optim.SGD(network.parameters(), lr=1.0).state_dict()
    with pytest.raises(ValueError, match=r"^optimizer=.*another version"):
        updater_of(network).load_state_dict(state)


def test_recomputed_statistics_are_the_means_over_all_batches() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)).eval()
    batches = [torch.tensor([[0.0, 1.0], [2.0, 1.0]]), torch.tensor([[5.0, 1.0], [7.0, 3.0]])]
    recompute_statistics((network,), batches, network)
    assert network[0].running_mean.tolist() == pytest.approx([3.5, 1.5])
    assert network[0].running_var.tolist() == pytest.approx([2.0, 1.0])  # of (2, 0) and (2, 2)
    assert not network[0].training and not network[1].training and network[0].momentum == 0.1


def test_without_batch_norm_no_batch_is_asked_for() -> None:
    def batches() -> Any:
        raise AssertionError
        yield

    recompute_statistics((nn.Linear(2, 2),), batches(), print)


@pytest.mark.parametrize(
    ("overrides", "passes"),
    [
        (["model=cgan", *SMALL_GAN[1:]], {6}),
        (["experiment=gan_dcgan", *SMALL_GAN[1:]], {6, 12}),  # D is passed real and fake images
        (["model=cvae_mlp", "model.widths=[8]", "model.norm=batch"], {6}),
        (["model=vae_mlp", "model.widths=[8]", "model.mean_batch_norm=0.6"], {6}),
        (["model=classifier", "model.widths=[4,8]"], {6}),
    ],
)
def test_each_family_recomputes_its_statistics_and_nothing_else(
    overrides: list[str], passes: set[int]
) -> None:
    trainer = built(*overrides, "precision=fp32")
    batches = [batch_of(seed=seed) for seed in range(6)]
    trainer.update(batches[0], 0, 10)
    before = flat_state(trainer)
    trainer.recompute_statistics(batches)
    after = flat_state(trainer)
    changed = {name for name in before if not same(before[name], after[name])}
    assert changed and all(".average." in name for name in changed)
    tracked = {name for name in after if name.endswith("num_batches_tracked")} & changed
    assert changed == {name for name in after if ".average." in name and is_statistic(name)}
    assert {int(after[name]) for name in tracked} == passes
    torch.manual_seed(1)
    trainer.recompute_statistics(batches)
    assert same(after, flat_state(trainer))


def is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def flat_state(trainer: Any) -> dict[str, Any]:
    """A copy of all weights and buffers of a trainer's updaters, by their places in its state."""
    flat = {}
    for owner, state in trainer.state_dict().items():
        for part in ("model", "average"):
            for name, value in state.get(part, {}).items():
                flat[f"{owner}.{part}.{name}"] = value.clone()
    return flat


def test_cadence_changes_no_statistic(train_here: Callable[..., Path]) -> None:
    """How often they were recomputed before does not matter for those that a run leaves."""
    few = train_here(*SMALL_GAN, "max_steps=12", "evaluate_every=12", folder="few")
    many = train_here(*SMALL_GAN, "max_steps=12", "evaluate_every=3", folder="many")
    assert same(weights(few), weights(many))
    assert same(trained_states(few)["trainer"], trained_states(many)["trainer"])
