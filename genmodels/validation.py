"""Checks of settings: unknown keys, wrong types and values out of range are refused."""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ImportString,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from genmodels.formatting import format_setting
from genmodels.user_errors import UserError, flatten, unknown_key

Schema = TypeVar("Schema", bound=BaseModel)

DEVICE_PATTERN = r"^(auto|cpu|mps|cuda(:\d+)?)$"
FINAL_METRIC_PATTERN = r"^validation\.\w+$"  # the test split chooses nothing

GIVEN_LATER = ("model",)  # arguments that no settings hold: a trainer is given the model

# pydantic's messages in the terms of the command line
WORDS = {
    f"String should match pattern '{DEVICE_PATTERN}'": "auto, cpu, cuda, cuda:<number> or mps",
    f"String should match pattern '{FINAL_METRIC_PATTERN}'": (
        "a metric of the validation split, such as validation.elbo"
    ),
    "List should have at least 1 item after validation": "a list of at least one value",
    "a valid string": "a text",
    "a valid integer": "an integer",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid list": "a list such as [a,b]",
    "a valid tuple": "a list such as [a,b]",
    "an instance of Sequence": "a list such as [a,b]",
    "an instance of ": "settings with a _target_, of ",
    "callable": "settings with a _target_",
    "greater than or equal to": ">=",
    "less than or equal to": "<=",
    "greater than": ">",
    "Input should be ": "",
    "'": "",
}


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
        raise UserError(_describe(error, schema, values)) from None
    fields = list(schema.model_fields)
    # nodes of groups come after the model, which says their numbers; the trainer holds other nodes
    for key in sorted(values, key=lambda key: (key == "trainer", key not in fields)):
        value = values[key]
        is_node = isinstance(value, Mapping) and "_target_" in value
        if key not in fields and not is_node:
            raise unknown_key(key, fields)
        if is_node:
            _validate_node(key, value)
    return settings


def _validate_node(path: str, node: Mapping[str, Any]) -> None:
    """Hold a node against the signature of what it names."""
    target = _target(path, node["_target_"])
    partial = check_type(f"{path}._partial_", node.get("_partial_", False), bool)
    try:
        signature = inspect.signature(target)
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (TypeError, ValueError, NameError):
        raise UserError(f"{path}._target_={node['_target_']}: takes no settings") from None
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        parameters.append(parameter.name)
        given = partial or parameter.name in (*node, *GIVEN_LATER)
        if not given and parameter.default is parameter.empty:
            raise UserError(f"{path}.{parameter.name}: must be given")
    for key, value in node.items():
        if key in ("_target_", "_partial_"):
            continue
        if key not in parameters:
            raise unknown_key(f"{path}.{key}", [f"{path}.{name}" for name in parameters])
        if isinstance(value, Mapping) and "_target_" in value:
            _validate_node(f"{path}.{key}", value)
        elif key in hints:
            check_type(f"{path}.{key}", value, hints[key])


def _target(path: str, name: Any) -> Callable[..., Any]:
    """The class or function of a name. Raises UserError where it is neither."""
    try:
        target = TypeAdapter(ImportString).validate_python(name)
    except ValidationError:
        target = None
    if not (inspect.isclass(target) or inspect.isroutine(target)):
        shown = format_setting(name)
        raise UserError(f"{path}._target_={shown}: no such class or function")
    return target


def check_type(key: str, value: Any, hint: Any) -> Any:
    """Raise UserError unless a value is of a type; of a class that is not plain, an instance."""
    try:
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a type that has a configuration of its own
        adapter = TypeAdapter(hint)
    lax = isinstance(value, list)  # a list for a tuple
    try:
        return adapter.validate_python(tuple(value) if lax else value, strict=not lax)
    except ValidationError as error:
        reasons = _reasons(error.errors())
        raise UserError(f"{key}={format_setting(value)}: must be {reasons}") from None


def _describe(error: ValidationError, schema: type[BaseModel], values: Mapping[str, Any]) -> str:
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
    place = errors[0]["loc"][:depth]
    same = [each for each in errors if each["loc"][:depth] == place]
    null = " or null" if key in schema.model_fields and _takes_null(schema, key) else ""
    return f"{key}={format_setting(node)}: must be {_reasons(same)}{null}"


def _takes_null(schema: type[BaseModel], key: str) -> bool:
    return type(None) in typing.get_args(schema.model_fields[key].annotation)


def _reasons(errors: Sequence[Mapping[str, Any]]) -> str:
    """What a value must be: the branches of a union, in the terms of the command line."""
    reasons = []
    for each in errors:
        reason = each["msg"].partition(", unable to")[0].partition(", got")[0].partition(", not")[0]
        for theirs, ours in WORDS.items():
            reason = reason.replace(theirs, ours)
        reasons.append(reason)
    return " or ".join(dict.fromkeys(reasons))
