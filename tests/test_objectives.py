"""The objectives: values by hand, controllers on simulated plants, exact resume; BatchNorm on the posterior mean."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, SMALL, composed, rows, summary, trained_states
from hydra.utils import instantiate

import genmodels
from genmodels import config, doors
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.objectives import ELBO, GECO, Capacity, FreeBits, KLTarget, Objective
from genmodels.losses.vae import elbo_terms
from genmodels.models.fixed_scale_batch_norm import FixedScaleBatchNorm
from genmodels.models.vae import MLPVAE
from genmodels.schedules import constant
from genmodels.trainers.updater import Updater
from genmodels.trainers.vae import VAETrainer
from genmodels.validation import UserError

OBJECTIVES = sorted(path.stem for path in (ROOT / "conf/objective").glob("*.yaml"))
DISTORTION = torch.tensor([10.0, 20.0])  # (B,)
KL = torch.tensor(
    [[1.0, 0.0, 3.0], [2.0, 0.2, 5.0]]
)  # (B, D): 4 and 7.2 nats; means 1.5, 0.1 and 4
PI = partial(KLTarget, proportional=0.01, integral=0.001, weight_limits=[0.0, 100.0])
TAMED = partial(
    GECO,
    distortion=None,
    share=0.5,
    measure=0.1,
    memory=0.0,
    speed=0.1,
    weight_limits=[0.01, 100.0],
)


@pytest.fixture(autouse=True)
def without_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time of runs of a few steps."""
    monkeypatch.setattr("genmodels.trainers.loop.snapshots", lambda *_: {})


def observe(objective: Objective, distortion: float, kl: float, progress: float = 0.5) -> float:
    """The KL weight after one step with these means."""
    objective.observe(torch.tensor(distortion), torch.tensor(kl), progress)
    return objective.multipliers()["kl_weight"].item()


# Values by hand


def test_elbo_by_hand() -> None:
    assert ELBO()(DISTORTION, KL, 0.5, 0.0).tolist() == pytest.approx([12.0, 23.6])


@pytest.mark.parametrize(("weight", "extra"), [(1.0, 1.5 + 0.5 + 4.0), (2.0, 12.0), (0.0, 0.0)])
def test_free_bits_by_hand(weight: float, extra: float) -> None:
    """The second dimension has 0.1 nat on average, and pays for 0.5."""
    loss = FreeBits(nats_per_dimension=0.5)(DISTORTION, KL, weight, 0.0)
    assert loss.tolist() == pytest.approx([10 + extra, 20 + extra])


def test_free_bits_have_no_gradient_below_the_floor() -> None:
    kl = KL.clone().requires_grad_()
    FreeBits(nats_per_dimension=0.5)(DISTORTION, kl, 3.0, 0.0).mean().backward()
    assert kl.grad is not None and torch.equal(
        kl.grad, torch.tensor([[1.5, 0.0, 1.5]] * 2)
    )  # weight / B, or none


def test_no_free_bits_are_the_elbo() -> None:
    torch.testing.assert_close(
        FreeBits(0.0)(DISTORTION, KL, 2.0, 0.0).mean(), ELBO()(DISTORTION, KL, 2.0, 0.0).mean()
    )


@pytest.mark.parametrize(
    ("progress", "capacity"), [(0.0, 0.0), (0.1, 2.0), (0.25, 5.0), (0.5, 10.0), (1.0, 10.0)]
)
def test_capacity_by_hand(progress: float, capacity: float) -> None:
    """C(t) rises over the first half; the batch's mean KL is 5.6."""
    objective = Capacity(capacity=10.0, rise=0.5)
    assert objective.plan(progress) == {"capacity": pytest.approx(capacity)}
    extra = 3 * abs(5.6 - capacity)
    assert objective(DISTORTION, KL, 3.0, progress).tolist() == pytest.approx(
        [10 + extra, 20 + extra], rel=1e-5
    )


