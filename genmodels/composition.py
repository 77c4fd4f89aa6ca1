"""Configurations from the yamls of conf/, composed as on a command line, but without one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from genmodels import resolvers as _resolvers  # noqa: F401 (the yamls use them)

PACKAGE = Path(__file__).parent
# beside the package in a checkout, in it where the package is installed
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"


def compose_config(command: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a command with these overrides, Hydra's own in its node `hydra`.

    It may be called inside of a Hydra job and in a notebook, whose own state of Hydra stays.

    Arguments:
    command: "train" or "infer".
    overrides: as on a command line, such as "model=vae".
    """
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            return compose(command, overrides=list(overrides), return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = running


def without_hydra(cfg: DictConfig) -> DictConfig:
    """The configuration without Hydra's own node, as a job gets it."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def group_choices(choices: Mapping[str, str | None]) -> dict[str, str]:
    """The choices of this project's groups by the groups' names, from hydra.runtime.choices."""
    named = {}
    for group, choice in choices.items():
        if choice is not None and not group.startswith("hydra/"):
            named[group.partition("@")[0]] = choice
    return named


def to_dict(cfg: DictConfig, *, resolve: bool = True) -> dict[str, Any]:
    """A configuration as plain nested dicts."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))
