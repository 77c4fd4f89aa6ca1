"""Every yaml composes, passes the check, and makes what it names; run names are functions of the settings."""

import inspect
import re
from pathlib import Path

import pytest
from conftest import ROOT, composed, write_pictures
from hydra import compose, initialize_config_dir
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from genmodels import config, legal

CHOICES = sorted(
    (path.parent.name, path.stem)
    for path in (ROOT / "conf").glob("*/*.yaml")
    if path.parent.name not in ("hydra", "trainer")
)  # a trainer comes with its model
FAMILY = {"adversarial_loss": ["model=gan"]}  # groups that only come with some models


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_is_legal(group: str, choice: str) -> None:
    legal.check(composed("train", *FAMILY.get(group, []), f"{group}={choice}"), "train")


@pytest.mark.parametrize(
    ("group", "choice"),
    [
        entry
        for entry in CHOICES
        if entry[0] not in ("experiment", "model") and entry != ("likelihood", "auto")
    ],
)  # which names two others
def test_every_choice_makes_what_it_names(
    group: str, choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data/pictures")
    made = instantiate(composed("train", *FAMILY.get(group, []), f"{group}={choice}")[group])
    assert {
        "dataset": lambda: made.spec.image_shape,
        "kl_schedule": lambda: made(1.0) >= 0,
        "likelihood": lambda: made.parameters_per_value,
        "objective": lambda: made.forward,
        "adversarial_loss": lambda: made.generator,
    }[group]()


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
    """With the plugin of its extra, where that is installed; what it sweeps is legal."""
    assert (ROOT / f"conf/hydra/{group}/{choice}.yaml").exists()
    if plugin != "hydra":
        pytest.importorskip(f"hydra_plugins.{plugin}")
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONF)):
        cfg = compose("train", overrides=[f"hydra/{group}={choice}"], return_hydra_config=True)
    legal.check(
        composed(
            "train",
            *(["model=gan"] if choice == "search_kid" else []),
            *[f"{key}={1}" for key in cfg.hydra.sweeper.get("params") or {}],
        ),
        "train",
    )
    assert cfg.hydra[group]._target_


def test_every_choice_says_what_it_is() -> None:
    for path in (ROOT / "conf").glob("*/**/*.yaml"):
        assert path.read_text().startswith("#"), path


def test_all_settings_have_a_legal_range() -> None:
    for door in ("train", "infer"):
        cfg = OmegaConf.to_container(composed(door))
        flat = {
            key
            for key, _ in legal.leaves(
                {k: v for k, v in cfg.items() if not (isinstance(v, dict) and "_target_" in v)}
            )
        }
        assert flat <= legal.SETTINGS[door].keys()


def test_every_yaml_key_is_an_argument() -> None:
    """What a constructor takes with a default is also in the yaml: the yaml lists all knobs. Only labels are for the
    conditional choices of a class alone."""
    for group, choice in CHOICES:
        node = composed("train", *FAMILY.get(group, []), f"{group}={choice}").get(group)
        if node is not None and "_target_" in node:
            parameters = inspect.signature(get_object(node._target_)).parameters.values()
            free = {
                parameter.name
                for parameter in parameters
                if parameter.kind is not parameter.VAR_POSITIONAL
                and parameter.kind is not parameter.VAR_KEYWORD
            } - {*node, "model", "progress"}
            free -= {"num_classes", "label_dropout"} if (group, f"c{choice}") in CHOICES else set()
            assert not free, f"{group}/{choice}.yaml lacks {free}"


def name_of(*overrides: str) -> str:
    return config.run_name(
        OmegaConf.to_container(composed("train", *overrides), resolve=True),
        {"dataset": "digits", "model": "vae", "kl_schedule": "linear"},
    )


def test_run_names() -> None:
    name = name_of("kl_weight=0.3", "seed=7")
    assert re.fullmatch(r"digits-vae-linear-kl0\.3-seed7-[0-9a-f]{6}", name)
    assert name_of("kl_weight=1") == name_of("kl_weight=1.0") == name_of()


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
    ],
)
def test_neutral_settings_keep_the_name(override: str) -> None:
    assert name_of(override) == name_of()


def test_a_folder_gives_its_name_but_not_its_place() -> None:
    def name(root: str) -> str:
        cfg = OmegaConf.to_container(
            composed("train", "dataset=folder", f"dataset.root={root}"), resolve=True
        )
        return config.run_name(cfg, {"dataset": "folder", "model": "vae", "kl_schedule": "linear"})

    assert re.fullmatch(r"my_cats-vae-linear-kl1-seed0-[0-9a-f]{6}", name("/here/my_cats"))
    assert name("/here/my_cats") == name("/there/my_cats/") != name("/here/my_dogs")
    assert re.match(r"_-vae", name("'/here/\N{CAT FACE}'"))
    settings = {"dataset.split": "letters", "dataset.attribute": None}
    assert config.data_name(settings, {"dataset": "emnist"}) == "emnist-letters"


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
        "dataset=mnist",
        "augment.crop=2",
        "model=vae_mlp",
    ],
)
def test_other_settings_change_the_name(override: str) -> None:
    assert name_of(override)[-6:] != name_of()[-6:]


def test_the_wandb_sweep_composes() -> None:
    """Every command line that an agent would build from sweep.yaml is legal, values and all."""
    import itertools

    import yaml
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((ROOT / "sweep.yaml").read_text())
    assert sweep["program"] == "train.py" and "${args_no_hyphens}" in sweep["command"]
    choices = {
        key: entry.get("values", [entry.get("value")]) for key, entry in sweep["parameters"].items()
    }
    names = set()
    for values in itertools.product(*choices.values()):
        arguments = {key: {"value": value} for key, value in zip(choices, values, strict=True)}
        overrides = create_sweep_command_args({"args": arguments})["args_no_hyphens"]
        cfg = composed("train", *overrides)
        legal.check(cfg, "train")
        assert cfg.wandb.mode == "online"
        names.add(config.run_name(OmegaConf.to_container(cfg, resolve=True), {}))
    assert len(names) == 45
