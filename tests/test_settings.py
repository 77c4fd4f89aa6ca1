"""What a user can get wrong, and the one short message that each gives. (The doors themselves: test_doors.py.)"""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, composed

from genmodels import legal
from genmodels.validation import UserError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["epochs=abc"], "epochs=abc: must be an integer >= 1"),
        (["epochs=1.5"], "epochs=1.5: must be an integer >= 1"),
        (["epochs=true"], "epochs=true: must be an integer >= 1"),
        (["epochs=0"], "epochs=0: must be an integer >= 1"),
        (["max_steps=-1"], "max_steps=-1: must be an integer >= 1, or null"),
        (["kl_weight=-1"], "kl_weight=-1: must be a finite number >= 0"),
        (["kl_weight=nan"], "kl_weight=nan: must be a finite number >= 0"),
        (["kl_weight=inf"], "kl_weight=inf: must be a finite number >= 0"),
        (["kl_weight=high"], "kl_weight=high: must be a finite number >= 0"),
        (["lr=0"], "lr=0: must be a finite number > 0"),
        (["seed=-1"], "seed=-1: must be an integer >= 0 and <= 4294967295"),
        (["precision=fp8"], "precision=fp8: must be one of auto, fp32, bf16"),
        (["compile=1"], "compile=1: must be one of auto, true, false"),
        (["device=gpu"], "device=gpu: must be auto, cpu, cuda, cuda:<number> or mps"),
        (["wandb.mode=on"], "wandb.mode=on: must be one of null, offline, online, disabled"),
        (["wandb.tags=a"], "wandb.tags=a: must be a list of names"),
        (["wandb.tags=all"], "wandb.tags=all: must be a list of names"),
        (["model.latent_dim=two"], "model.latent_dim=two: must be an integer"),
        (["model.widths=32"], "model.widths=32: must be a list, of which each is an integer"),
        (["+model.betta=3"], "model.betta: unknown setting"),
        (
            ["+model.latent_dimm=3"],
            "model.latent_dimm: unknown setting. Did you mean model.latent_dim?",
        ),
        (["+latent_dimm=3"], "latent_dimm: unknown setting"),
        (["+kl_wieght=3"], "kl_wieght: unknown setting. Did you mean kl_weight?"),
        (
            ["+trainer.updater.clipnorm=3"],
            "trainer.updater.clipnorm: unknown setting. Did you mean trainer.updater.clip_norm?",
        ),
        (["trainer.binarise=maybe"], "trainer.binarise=maybe: must be true or false"),
        (["kl_schedule.warmup=long"], "kl_schedule.warmup=long: must be a number"),
        (
            ["model._target_=genmodels.models.vae.Nope"],
            "model._target_=genmodels.models.vae.Nope: no such class",
        ),
    ],
)
def test_train_refuses(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        legal.check(composed("train", *overrides), "train")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "checkpoint: must be given"),
        (["checkpoint=x", "n=0"], "n=0: must be an integer >= 1"),
        (["checkpoint=x", "temperature=-1"], "temperature=-1: must be a finite number >= 0"),
        (["checkpoint=x", "figures=samples"], "figures=samples: must be a list of names"),
    ],
)
def test_infer_refuses(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        legal.check(composed("infer", *overrides), "infer")
    assert str(caught.value).startswith(message)


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
        (
            ["dataset=mnist", "dataset.root=/nowhere"],
            "dataset.root=/nowhere: no MNIST files in /nowhere/MNIST/raw",
        ),
        (
            ["dataset=folder"],
            "dataset.root=data/pictures: no such folder. Give the one that holds your pictures",
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
    ],
)
def test_the_work_refuses_by_full_name_and_leaves_nothing(
    train_here: Callable, tmp_path: Path, overrides: list[str], message: str
) -> None:
    small = [] if "model=vae" in overrides else SMALL
    with pytest.raises(UserError) as caught:
        train_here("max_steps=3", *small, *overrides)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "run").exists()


def test_hints_of_every_kind_are_understood() -> None:
    assert legal._conforms([1, 2], list[int]) and not legal._conforms([1, "a"], list[int])
    assert legal._conforms(None, int | None) and not legal._conforms("a", int | None)
    assert (
        legal._conforms(1, float)
        and not legal._conforms(True, float)
        and not legal._conforms(1.0, int)
    )
    assert legal._words(int | None) == "an integer or null"