@pytest.mark.parametrize(("progress", "sign"), [(0.0, 1.0), (1.0, -1.0)])
def test_capacity_pushes_the_kl_towards_c_from_either_side(progress: float, sign: float) -> None:
    kl = KL.clone().requires_grad_()
    Capacity(capacity=10.0, rise=0.5)(DISTORTION, kl, 3.0, progress).mean().backward()
    assert kl.grad is not None and kl.grad.unique().tolist() == pytest.approx([sign * 1.5])


def test_kl_target_by_hand() -> None:
    """Eq. 8 with errors -10 and +5: 0.001 * 10, then 0.001 * 5 of the sum, and 0.01 / (1 + e^error)."""
    objective = PI(target=20.0)
    torch.testing.assert_close(
        objective(DISTORTION, KL, None, 0.0), DISTORTION
    )  # at the lower limit, 0
    assert observe(objective, 80.0, 30.0) == pytest.approx(
        0.01 + 0.01 / (1 + math.exp(-10)), rel=1e-5
    )
    assert observe(objective, 80.0, 15.0) == pytest.approx(
        0.005 + 0.01 / (1 + math.exp(5)), rel=1e-5
    )
    weight = objective.multipliers()["kl_weight"]
    torch.testing.assert_close(
        objective(DISTORTION, KL, None, 0.0), ELBO()(DISTORTION, KL, weight.item(), 0.0)
    )


def test_geco_by_hand() -> None:
    """The reference is 200 after a tenth of the run, the limit 100; at 120 log w falls by 0.1 * 20 / 200."""
    objective = TAMED()
    assert observe(objective, 500.0, 0.0, progress=0.0) == pytest.approx(100)  # measuring
    assert observe(objective, 200.0, 0.0, progress=0.1) == pytest.approx(1)
    assert observe(objective, 120.0, 0.0) == pytest.approx(math.exp(-0.01))
    expected = DISTORTION + math.exp(-0.01) * KL.sum(dim=1)
    torch.testing.assert_close(objective(DISTORTION, KL, None, 0.5), expected)


def test_geco_with_a_limit_in_nats_measures_nothing() -> None:
    """Also below zero, where densities have their distortions: at -400 a limit of -500 is violated."""
    objective = TAMED(distortion=-500.0)
    assert observe(objective, -400.0, 0.0, progress=0.0) == pytest.approx(
        math.exp(-0.1 * 100 / 500)
    )


def test_geco_follows_the_moving_average() -> None:
    objective = TAMED(distortion=100.0, memory=0.75)
    observe(objective, 100.0, 0.0)
    assert observe(objective, 140.0, 0.0) == pytest.approx(math.exp(-0.1 * 10 / 100))


def test_geco_multiplier_rises_while_the_constraint_is_violated_and_falls_after() -> None:
    """lambda = 1 / w; both ends are limited."""
    objective = TAMED(distortion=100.0)
    violated = [1 / observe(objective, 130.0, 0.0) for _ in range(300)]
    assert all(after >= before for before, after in itertools.pairwise(violated))
    assert violated[1] > violated[0] and violated[-1] == pytest.approx(100)
    kept = [1 / observe(objective, 70.0, 0.0) for _ in range(600)]
    assert kept[0] < violated[-1] and kept[-1] == pytest.approx(0.01)


# Controllers


def plant(objective: Objective, kl: float, steps: int, lag: float = 0.02) -> list[float]:
    """The KL over the steps of a model that comes to 12 / w nats, slowly, and never below 0.1 or above 300."""
    seen = []
    for _ in range(steps):
        weight = objective.multipliers()["kl_weight"].item()
        kl += lag * (min(300.0, max(0.1, 12 / max(weight, 1e-6))) - kl)
        observe(objective, 0.0, kl)
        seen.append(kl)
    return seen


@pytest.mark.parametrize("target", [6.0, 25.0])
def test_the_controller_brings_a_plant_to_its_set_point(target: float) -> None:
    seen = plant(PI(target=target), kl=0.0, steps=6000)
    assert (
        seen[-1] == pytest.approx(target, rel=0.01)
        and max(seen[-500:]) - min(seen[-500:]) < 0.05 * target
    )


