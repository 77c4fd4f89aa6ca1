"""The commands of README, docs and recipes, shortened: one step, few samples, embedded images."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write_pictures
from test_readme import COMMANDS, first_job

from genmodels.command_line import with_lists
from genmodels.run_files import read_summary

DATA = re.compile(r"dataset=\w+")
SHORTENED = ("seed", "epochs", "max_steps")
DIGITS = ("dataset=digits", "features=pixels")
PICTURES = ("dataset=folder", "dataset.root=pictures", "features=null")
WITH_PICTURES = ("dataset=folder", "dataset=flowers", "experiment=pictures")
# What the pages call runs
RUNS = re.compile(r"checkpoint=(?!zoo:)\S+")


def overrides_of(command: str) -> list[str]:
    """What follows the script's name, without the flag -m and what is Hydra's own."""
    words = shlex.split(command)[1:]
    return [word for word in words if word != "-m" and not word.startswith("hydra")]


def training_commands() -> list[str]:
    """Those whose first runs differ, when they are as short as here."""
    by_run: dict[frozenset[str], str] = {}
    for command in COMMANDS:
        if command.startswith("train.py"):
            words = first_job(overrides_of(command))
            kept = frozenset(word for word in words if word.partition("=")[0] not in SHORTENED)
            by_run.setdefault(kept, command)
    return list(by_run.values())


def inference_commands() -> list[str]:
    """Without those that train a reference classifier, which other tests do."""
    commands = [command for command in COMMANDS if command.startswith("infer.py")]
    return [word for word in commands if "metrics=all" not in word and "class_acc" not in word]


@pytest.mark.slow
@pytest.mark.parametrize("command", training_commands())
def test_training_commands(command: str, train_here: Callable[..., Path]) -> None:
    """The first run of each, on embedded digits, or on pictures where it is about pictures."""
    data = DIGITS
    if any(word in command for word in WITH_PICTURES):
        write_pictures(Path("pictures"), count=30)
        data = PICTURES
    overrides = []
    for word in first_job(overrides_of(command)):
        if not DATA.fullmatch(word) and not word.startswith("dataset.root="):
            overrides.append(word)
    short = [*data, "evaluate_every=1", "batch_size=8"]
    if "init_from=RUN" in overrides:
        overrides.remove("init_from=RUN")
        train_here(*overrides, *short, "max_steps=1", folder="RUN")
        overrides.append("init_from=RUN")
    run = train_here(*overrides, *short, "max_steps=2")
    if not {"preview=true", "doctor=true"}.intersection(overrides):
        assert read_summary(run)["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("command", inference_commands())
def test_inference_commands(
    command: str, train_here: Callable[..., Path], infer_here: Callable[..., None]
) -> None:
    """On a conditional run where a class is asked for, else on a VAE with two dimensions."""
    overrides = with_lists(overrides_of(command))
    if "checkpoint=zoo:" not in command:
        of_class = "label" in command or "class" in command
        model = "model=cvae_mlp" if of_class else "model=vae_mlp"
        run = train_here(model, "model.latent_dim=2", "max_steps=1", "batch_size=64")
        overrides = [word for word in overrides if not RUNS.match(word)]
        overrides.append(f"checkpoint={run}")
    kept = [word for word in overrides if word.partition("=")[0] not in ("k", "samples", "n")]
    infer_here(*kept, "samples=100", "k=3", "n=8")
    folder = Path("pictures") if "out=pictures" in kept else Path("results")
    assert any(path.is_file() for path in folder.rglob("*"))
