"""What a user can put right, said in one message that names the setting."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import InstantiationException

from genmodels.errors import did_you_mean, nearest
from genmodels.formatting import invocation

# What others call settings of this project
SYNONYMS = {
    "beta": "kl_weight",
    "learning_rate": "lr",
    "steps": "max_steps",
    "n_epochs": "epochs",
    "bs": "batch_size",
    "nz": "model.latent_dim",
    "z_dim": "model.latent_dim",
    "latent_size": "model.latent_dim",
    "ngf": "model.generator_width",
    "ndf": "model.discriminator_width",
}


class UserError(ValueError):
    """Something that the user can put right; the message says how. No traceback is printed."""


def unknown_key(key: str, known: Sequence[str], command: str = "train") -> UserError:
    """The refusal of a key that a command does not know, with the nearest that it does."""
    parent, _, last = key.rpartition(".")
    siblings = {}
    anywhere = {}
    for name in known:
        other_parent, _, other_last = name.rpartition(".")
        anywhere[other_last] = name
        if other_parent == parent and name != key:
            siblings[other_last] = name
    near = siblings.get(nearest(last, siblings)) or anywhere.get(nearest(last, anywhere), "")
    if SYNONYMS.get(last.lower()) in known:
        near = SYNONYMS[last.lower()]
    hint = did_you_mean(near if near != key else "")
    if not hint:
        hint = f". `{invocation(command)} --help` lists all"
    return UserError(f"{key}: unknown setting{hint}")


def as_user_error(error: Exception, values: Mapping[str, Any]) -> UserError | None:
    """An error of a run as one that the user can put right; None where it is not of this kind.

    Arguments:
    error: a ValueError, ArithmeticError or OSError, or Hydra's wrapping of one, is for the user.
    values: the configuration, unresolved, in which the setting's whole key is looked up.
    """
    cause = error
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        cause = error.__cause__
    if isinstance(cause, UserError):
        return cause
    if isinstance(cause, ValueError | ArithmeticError | OSError):
        return UserError(full_key(values, str(cause)))
    return None


def full_key(values: Mapping[str, Any], message: str) -> str:
    """A message such as "latent_dim=0: must ..." with the whole key, here model.latent_dim."""
    name = re.match(r"\w+(?=[=:])", message)
    if not name:
        return message
    keys = []
    for key, value in flatten(values):
        is_copy = isinstance(value, str) and value.startswith("${")
        if key.rpartition(".")[2] == name[0] and not is_copy:
            keys.append(key)
    return min(keys, key=len) + message.removeprefix(name[0]) if keys else message


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b", value) for every value of a nested configuration."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
