"""What a configuration may say: legal values of single settings, and signatures of what a node names."""

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from genmodels.errors import did_you_mean, nearest

INFINITY = float("inf")


class UserError(ValueError):
    """Something that the user can put right; the message says how. Doors print it without a traceback."""


def plain(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """A configuration as plain nested dicts."""
    return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=resolve))


def is_a(value: object, kind: type) -> bool:
    """isinstance, but true and false are no numbers, and a whole number is a float."""
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return isinstance(value, kind)


def show(value: object) -> str:
    """A value as it is typed on the command line."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Legal:
    """Which values a setting may have, as a test and in words."""

    test: Callable[[Any], bool]
    words: str


def integer(low: int, *, high: float = INFINITY, optional: bool = False) -> Legal:
    """Whole numbers from `low` to `high`, and null if optional."""
    words = f"an integer >= {low}" + (f" and <= {high:.0f}" if high < INFINITY else "")
    return Legal(
        lambda value: (optional and value is None) or (is_a(value, int) and low <= value <= high),
        words + (", or null" if optional else ""),
    )


def number(low: float, *, open_end: bool = False) -> Legal:
    """Finite numbers from `low`, which is itself legal unless the end is open."""
    return Legal(
        lambda value: (
            is_a(value, float) and (low < value if open_end else low <= value) and value < INFINITY
        ),
        f"a finite number {'>' if open_end else '>='} {low:g}",
    )


def one_of(*choices: object) -> Legal:
    """One of these values."""
    return Legal(
        lambda value: any(
            value is choice or (value == choice and is_a(value, type(choice))) for choice in choices
        ),
        "one of " + ", ".join(show(choice) for choice in choices),
    )


def text(*, optional: bool = False) -> Legal:
    """A string, and null if optional."""
    return Legal(
        lambda value: isinstance(value, str) or (optional and value is None),
        "a text" + (", or null" if optional else ""),
    )


def text_list() -> Legal:
    """A list of strings."""
    return Legal(
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
        "a list of names such as [a,b]",
    )


def number_list() -> Legal:
    """A list of finite numbers, or null."""
    return Legal(
        lambda value: (
            value is None
            or (
                isinstance(value, list)
                and bool(value)
                and all(is_a(item, float) and abs(item) < INFINITY for item in value)
            )
        ),
        "a list of numbers such as [1,-0.5], or null",
    )


def integer_list() -> Legal:
    """A list of whole numbers from 0, or null."""
    return Legal(
        lambda value: (
            value is None
            or (
                isinstance(value, list)
                and bool(value)
                and all(is_a(item, int) and item >= 0 for item in value)
            )
        ),
        "a list of integers >= 0 such as [3,7], or null",
    )


def selection() -> Legal:
    """A list of strings, the word all, or null."""
    return Legal(
        lambda value: value in (None, "all") or text_list().test(value),
        f"{text_list().words}, all, or null",
    )


DEVICE = Legal(
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value)),
    "auto, cpu, cuda, cuda:<number> or mps",
)
FEATURES = ("classifier", "pixels", "inception")
METRIC = Legal(
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"(validation|test)\.\w+", value)),
    "a final metric such as validation.elbo",
)
SEED = integer(0, high=2**32 - 1)
SETTINGS = {
    "train": {
        "epochs": integer(1),
        "max_steps": integer(1, optional=True),
        "batch_size": integer(1, high=65_536),
        "seed": SEED,
        "init_from": text(optional=True),
        "device": DEVICE,
        "precision": one_of("auto", "fp32", "bf16"),
        "compile": one_of("auto", True, False),
        "deterministic": one_of(True, False),
        "evaluate_every": integer(1, optional=True),
        "checkpoint_every": integer(1, optional=True),
        "features": one_of(None, *FEATURES),
        "select": one_of(None, "elbo", "fd", "kid"),
        "sweep_metric": METRIC,
        "overwrite": one_of(True, False),
        "preview": one_of(True, False),
        "lr": number(0, open_end=True),
        "kl_weight": number(0),
        "likelihood.gray": text(),
        "likelihood.colour": text(),
        "wandb.mode": one_of(None, "offline", "online", "disabled"),
        "wandb.project": text(),
        "wandb.entity": text(optional=True),
        "wandb.group": text(optional=True),
        "wandb.tags": text_list(),
        "wandb.notes": text(optional=True),
        "wandb.timeout": number(0, open_end=True),
    },
    "infer": {
        "checkpoint": Legal(
            lambda value: isinstance(value, str) or (text_list().test(value) and bool(value)),
            "a text, or a list of texts such as [runs/a,runs/b]",
        ),
        "samples": integer(2, high=1_000_000),
        "features": one_of(None, *FEATURES),
        "figures": selection(),
        "metrics": selection(),
        "n": integer(1, high=100_000),
        "temperature": number(0),
        "density": text(),
        "components": integer(1, high=1000),
        "center": number_list(),
        "spread": number(0),
        "labels": integer_list(),
        "seed": SEED,
        "k": integer(1, high=100_000),
        "device": DEVICE,
        "dataset.root": text(),
        "dataset.cache": text(),
    },
}


def check(cfg: DictConfig, door: str) -> None:
    """Refuse unknown keys, wrong types and values out of range, before anything is read or allocated.

    Single settings are held against SETTINGS[door]; a node with `_target_` against the signature that it names, so
    that a new class or function brings its own check. Raises UserError.
    """
    config = plain(cfg)
    nodes = {
        key: value
        for key, value in config.items()
        if isinstance(value, Mapping) and "_target_" in value
    }
    for key, value in leaves({key: value for key, value in config.items() if key not in nodes}):
        if value == "???":
            raise UserError(f"{key}: must be given, for example {key}=...")
        legal = SETTINGS[door].get(key)
        if legal is None:
            raise unknown(key, [*SETTINGS[door], *nodes])
        if not legal.test(value):
            raise UserError(f"{key}={show(value)}: must be {legal.words}")
    for key, node in nodes.items():
        _check_node(key, node)


def unknown(key: str, known: Sequence[str]) -> UserError:
    """The refusal of a key that does not exist, with the nearest that does."""
    last = {name.rpartition(".")[2]: name for name in known}
    near = nearest(key, known) or last.get(nearest(key.rpartition(".")[2], last), "")
    return UserError(
        f"{key}: unknown setting{did_you_mean(near) or '. `python train.py --help` lists all'}"
    )


def full_key(config: Mapping, message: str) -> str:
    """A message such as "latent_dim=0: must ..." with the setting's whole name, model.latent_dim, where it has one."""
    name = re.match(r"\w+(?=[=:])", message)
    found = [key for key, _ in leaves(config) if name and key.rpartition(".")[2] == name[0]]
    return min(found, key=len) + message[len(name[0]) :] if name and found else message