@pytest.mark.parametrize(("stuck", "freed", "limit"), [(0.0, 50.0, 0.0), (50.0, 0.0, 2.0)])
def test_the_controller_does_not_wind_up(stuck: float, freed: float, limit: float) -> None:
    """However long the KL stays away from its target with the weight at a limit, the weight leaves the limit at the
    first step at which the error has the other sign."""
    objective = PI(target=20.0, proportional=0.0, weight_limits=[0.0, 2.0])
    for _ in range(10_000):
        held = observe(objective, 0.0, stuck)
    assert held == limit
    assert abs(observe(objective, 0.0, freed) - limit) == pytest.approx(
        0.001 * abs(20 - freed), rel=1e-4
    )


def test_multipliers_that_were_logged_do_not_move_with_the_state() -> None:
    for objective in (PI(target=20.0), TAMED(distortion=100.0)):
        logged = objective.multipliers()["kl_weight"]
        before = logged.item()
        assert observe(objective, 200.0, 80.0) != before == logged.item()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FreeBits(-1.0), "nats_per_dimension=-1"),
        (lambda: FreeBits(math.inf), "nats_per_dimension=inf"),
        (lambda: Capacity(-1.0, 0.5), "capacity=-1"),
        (lambda: Capacity(25.0, 0.0), "rise=0"),
        (lambda: Capacity(25.0, 1.5), "rise=1.5"),
        (lambda: PI(target=0.0), "target=0"),
        (lambda: PI(target=1.0, integral=0.0), "integral=0"),
        (lambda: PI(target=1.0, proportional=-1.0), "proportional=-1"),
        (lambda: PI(target=1.0, weight_limits=[2.0, 1.0]), "weight_limits=.*two finite numbers"),
        (lambda: PI(target=1.0, weight_limits=[1.0]), "weight_limits="),
        (lambda: TAMED(weight_limits=[0.0, 1.0]), "weight_limits="),
        (lambda: TAMED(distortion=0.0), "distortion=0"),
        (lambda: TAMED(share=1.0), "share=1"),
        (lambda: TAMED(measure=0.0), "measure=0"),
        (lambda: TAMED(memory=1.0), "memory=1"),
        (lambda: TAMED(speed=0.0), "speed=0"),
        (lambda: batch_normed(mean_batch_norm=0.0), "mean_batch_norm=0"),
    ],
)
def test_illegal_knobs_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


# In training

Train = Callable[..., Path]


@pytest.mark.parametrize("choice", OBJECTIVES)
def test_every_objective_trains_and_shows_its_weight(choice: str, train_here: Train) -> None:
    folder = train_here(*SMALL, f"objective={choice}", "max_steps=20", "evaluate_every=20")
    lines = [line["train"] for line in rows(folder) if "train" in line]
    for line in lines:
        assert line["elbo"] == pytest.approx(
            -line["distortion"] - line["kl"], rel=1e-4
        )  # at weight 1, the raw KL
        assert 0 <= line["kl_weight"] < 100.001
    assert (
        lines[-1]["distortion"] < lines[0]["distortion"] and summary(folder)["status"] == "finished"
    )
    found = trained_states(folder)["trainer"]["objective"]
    assert (
        bool(found) == instantiate(composed("train", f"objective={choice}").objective).finds_weight
    )


