"""Checks of settings: unknown keys, wrong types, values out of range, each refused in one message."""

import inspect
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from hydra.utils import get_object
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from genmodels.errors import did_you_mean, nearest
from genmodels.formatting import format_setting

Schema = TypeVar("Schema", bound=BaseModel)

WORDS = {  # of pydantic's messages, in the terms of the command line
    "Input should be a valid string": "a text",
    "Input should be a valid integer": "an integer",
    "Input should be a valid number": "a number",
    "Input should be a valid boolean": "true or false",
    "Input should be a valid list": "a list such as [a,b]",
    "Input should be a valid tuple": "a list such as [a,b]",
    "Input should be None": "null",
    "Input should be a finite number": "a finite number",
    "Input should be ": "",
    "String should match pattern": "a text of the pattern",
    "List should have at least 1 item after validation": "a list of at least one value",
}


class UserError(ValueError):
    """Something that the user can put right; the message says how. No traceback is printed."""


def validate(schema: type[Schema], values: Mapping[str, Any]) -> Schema:
    """The values as settings. Raises UserError, naming the first key that is not right.

    Single values are held against the schema; a node with `_target_` against the signature of the
    class or function that it names, so that these need no schema of their own.
    """
    missing = [key for key, value in flatten(values) if value == "???"]
    if missing:
        raise UserError(f"{missing[0]}: must be given, for example {missing[0]}=...")
    try:
        settings = schema.model_validate(dict(values))
    except ValidationError as error:
        raise UserError(_describe(error, values)) from None
    known = list(schema.model_fields)
    for key, value in values.items():
        is_node = isinstance(value, Mapping) and "_target_" in value
        if key not in schema.model_fields and not is_node:
            raise unknown_key(key, known)
        if is_node:
            _validate_node(key, value)
    return settings


def unknown_key(key: str, known: Sequence[str]) -> UserError:
    """The refusal of a key that does not exist, with the nearest that does."""
    by_last_part = {name.rpartition(".")[2]: name for name in known}
    near = nearest(key, known) or by_last_part.get(
        nearest(key.rpartition(".")[2], by_last_part), ""
    )
    hint = did_you_mean(near) or ". `python train.py --help` lists all"
    return UserError(f"{key}: unknown setting{hint}")


def full_key(values: Mapping[str, Any], message: str) -> str:
    """A message such as "latent_dim=0: must ..." with the whole key, model.latent_dim, if it has one."""
    name = re.match(r"\w+(?=[=:])", message)
    if not name:
        return message
    keys = [key for key, _ in flatten(values) if key.rpartition(".")[2] == name[0]]
    return min(keys, key=len) + message[len(name[0]) :] if keys else message


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b", value) for every value of a nested configuration."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _validate_node(path: str, node: Mapping[str, Any]) -> None:
    """Hold a node against the signature of what it names."""
    try:
        target = get_object(node["_target_"])  # imports it
    except Exception:
        raise UserError(f"{path}._target_={node['_target_']}: no such class or function") from None
    parameters = []
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            parameters.append(parameter.name)
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key, value in node.items():
        if key in ("_target_", "_partial_"):
            continue
        if key not in parameters:
            raise unknown_key(f"{path}.{key}", [f"{path}.{name}" for name in parameters])
        if isinstance(value, Mapping) and "_target_" in value:
            _validate_node(f"{path}.{key}", value)
        elif key in hints:
            check_type(f"{path}.{key}", value, hints[key])


def check_type(key: str, value: Any, hint: Any) -> Any:
    """Raise UserError unless a value is of a type; types that are not plain are not checked."""
    try:
        adapter = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return value
    lax = isinstance(value, list)  # a list for a tuple
    try:
        return adapter.validate_python(tuple(value) if lax else value, strict=not lax)
    except ValidationError as error:
        reasons = _reasons(error.errors())
        raise UserError(f"{key}={format_setting(value)}: must be {reasons}") from None


def _describe(error: ValidationError, values: Mapping[str, Any]) -> str:
    """The first wrong key with its value, and what it must be."""
    errors = error.errors()
    path = [str(part) for part in errors[0]["loc"]]
    node: Any = values
    key = ""
    for part in path:  # the location goes on into the branches of a union
        if not isinstance(node, Mapping) or part not in node:
            break
        key, node = f"{key}.{part}" if key else part, node[part]
    if errors[0]["type"] == "missing":
        return f"{'.'.join(path)}: must be given"
    if errors[0]["type"] == "extra_forbidden":
        parent = key.rpartition(".")[0]
        return str(unknown_key(key, [f"{parent}.{name}" for name in values.get(parent, {})]))
    depth = key.count(".") + 1
    same = [each for each in errors if [str(part) for part in each["loc"][:depth]] == path[:depth]]
    return f"{key}={format_setting(node)}: must be {_reasons(same)}"


def _reasons(errors: Sequence[Mapping[str, Any]]) -> str:
    """What a value must be: the branches of a union, in the terms of the command line."""
    reasons = []
    for each in errors:
        reason = each["msg"].partition(",")[0]
        for theirs, ours in WORDS.items():
            reason = reason.replace(theirs, ours)
        reasons.append(reason.replace("'", ""))
    return " or ".join(dict.fromkeys(reasons))
