"""What `--help` prints: choices and settings, with the comments that stand beside them in conf/."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from genmodels.command_line import explain
from genmodels.composition import CONF, compose_config, group_choices, to_dict, without_hydra
from genmodels.formatting import format_setting
from genmodels.user_errors import UserError, flatten

HELP = ("--help", "-h")
WIDTH = 100
COMMENT_COLUMN = 44
INCLUDED = ("dataset_files", "updater")  # yamls that others include, and that nobody chooses
SETTING = re.compile(r"( *)([A-Za-z]\w*):( [^#]*?)?(?: +# (.*)| *)")


def help_text(command: str, arguments: Sequence[str]) -> str:
    """The help of a command, with the settings that these choices have.

    Raises UserError for choices that there are not.

    Arguments:
    command: "train" or "infer".
    arguments: of its command line.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    try:
        composed = compose_config(command, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error, command, overrides)) from None
    choices = group_choices(composed.hydra.runtime.choices) if command == "train" else {}
    lines = [composed.hydra.help.template.rstrip()]
    if choices:
        lines += ["", "Choices (key=choice):", *_choice_lines(choices)]
    lines += ["", "Settings (key=value), as these choices have them:"]
    lines += _setting_lines(without_hydra(composed), _comments(command, choices))
    return "\n".join(lines)


def _choice_lines(choices: Mapping[str, str]) -> Iterator[str]:
    """Each group with what can be chosen; a star marks what is."""
    for group in [*choices, "experiment"]:
        yield f"  {group}="
        for path in sorted((CONF / group).glob("*.yaml")):
            star = "*" if choices.get(group) == path.stem else " "
            summary = textwrap.shorten(_summary(path), WIDTH - 34, placeholder=" ...")
            yield f"  {star} {path.stem:<29} {summary}"


def _summary(path: Path) -> str:
    """The first sentence of the comment at the head of a yaml."""
    head = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            head.append(line.lstrip("# "))
    return re.split(r"(?<!al\.)(?<=\.) ", " ".join(head))[0].rstrip(".")


def _setting_lines(cfg: DictConfig, comments: Mapping[str, str]) -> Iterator[str]:
    """Each setting with its value and its comment.

    What other settings decide is left out, unless there is a comment of its own.
    """
    for key, value in flatten(to_dict(cfg, resolve=False)):
        name = key.rpartition(".")[2]
        decided = isinstance(value, str) and value.startswith(("${", "???"))
        if name.startswith("_") or (decided and key not in comments):
            continue
        setting = f"  {key}={'...' if decided else format_setting(value)}"
        yield from _in_columns(setting, comments.get(key) or comments.get(name, ""))


def _in_columns(setting: str, comment: str) -> list[str]:
    """A setting, and its comment to the right of it, in as many lines as that takes."""
    parts = textwrap.wrap(comment, WIDTH - COMMENT_COLUMN) or [""]
    if len(setting) >= COMMENT_COLUMN:
        parts = ["", *parts] if comment else parts
    lines = [f"{setting:<{COMMENT_COLUMN}}{parts[0]}".rstrip()]
    return lines + [" " * COMMENT_COLUMN + part for part in parts[1:]]


def _comments(command: str, choices: Mapping[str, str]) -> dict[str, str]:
    """What the yamls of a configuration say of each setting, by its key.

    Those of yamls that others include have their own names as keys.
    """
    comments: dict[str, str] = {}
    for name in INCLUDED:
        comments |= dict(_comments_in(CONF / f"{name}.yaml", ""))
    for group, choice in choices.items():
        comments |= dict(_comments_in(CONF / group / f"{choice}.yaml", group))
    return comments | dict(_comments_in(CONF / f"{command}.yaml", ""))


def _comments_in(path: Path, group: str) -> Iterator[tuple[str, str]]:
    """Keys of a yaml, and the comment beside each, or in the lines above it."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    package = [] if "# @package _global_" in text or not group else [group]
    parents: list[str] = []
    above: list[str] = []
    head_ends = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    for line in lines[head_ends:]:
        setting = SETTING.fullmatch(line)
        if line.lstrip().startswith("#"):
            above.append(line.lstrip("# "))
        elif setting:
            indent, key, _, beside = setting.groups()
            parents = [*parents[: len(indent) // 2], key]
            comment = beside or " ".join(above)
            if comment:
                yield ".".join([*package, *parents]), comment
            above = []
        else:
            above = []
