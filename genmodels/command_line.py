"""What the command line may hold, and why Hydra refused it: the key, what is wrong and near."""

import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException, OverrideParseException

from genmodels.composition import CONF, compose_config, to_dict, without_hydra
from genmodels.errors import did_you_mean, nearest
from genmodels.run_lookup import find_runs, locate
from genmodels.user_errors import UserError, flatten, unknown_key

MULTIRUN = ("-m", "--multirun")
FLAGS = (*MULTIRUN, "-r", "--run", "--resolve", "--help", "-h", "--hydra-help", "--version")
# Settings whose value may be a list, the brackets of which may be left out
LISTS = {"checkpoint", "figures", "metrics", "labels", "center"}
QUOTES = ("[", "'", '"')
# Flags of Hydra's whose value is the next argument, or that are rarely used: left to Hydra
FLAGS_WITH_VALUES = {
    *("--cfg", "-c", "--package", "-p", "--info", "-i", "--shell-completion", "-sc"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    "--experimental-rerun",
}
# Those of them that show something in the place of a job
SHOWING = {"--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
# Plugins of Hydra, with the extra of this project that installs each
PLUGIN_EXTRAS = {
    "hydra/launcher/joblib": "parallel",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/sweeper/optuna": "search",
}


def in_order(arguments: Sequence[str]) -> list[str]:
    """The same arguments with -m before the settings, where alone Hydra knows it."""
    flags = [argument for argument in arguments if argument in MULTIRUN]
    return flags[:1] + [argument for argument in arguments if argument not in MULTIRUN]


def with_lists(arguments: Sequence[str]) -> list[str]:
    """The same arguments with brackets around lists that are written without: key=a,b.

    Shells such as zsh take brackets for a pattern of file names. With -m a comma is a sweep.
    """
    if set(MULTIRUN).intersection(arguments):
        return list(arguments)
    listed = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key in LISTS and "," in value and value[0] not in QUOTES:
            argument = f"{key}=[{value}]"
        listed.append(argument)
    return listed


def check_arguments(command: str, arguments: Sequence[str]) -> None:
    """Raise UserError for what is no setting, a group without a name, a setting that is deleted.

    What Hydra cannot read is left to Hydra.

    Arguments:
    command: "train" or "infer".
    arguments: of its command line.
    """
    names = {argument.partition("=")[0] for argument in arguments}
    if names & FLAGS_WITH_VALUES:
        _check_one_command(names)
        return
    for argument in arguments:
        _check_form(command, argument)
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        return
    for override in parsed:
        _check_override(override)


def check_checkpoint(arguments: Sequence[str]) -> None:
    """Raise ValueError for a checkpoint= of a command line that is not there.

    What Hydra cannot read is left to Hydra.
    """
    given = [argument for argument in arguments if argument.startswith("checkpoint=")]
    try:
        values = [override.value() for override in OverridesParser.create().parse_overrides(given)]
    except HydraException:
        return
    for value in values:
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            for run in find_runs(names):
                if not run.startswith("wandb:"):
                    locate(run)


def _check_one_command(flags: set[str]) -> None:
    shows = sorted(flags & SHOWING)
    if shows and flags.intersection(MULTIRUN):
        raise UserError(f"{shows[0]}: shows one job; leave out -m, and give each setting one value")


def _check_form(command: str, argument: str) -> None:
    name, _, value = argument.partition("=")
    if argument.startswith("-") and name not in FLAGS:
        setting = f"{name.lstrip('-')}={value or '...'}"
        raise UserError(f"{argument}: settings are written without dashes, such as {setting}")
    if "=" in argument and not name.strip("+~"):
        raise UserError(f"{argument}: settings are written key=value")
    if command == "infer" and "=" not in argument and not argument.startswith(("-", "~")):
        raise UserError(f"{argument}: settings are written key=value; checkpoint={name}?")


def _check_override(override: Override) -> None:
    key = override.key_or_group
    if override.is_delete() and not key.startswith("hydra"):
        raise UserError(f"~{key}: settings cannot be deleted; many can be null or false")
    choices = _choices(key)
    value = override.value()
    chosen: list[Any] = list(value.list) if isinstance(value, ChoiceSweep) else [value]
    if choices and not all(isinstance(choice, str) for choice in chosen):
        shown = override.get_value_string()
        raise UserError(f"{key}={shown}: must be one of {', '.join(choices)}")


def _choices(group: str) -> list[str]:
    """The choices of a group of this project, [] for what is none."""
    if group.startswith("hydra") or "." in group:
        return []
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def explain(error: Exception, command: str, arguments: Sequence[str]) -> str:
    """Hydra's or OmegaConf's refusal in our words: the key, what is wrong, what is near."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        override = " ".join(str(error.override).split())
        return (
            f"{override}: cannot be read. Settings are written key=value, lists as "
            "key=[a,b], sweeps as -m key=a,b"
        )
    ambiguous = re.search(r"Ambiguous value for argument '([^=']+)=([^']+)'", text)
    if ambiguous:
        key, values = ambiguous.groups()
        listed = f"'{key}=[{values}]'"
        return f"{key}={values}: several values are a sweep, which needs -m; a list is {listed}"
    added = re.search(
        r"Multiple values for (\w+)\.|Could not append to config\. An item.*'(.+)'", text
    )
    if added:
        return f"+{added[1] or added[2]}: is there already; write it without the +"
    plugin = re.search(r"Could not (?:find|load) '(hydra/\w+/(\w+))'", text)
    if plugin and plugin[1] in PLUGIN_EXTRAS:
        return (
            f"{plugin[2]}: this plugin of Hydra's is not installed; "
            f"`uv run --extra {PLUGIN_EXTRAS[plugin[1]]} {command}.py ...` installs it"
        )
    key = re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text)
    if key:
        return _explain_key(key[1] or key[2], command, arguments)
    choice = re.search(
        r"Could not find '([^']+)/([^'/]+)'\s*Available options in '[^']+':\n((?:\t.*\n?)+)", text
    )
    if choice:
        names = choice[3].split()
        hint = did_you_mean(nearest(choice[2], names))
        return f"{choice[1]}={choice[2]}: no such choice; there are {', '.join(names)}{hint}"
    if error.__cause__ is not None:
        text = f"{text} {error.__cause__}"
    return " ".join(text.split())[:500]


def _explain_key(key: str, command: str, arguments: Sequence[str]) -> str:
    """The refusal of a key or group that a configuration with these choices does not have."""
    groups = [path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"]
    chosen = []
    for argument in arguments:
        group, _, names = argument.partition("=")
        if group in groups and group != key:
            chosen.append(f"{group}={names.partition(',')[0]}")
    choices = ", ".join(chosen) or "the default choices"
    if key in groups and command == "train":
        return f"{key}: not a group of {choices}; other models have it"
    with_defaults = _keys(command, [])
    try:
        known = _keys(command, chosen)
    except HydraException:
        known = with_defaults
    if _holds(with_defaults, key):
        models = [
            name for name in _choices("model") if _holds(_keys(command, [f"model={name}"]), key)
        ]
        return f"{key}: not a setting of {choices}; it comes with model={', '.join(models)}"
    if command == "train":
        known = [*known, *groups]
    return str(unknown_key(key, known, command))


def _holds(keys: Sequence[str], key: str) -> bool:
    """Whether a key, or one below it, is among the keys of a configuration."""
    return any(f"{name}.".startswith(f"{key}.") for name in keys)


def _keys(command: str, overrides: Sequence[str]) -> list[str]:
    """All keys of a command's configuration with these choices."""
    values = to_dict(without_hydra(compose_config(command, overrides)), resolve=False)
    return [key for key, _ in flatten(values) if "_target_" not in key]