@pytest.mark.parametrize("choice", ["kl_target", "geco"])
def test_resume_of_what_has_state_is_exact(
    choice: str, train_resumed: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between two rows, within and after GECO's measuring."""
    monkeypatch.setattr("genmodels.trainers.loop.LOG_ROWS", 8)
    train_resumed(*SMALL, f"objective={choice}", "max_steps=30", "evaluate_every=30", stops=[2, 17])


def trainer_of(objective: Objective, **options: Any) -> VAETrainer:
    updater = partial(
        Updater,
        batch_size=4,
        lr=0.001,
        warmup_steps=0,
        lr_end=0.0,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        clip_norm=1.0,
        ema_images=10,
        precision="fp32",
    )
    return VAETrainer(
        batch_normed(),
        updater=updater,
        objective=objective,
        binarise=None,
        **{"kl_schedule": constant} | options,
    )


def test_plan_and_logged_weights_do_not_contradict() -> None:
    assert trainer_of(Capacity(10.0, 0.5), kl_weight=3.0).plan(1, 4).keys() == {
        "kl_weight",
        "capacity",
        "lr",
    }
    assert trainer_of(PI(target=1.0), kl_weight=None).plan(1, 4).keys() == {"lr"}


def test_a_state_of_another_objective_is_left_alone() -> None:
    trainer = trainer_of(PI(target=1.0), kl_weight=None)
    trainer.load_state_dict(trainer_of(ELBO(), kl_weight=1.0).state_dict())
    assert trainer.objective.state_dict()["weight"] == 0


# What is refused and what is named


@pytest.mark.parametrize("objective", [PI(target=1.0), TAMED()])
def test_a_weight_that_would_not_be_used_is_refused(objective: Objective) -> None:
    with pytest.raises(
        ValueError, match=r"^kl_weight=3: must be left out .* which finds it itself"
    ):
        trainer_of(objective, kl_weight=3)


def test_a_weight_that_is_needed_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"^kl_weight=None: must be a finite number"):
        trainer_of(ELBO(), kl_weight=None)