def leaves(config: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    """("a.b", value) for every value of a nested configuration."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_node(path: str, node: Mapping) -> None:
    from hydra.utils import get_object  # imports the class, and with it torch

    try:
        target = get_object(node["_target_"])
    except Exception:
        raise UserError(f"{path}._target_={node['_target_']}: no such class or function") from None
    parameters = [
        parameter.name
        for parameter in inspect.signature(target).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key, value in node.items():
        if key in ("_target_", "_partial_") or value == "???":  # ??? is filled from the data set
            continue
        if key not in parameters:
            raise unknown(f"{path}.{key}", [f"{path}.{name}" for name in parameters])
        if isinstance(value, Mapping) and "_target_" in value:
            _check_node(f"{path}.{key}", value)
        elif key in hints and not _conforms(value, hints[key]):
            raise UserError(f"{path}.{key}={show(value)}: must be {_words(hints[key])}")


def _conforms(value: object, hint: object) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_conforms(value, option) for option in arguments)
    if hint in (int, float, bool, str, type(None)):
        return value is None if hint is type(None) else is_a(value, hint)  # type: ignore
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence):
        return isinstance(value, list) and all(_conforms(item, arguments[0]) for item in value)
    return True


def _words(hint: object) -> str:
    names = {
        int: "an integer",
        float: "a number",
        bool: "true or false",
        str: "a text",
        type(None): "null",
    }
    if hint in names:
        return names[hint]  # type: ignore
    arguments = [_words(argument) for argument in typing.get_args(hint) if argument is not ...]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(arguments)
    return f"a list, of which each is {arguments[0]}"
