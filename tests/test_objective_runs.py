"""Runs under each objective of conf/objective, their resume, and KL weights that are refused."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from conftest import ROOT, SMALL, composed, rows, settings_of, summary, trained_states
from hydra.utils import instantiate

from genmodels.caption import caption
from genmodels.cli import explain
from genmodels.fitting import build
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.objectives import ELBO, Capacity, KLTarget, Objective
from genmodels.models.vae import MLPVAE
from genmodels.run_name import number_settings, run_name
from genmodels.schedules import Constant, WarmupCosine
from genmodels.trainers.updater import Updater
from genmodels.trainers.vae import VAETrainer
from genmodels.user_errors import UserError

LIKELIHOODS = sorted(path.stem for path in (ROOT / "conf/likelihood").glob("*.yaml"))
OBJECTIVES = sorted(path.stem for path in (ROOT / "conf/objective").glob("*.yaml"))


def objective_of(choice: str) -> Objective:
    """An objective of conf/objective."""
    return instantiate(composed("train", f"objective={choice}").objective)


@pytest.fixture(autouse=True)
def without_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time of runs of a few steps."""
    monkeypatch.setattr("genmodels.trainers.loop.snapshots", lambda *_: {})


@pytest.mark.parametrize("choice", OBJECTIVES)
def test_every_objective_trains_and_logs_its_weight(choice: str, train_here: Callable) -> None:
    folder = train_here(*SMALL, f"objective={choice}", "max_steps=20", "evaluate_every=20")
    assert summary(folder)["status"] == "finished"
    lines = [row["train"] for row in rows(folder) if "train" in row]
    for line in lines:  # at weight 1, the KL as it is
        assert line["elbo"] == pytest.approx(-line["distortion"] - line["kl"], rel=1e-4)
        assert 0 <= line["kl_weight"] < 100.001
    assert lines[-1]["distortion"] < lines[0]["distortion"]
    state = trained_states(folder)["trainer"]["objective"]
    assert bool(state) == objective_of(choice).learns_weight


@pytest.mark.parametrize("choice", ["kl_target", "geco"])
def test_resume_with_multipliers_is_exact(
    choice: str, train_resumed: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between two rows, before and after GECO has its reference."""
    monkeypatch.setattr("genmodels.trainers.loop.LOG_ROWS", 8)
    train_resumed(*SMALL, f"objective={choice}", "max_steps=30", "evaluate_every=30", stops=[2, 17])


def trainer_of(objective: Objective, kl_weight: float | None) -> VAETrainer:
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(1, 6, 6), latent_dim=3, widths=[8], likelihood=BernoulliLikelihood()
    )
    updater = partial(
        Updater,
        optimizer=torch.optim.AdamW,
        lr=0.001,
        lr_schedule=WarmupCosine(warmup_steps=0),
        clip_norm=1.0,
        ema_images=10,
        batch_size=4,
        precision="fp32",
    )
    return VAETrainer(
        model,
        updater=updater,
        objective=objective,
        kl_weight=kl_weight,
        kl_schedule=None if kl_weight is None else Constant(),
        binarise=True,
    )


def kl_target() -> KLTarget:
    return KLTarget(target=1.0, proportional=0.01, integral=0.001, weight_limits=[0.0, 100.0])


def test_plan_and_logged_weights_do_not_contradict() -> None:
    scheduled = trainer_of(Capacity(10.0, 0.5), kl_weight=3.0).plan(1, 4)
    assert scheduled.keys() == {"kl_weight", "capacity", "lr"}
    assert trainer_of(kl_target(), kl_weight=None).plan(1, 4).keys() == {"lr"}


def test_a_state_of_another_objective_is_left_alone() -> None:
    trainer = trainer_of(kl_target(), kl_weight=None)
    trainer.load_state_dict(trainer_of(ELBO(), kl_weight=1.0).state_dict())
    assert trainer.objective.state_dict()["weight"] == 0


@pytest.mark.parametrize("choice", ["kl_target", "geco"])
def test_a_weight_that_would_not_be_used_is_refused(choice: str) -> None:
    message = r"^kl_weight=3: must be left out .* which learns it"
    with pytest.raises(ValueError, match=message):
        trainer_of(objective_of(choice), kl_weight=3)


def test_a_weight_that_is_needed_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"^kl_weight=None: must be a finite number"):
        trainer_of(ELBO(), kl_weight=None)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_share_of_the_distortion_is_refused_for_densities(likelihood: str) -> None:
    """Its size, and even its sign, depends on the unit of brightness; a limit in nats does not."""
    options = ["objective=geco", f"likelihood={likelihood}", "model.widths=[8]"]
    build(settings_of(*options, "objective.distortion=-500"))
    if likelihood == "auto" or likelihood.startswith(("bernoulli", "discretised")):
        build(settings_of(*options))
        return
    with pytest.raises(Exception, match=r"distortion=null: must be a limit in nats per image"):
        build(settings_of(*options))


def test_a_recipe_with_a_weight_is_refused_by_name(train_here: Callable) -> None:
    recipe = ["experiment=collapse_demo", "dataset=digits", "model.widths=[8]", "objective=geco"]
    message = r"^kl_weight=17: must be left out \(~kl_weight\) with GECO"
    with pytest.raises(UserError, match=message):
        train_here(*recipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["objective=geco", "kl_weight=3"], "kl_weight: not a setting of objective=geco"),
        (["objective=geco", "kl_wieght=3"], "kl_wieght: unknown setting. Did you mean"),
        (["objective=kl_target", "kl_schedule=cosine"], "kl_schedule: not a group of objective=kl"),
        (
            ["objective=kl_target", "kl_schedule.warmup=1"],
            "kl_schedule.warmup: not a setting of objective=kl_target",
        ),
    ],
)
def test_a_setting_that_an_objective_does_without_is_refused(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(Exception, match="Could not override") as refusal:
        composed("train", *arguments)
    assert explain(refusal.value, "train", arguments).startswith(message)


@pytest.mark.parametrize(
    ("objective", "name", "words"),
    [
        ("elbo", "digits-vae-linear-flow-kl1-seed0-", "KL weight 1 (linear)"),
        (
            "capacity",
            "digits-vae-capacity-late-flow-kl1-seed0-",
            "objective capacity \N{MIDDLE DOT} KL weight 1 (late)",
        ),
        ("geco", "digits-vae-geco-flow-seed0-", "objective geco \N{MIDDLE DOT} seed 0"),
    ],
)
def test_names_and_captions_claim_no_weight_that_is_not_used(
    objective: str, name: str, words: str
) -> None:
    settings = settings_of(f"objective={objective}")
    values = settings.as_dict()
    assert run_name(values, settings.choices)[:-6] == name
    about = {"settings": number_settings(values), "choices": settings.choices}
    assert words in caption(about, step=1)
    assert settings.trainer["kl_weight"] == settings.kl_weight