def test_a_recipe_with_a_weight_is_refused_by_name(train_here: Train) -> None:
    with pytest.raises(
        UserError, match=r"^kl_weight=0\.1: must be left out \(~kl_weight\) with GECO"
    ):
        train_here("experiment=pictures", "dataset=digits", "model.widths=[8]", "objective=geco")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["objective=geco", "kl_weight=3"],
            "kl_weight: no setting of objective=geco: The least KL",
        ),
        (["-m", "objective=elbo,geco", "kl_weight=3"], "kl_weight: no setting of objective=geco: "),
        (
            ["objective=kl_target", "kl_schedule=cosine"],
            "kl_schedule: no setting of objective=kl_target: ",
        ),
        (
            ["objective=kl_target", "kl_schedule.warmup=1"],
            "kl_schedule.warmup: no setting of objective=kl_target: ",
        ),
        (["objective=geco", "kl_wieght=3"], "kl_wieght: unknown setting. Did you mean"),
    ],
)
def test_a_setting_that_a_choice_does_without(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words of the door for what Hydra refuses, with the choice that is the reason."""
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    overrides = [word.replace("elbo,", "") for word in arguments if word != "-m"]
    with pytest.raises(Exception, match="Could not override") as caught:
        composed("train", *overrides)
    assert doors._explain(caught.value, "train").startswith(message)


@pytest.mark.parametrize(
    ("objective", "name", "words"),
    [
        ("elbo", "digits-vae-linear-kl1-seed0-", "KL weight 1 (linear)"),
        (
            "capacity",
            "digits-vae-capacity-late-kl1-seed0-",
            "objective capacity \N{MIDDLE DOT} KL weight 1 (late)",
        ),
        ("geco", "digits-vae-geco-seed0-", "objective geco \N{MIDDLE DOT} seed 0"),
    ],
)
def test_names_and_captions_claim_no_weight_that_is_not_used(
    objective: str, name: str, words: str
) -> None:
    settings = config.record(composed("train", f"objective={objective}"))
    choices = settings.pop("choices")
    assert config.run_name(settings, choices)[:-6] == name
    assert words in config.caption(
        {"settings": config.numbers(settings), "choices": choices}, step=1
    )
    assert settings["trainer"]["kl_weight"] == settings.get("kl_weight")


# BatchNorm on the posterior mean


def batch_normed(latent_dim: int = 3, mean_batch_norm: float | None = 0.6) -> MLPVAE:
    torch.manual_seed(0)
    return MLPVAE(
        image_shape=(1, 6, 6),
        latent_dim=latent_dim,
        widths=[64],
        likelihood=BernoulliLikelihood(),
        mean_batch_norm=mean_batch_norm,
    )


@pytest.mark.parametrize("latent_dim", [1, 3])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_batch_norm_bounds_the_kl_from_below(latent_dim: int, precision: torch.dtype) -> None:
    """Zhu et al. 2020, eq. 8: over a batch each dimension has at least (scale^2 + shift^2) / 2 nats."""
    model, images = batch_normed(latent_dim), torch.rand(64, 1, 6, 6)
    model.mean_norm.shift.data.fill_(0.5)
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        posterior = model.encode(images)
    assert (kl(posterior).mean(dim=0) >= (0.6**2 + 0.5**2) / 2 * 0.9999).all()  # (D,)
    assert posterior.mean.dtype == torch.float32
    torch.testing.assert_close(
        posterior.mean.std(dim=0, correction=0), torch.full((latent_dim,), 0.6)
    )


def test_no_optimizer_gets_below_the_bound() -> None:
    """An encoder that does nothing but lower the KL. With nn.BatchNorm1d, whose epsilon rewards small outputs, it ends
    at 0 nats instead of 3 * 0.18."""
    model, images = batch_normed(), torch.rand(64, 1, 6, 6)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004, weight_decay=0.01)
    for _ in range(500):
        kl = kl(model.encode(images)).sum(dim=1).mean()
        optimizer.zero_grad()
        (30 * kl).backward()
        optimizer.step()
    assert kl.item() == pytest.approx(3 * 0.6**2 / 2, rel=0.01)


def test_batch_norm_in_evaluation_looks_at_one_image_at_a_time() -> None:
    model, images = batch_normed(), torch.rand(5, 1, 6, 6)
    for _ in range(200):
        trained = model.encode(images).mean
    model.eval()
    torch.testing.assert_close(model.encode(images).mean, trained, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.encode(images[:1]).mean, trained[:1], atol=1e-4, rtol=1e-4)


def test_batch_norm_of_one_value_is_its_shift() -> None:
    """An encoder whose output does not depend on the image gives no NaN."""
    assert FixedScaleBatchNorm(2, 0.6)(torch.ones(4, 2)).tolist() == [[0.0, 0.0]] * 4


def test_batch_norm_refuses_a_batch_of_one_in_training() -> None:
    with pytest.raises(ValueError, match=r"^batch_size=1: must be at least 2"):
        batch_normed().encode(torch.rand(1, 1, 6, 6))


def test_batch_norm_has_a_gradient_to_its_shift_and_none_to_its_scale() -> None:
    model = batch_normed()
    terms = elbo_terms(model, torch.rand(5, 1, 6, 6))
    (-terms.elbo).mean().backward()
    assert all(
        parameter.grad is not None and parameter.grad.any() for parameter in model.parameters()
    )
    assert [name for name, _ in model.mean_norm.named_parameters()] == ["shift"]


def test_without_batch_norm_a_model_has_the_states_it_always_had() -> None:
    assert all(
        name.startswith(("encoder.", "decoder."))
        for name in batch_normed(mean_batch_norm=None).state_dict()
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batch_norm_trains_and_averages(precision: str, train_here: Train) -> None:
    """At weight 30 the averaged model keeps the bound in evaluation too, with running statistics averaged alike."""
    folder = train_here(
        *SMALL,
        "model.mean_batch_norm=0.6",
        "kl_weight=30",
        "kl_schedule=constant",
        "max_steps=150",
        "evaluate_every=150",
        f"precision={precision}",
    )
    assert 0.95 < summary(folder)["metrics"]["test"]["rate"] / (4 * 0.6**2 / 2) < 1.5
    average = genmodels.load(folder).mean_norm.state_dict()
    trained = trained_states(folder)["trainer"]["updater"]["model"]
    assert (
        0 < abs(average["running_variance"] / trained["mean_norm.running_variance"] - 1).max() < 0.5
    )
