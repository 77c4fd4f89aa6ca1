"""What a user can get wrong, and the one short message that each gives."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, composed, settings_of
from omegaconf import OmegaConf

from genmodels.composition import to_dict
from genmodels.data.images import ImageSpec
from genmodels.run_name import number_settings, run_name
from genmodels.settings import InferSettings
from genmodels.user_errors import UserError
from genmodels.validation import check_type, validate

COLOUR = ImageSpec("colours", (3, 64, 64), ("a", "b"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=abc", "epochs=abc: must be an integer"),
        ("epochs=1.5", "epochs=1.5: must be an integer"),
        ("epochs=true", "epochs=true: must be an integer"),
        ("epochs=null", "epochs=null: must be an integer"),
        ("epochs=0", "epochs=0: must be >= 1"),
        ("max_steps=-1", "max_steps=-1: must be >= 1 or null"),
        ("kl_weight=-1", "kl_weight=-1: must be >= 0"),
        ("kl_weight=nan", "kl_weight=nan: must be a finite number"),
        ("kl_weight=inf", "kl_weight=inf: must be a finite number"),
        ("kl_weight=high", "kl_weight=high: must be a number"),
        ("lr=0", "lr=0: must be > 0"),
        ("seed=-1", "seed=-1: must be >= 0"),
        ("batch_size=100000", "batch_size=100000: must be <= 65536"),
        ("precision=fp8", "precision=fp8: must be auto, fp32 or bf16"),
        ("compile=auto", "compile=auto: must be true or false"),
        ("device=gpu", "device=gpu: must be auto, cpu, cuda, cuda:<number> or mps"),
        ("device=cuda:7", "device=cuda:7: torch sees"),
        ("wandb.mode=on", "wandb.mode=on: must be offline, online or disabled"),
        ("wandb.tags=a", "wandb.tags=a: must be a list such as [a,b]"),
        ("+wandb.tag=a", "wandb.tag: unknown setting. Did you mean wandb.tags?"),
        ("select=elboo", "select=elboo: must be one of elbo, accuracy, fd, kid"),
        ("sweep_metric=elbo", "sweep_metric=elbo: must be a metric of the validation split, such"),
        ("sweep_metric=test.elbo", "sweep_metric=test.elbo: must be a metric of the validation"),
        ("model.latent_dim=two", "model.latent_dim=two: must be an integer"),
        ("model.widths=32", "model.widths=32: must be a list such as [a,b]"),
        ("model.widths=[8,a]", "model.widths=[8,a]: must be an integer"),
        ("+model.betta=3", "model.betta: unknown setting"),
        (
            "+model.latent_dimm=3",
            "model.latent_dimm: unknown setting. Did you mean model.latent_dim?",
        ),
        ("+latent_dimm=3", "latent_dimm: unknown setting"),
        ("+kl_wieght=3", "kl_wieght: unknown setting. Did you mean kl_weight?"),
        (
            "+trainer.updater.clipnorm=3",
            "trainer.updater.clipnorm: unknown setting. Did you mean trainer.updater.clip_norm?",
        ),
        ("+optimizer.lrr=3", "optimizer.lrr: unknown setting. Did you mean optimizer.lr?"),
        ("trainer.binarise=maybe", "trainer.binarise=maybe: must be true or false"),
        ("kl_schedule.warmup=long", "kl_schedule.warmup=long: must be a number"),
        ("likelihood.gray=x", "likelihood.gray=x: must be one of bernoulli, continuous_bernoulli"),
        (
            "model._target_=genmodels.models.vae.Nope",
            "model._target_=genmodels.models.vae.Nope: no such class",
        ),
    ],
)
def test_settings_refuse(override: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        settings_of(override)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "checkpoint: must be given"),
        (["checkpoint=[]"], "checkpoint=[]: must be a text or a list of at least one value"),
        (["checkpoint=x", "n=0"], "n=0: must be >= 1"),
        (["checkpoint=x", "temperature=-1"], "temperature=-1: must be >= 0"),
        (
            ["checkpoint=x", "figures=3"],
            "figures=3: must be a list such as [a,b] or all",
        ),
        (["checkpoint=x", "labels=[a]"], "labels=[a]: must be an integer"),
        (["checkpoint=x", "center=[1,inf]"], "center=[1,inf]: must be a finite number"),
    ],
)
def test_infer_refuses(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(InferSettings, to_dict(composed("infer", *overrides)))
    assert str(caught.value).startswith(message)


def test_settings_hold_numbers_for_what_depends_on_the_data() -> None:
    gray, colour = settings_of("model=gan"), settings_of("model=gan", spec=COLOUR)
    for settings, lr, r1, translation in (
        (gray, 0.002, 0.0006 * 784, 0.0),
        (colour, 0.0004, 0.0006 * 4096, 0.125),
    ):
        values = settings.as_dict()
        assert values["trainer"]["discriminator"]["lr"] == pytest.approx(lr)
        assert values["penalty"]["r1"] == values["penalty"]["r2"] == pytest.approx(r1)
        assert values["trainer"]["penalty"] == values["penalty"]
        assert values["diff_augment"]["translation"] == translation
    for spec, likelihood, binarise in (
        (ImageSpec("gray", (1, 28, 28)), "bernoulli", True),
        (COLOUR, "discretised_logistic", False),
    ):
        settings = settings_of(spec=spec)
        assert settings.choices["likelihood"] == likelihood
        assert settings.trainer["binarise"] is binarise
        assert settings.model["likelihood"] == settings.as_dict()["likelihood"]
        assert settings.precision in ("fp32", "bf16") and settings.device != "auto"
        assert "${" not in str(settings.as_dict())


@pytest.mark.parametrize(
    ("overrides", "equal"),
    [
        (["model=gan"], ["model=gan", "trainer.discriminator.lr=0.002"]),
        (["model=gan"], ["model=gan", "penalty.r1=0.4704", "penalty.r2=0.4704"]),
        (["model=gan"], ["model=gan", "diff_augment.translation=0"]),
        ([], ["likelihood=bernoulli"]),
        ([], ["trainer.binarise=true"]),
        ([], ["kl_weight=1.0", "device=cpu"]),
    ],
)
def test_the_same_numbers_have_the_same_name(overrides: list[str], equal: list[str]) -> None:
    one, other = settings_of(*overrides), settings_of(*equal)
    assert number_settings(one.as_dict()) == number_settings(other.as_dict())
    assert run_name(one.as_dict(), one.choices) == run_name(other.as_dict(), other.choices)


def test_settings_do_not_change() -> None:
    cfg = composed("train")
    before = OmegaConf.to_yaml(cfg)
    settings = settings_of()
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 3
    assert OmegaConf.to_yaml(cfg) == before


def test_types_of_every_kind_are_checked() -> None:
    check_type("x", [1, 2], list[int])
    check_type("x", None, int | None)
    check_type("x", 1, float)
    check_type("x", 1, dict[str, int] | object)
    for value, hint in (([1, "a"], list[int]), ("a", int | None), (True, float), (1.0, int)):
        with pytest.raises(UserError, match=r"^x="):
            check_type("x", value, hint)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.latent_dim=0"], "model.latent_dim=0: must be an integer >= 1"),
        (
            ["model=vae", "model.widths=[8,8,8,8,8,8,8]"],
            "model.widths: 7 stages halve a side of 28 pixels too often",
        ),
        (["trainer.updater.clip_norm=0"], "trainer.updater.clip_norm=0: must be a number > 0"),
        (["kl_schedule.warmup=0"], "kl_schedule.warmup=0: must be a fraction of the run"),
        (["optimizer.weight_decay=inf"], "optimizer.weight_decay=inf: must be a finite number"),
        (["trainer.updater.precision=fp8"], "precision=fp8: must be one of fp32, bf16"),
        (["trainer.updater.batch_size=-1"], "batch_size=-1: must be an integer >= 1"),
        (["trainer.updater=3"], "trainer.updater=3: must be settings with a _target_"),
        (["trainer.objective=null"], "trainer.objective=null: must be settings with a _target_"),
        (["model.likelihood=[1]"], "model.likelihood=[1]: must be settings with a _target_"),
        (["model.prior=x"], "model.prior=x: must be settings with a _target_, of Prior"),
        (["wandb=null"], "wandb=None: must be settings, such as wandb.<name>=<value>"),
        (["augment=3"], "augment=3: must be settings, such as augment.<name>=<value>"),
        (["device={}"], "device={}: must be a text"),
        (["optimizer._partial_=3"], "optimizer._partial_=3: must be true or false"),
        *[
            ([f"model._target_={name}"], f"model._target_={name}: no such class or function")
            for name in ("math.pi", "os", "genmodels.models.vae", "3", "null")
        ],
        (["trainer._target_=builtins.dict"], "trainer._target_=builtins.dict: takes no settings"),
        (["model.widths=[1000000,1000000]"], "model: 2,001,588,000,792 parameters need 40,032 GB"),
        (["model.latent_dim=1000000000"], "model: "),
        (["+model.num_classes=-3"], "model.num_classes=-3: cannot be set"),
        (["model.image_shape=[3,28,28]"], "model.image_shape=[3,28,28]: cannot be set"),
        (
            ["dataset=mnist", "dataset.root=/nowhere"],
            "dataset.root=/nowhere: no MNIST files in /nowhere/MNIST/raw",
        ),
        (
            ["dataset=folder"],
            "dataset.root=data/pictures: no such folder. Give the one that holds your images",
        ),
        (
            ["dataset=emnist", "dataset.split=letter"],
            "dataset.split=letter: must be one of byclass, bymerge",
        ),
        (
            ["dataset=celeba", "dataset.attribute=Smile"],
            "dataset.attribute=Smile: must be null or one of 5_o_Clock_Shadow",
        ),
        (["dataset=flowers", "dataset.side=7"], "dataset.side=7: must be an integer >= 8"),
        (["augment.crop=-1"], "augment.crop=-1: must be an integer >= 0"),
        (["device=cuda:7"], "device=cuda:7: torch sees"),
        (["init_from=nowhere"], "init_from=nowhere: no checkpoint.pt there"),
        (["batch_size=60000"], "batch_size=60000: must be at most 1295, the number of training"),
        (["features=inception"], "features=inception: needs torch-fidelity"),
    ],
)
def test_a_run_refuses_by_the_whole_key_and_leaves_nothing(
    train_here: Callable, tmp_path: Path, overrides: list[str], message: str
) -> None:
    small = [] if "model=vae" in overrides else SMALL
    with pytest.raises(UserError) as caught:
        train_here("max_steps=3", *small, *overrides)
    assert str(caught.value).startswith(message)
    folder = tmp_path / "run"
    assert not folder.exists() or not list(folder.iterdir())  # the command removes an empty one
