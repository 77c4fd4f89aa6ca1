"""Every yaml composes to settings and makes what it names; run names follow settings."""

import inspect
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, composed, settings_of, write_pictures
from hydra.utils import get_object, instantiate

from genmodels.composition import CONF, compose_config
from genmodels.fitting import build
from genmodels.run_name import data_name, run_name

# The files of a group whose name begins with an underscore are shared parts, no choices
CHOICES = sorted(
    (path.parent.name, path.stem)
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in ("hydra", "trainer") and not path.stem.startswith("_")
)
# Groups that only come with some models
FAMILY = {"adversarial_loss": ["model=gan"], "penalty": ["model=gan"]}


def overrides_of(group: str, choice: str) -> list[str]:
    return [*FAMILY.get(group, []), f"{group}={choice}"]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_to_settings(group: str, choice: str) -> None:
    settings = settings_of(*overrides_of(group, choice))
    if group != "experiment":
        assert settings.choices[group] == choice or choice == "auto"


@pytest.mark.parametrize(
    ("group", "choice"), [entry for entry in CHOICES if entry[0] not in ("dataset", "experiment")]
)
def test_every_choice_builds_a_trainer(group: str, choice: str) -> None:
    settings = settings_of(*overrides_of(group, choice))
    model, trainer, _ = build(settings)
    assert trainer.plan(0, 100) and sum(weights.numel() for weights in model.parameters()) > 1000


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "dataset"])
def test_every_data_set_has_a_spec(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data/pictures")
    spec = instantiate(composed("train", f"dataset={choice}").dataset).spec
    assert len(spec.image_shape) == 3 and spec.name


@pytest.mark.parametrize(
    ("group", "choice", "plugin"),
    [
        ("sweeper", "fraction", "hydra"),
        ("sweeper", "search_elbo", "hydra_optuna_sweeper"),
        ("sweeper", "search_kid", "hydra_optuna_sweeper"),
        ("launcher", "slurm", "hydra_submitit_launcher"),
    ],
)
def test_every_launcher_and_sweeper_composes(group: str, choice: str, plugin: str) -> None:
    """With the plugin of its extra, where that is installed; what it sweeps are settings."""
    assert (CONF / f"hydra/{group}/{choice}.yaml").exists()
    if plugin != "hydra":
        pytest.importorskip(f"hydra_plugins.{plugin}")
    cfg = compose_config("train", [f"hydra/{group}={choice}"])
    model = ["model=gan"] if choice == "search_kid" else []
    swept = [f"{key}=1" for key in cfg.hydra.sweeper.get("params") or {}]
    settings_of(*model, *swept)
    assert cfg.hydra[group]._target_


def test_every_choice_says_what_it_is() -> None:
    for path in CONF.glob("*/**/*.yaml"):
        assert path.read_text().startswith("#"), path


def test_every_argument_is_in_the_yaml() -> None:
    """What a class of this project takes with a default is in the yaml too: it lists all settings.
    Only labels are for the conditional choices of a class alone."""
    for group, choice in CHOICES:
        node = composed("train", *overrides_of(group, choice)).get(group)
        if node is None or not str(node.get("_target_", "")).startswith("genmodels."):
            continue
        arguments = {
            parameter.name
            for parameter in inspect.signature(get_object(node._target_)).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }
        missing = arguments - {*node, "model", "progress"}
        if (group, f"c{choice}") in CHOICES:
            missing -= {"num_classes", "label_dropout"}
        assert not missing, f"{group}/{choice}.yaml lacks {missing}"


def name_of(*overrides: str) -> str:
    settings = settings_of(*overrides)
    return run_name(settings.as_dict(), settings.choices)


def test_a_folder_that_is_only_a_number_is_named_after_its_parent(tmp_path: Path) -> None:
    for name, expected in (("emoji/64", "emoji-64"), ("emoji", "emoji")):
        cfg = composed("train", "dataset=folder", f"dataset.root={tmp_path / name}")
        assert cfg.dataset.name == expected


def test_run_names() -> None:
    name = name_of("kl_weight=0.3", "seed=7")
    assert re.fullmatch(r"digits-vae-linear-flow-kl0\.3-seed7-[0-9a-f]{6}", name)
    assert name_of("kl_weight=1") == name_of("kl_weight=1.0") == name_of()
    assert compose_config("train", []).hydra.run.dir == f"runs/{name_of()}"


def test_a_refused_job_has_a_name(tmp_path: Path) -> None:
    folder = compose_config("train", ["epochs=-1", "dataset=mnist", "dataset.root=/nowhere"])
    assert re.fullmatch(r"runs/mnist-vae-refused-[0-9a-f]{6}", folder.hydra.run.dir)


@pytest.mark.parametrize(
    "override",
    [
        "device=cpu",
        "evaluate_every=3",
        "checkpoint_every=5",
        "wandb.mode=offline",
        "wandb.tags=[a]",
        "overwrite=true",
        "dataset.cache=elsewhere",
        "preview=true",
        "features=pixels",
    ],
)
def test_neutral_settings_keep_the_name(override: str) -> None:
    assert name_of(override) == name_of()


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "epochs=3",
        "max_steps=10",
        "batch_size=32",
        "lr=0.1",
        "kl_weight=2",
        "model.latent_dim=3",
        "kl_schedule=cosine",
        "kl_schedule.warmup=0.2",
        "precision=bf16",
        "trainer.updater.clip_norm=1",
        "optimizer=adam",
        "lr_schedule=constant",
        "dataset=mnist",
        "augment.crop=2",
        "model=vae_mlp",
        "select=elbo",
    ],
)
def test_other_settings_change_the_name(override: str) -> None:
    base = "precision=fp32"  # whatever this machine is good at
    assert name_of(base, override)[-6:] != name_of(base)[-6:]


def test_a_folder_gives_its_name_but_not_its_place() -> None:
    def name(root: str) -> str:
        return name_of("dataset=folder", f"dataset.root={root}")

    assert re.fullmatch(r"my_cats-vae-linear-flow-kl1-seed0-[0-9a-f]{6}", name("/here/my_cats"))
    assert name("/here/my_cats") == name("/there/my_cats/") != name("/here/my_dogs")
    assert re.match(r"_-vae", name("'/here/\N{CAT FACE}'"))
    settings = {"dataset.split": "letters", "dataset.attribute": None}
    assert data_name(settings, {"dataset": "emnist"}) == "emnist-letters"


def test_the_wandb_sweep_composes() -> None:
    """Command lines that an agent builds from sweep.yaml are right, each of its values once."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((ROOT / "sweep.yaml").read_text())
    assert sweep["program"] == "train.py" and "${args_no_hyphens}" in sweep["command"]
    choices = {}
    for key, entry in sweep["parameters"].items():
        choices[key] = entry.get("values", [entry.get("value")])
    first = {key: values[0] for key, values in choices.items()}
    points = [first]
    for key, values in choices.items():
        points += [first | {key: value} for value in values[1:]]
    names = set()
    for point in points:
        arguments = {key: {"value": value} for key, value in point.items()}
        overrides = create_sweep_command_args({"args": arguments})["args_no_hyphens"]
        settings = settings_of(*overrides)
        assert settings.wandb.mode == "online"
        names.add(run_name(settings.as_dict(), settings.choices))
    assert len(names) == len(points) == 9
