"""Functions that a user can ask for by name, such as figures and metrics, and which suit a model.

What a function can be asked of is the annotated type of its first argument.
"""

import inspect
import logging
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from torch import nn

from genmodels.errors import did_you_mean, nearest

log = logging.getLogger(__name__)

RESOURCES = {
    "data": "the data",
    "history": "what a run keeps in its folder as it trains",
    "labels": "labels of the images",
    "classifier": "a reference classifier of these data",
    "features": "features of images",
}


class UnsuitedError(ValueError):
    """A model is of the right type, but has a part that a function cannot work with."""


@dataclass(frozen=True)
class Spec:
    """A registered function, and what it needs besides a model of the type that it takes."""

    call: Callable[..., Any]
    conditional: bool = False  # only for models that know classes
    data: bool | Callable[[Any], bool] = False  # the test images; it may depend on the model
    optional_data: bool = False  # the test images if they are there
    history: bool = False  # what the run kept in its folder
    labels: bool = False  # data with labels
    classifier: bool = False  # a reference classifier, trained on the same data
    features: bool = False  # a feature space
    slow: bool = False  # only called when asked for

    @property
    def model_type(self) -> Any:
        """The annotated type of the first argument: a class, or a union of classes."""
        first = next(iter(inspect.signature(self.call).parameters))
        return typing.get_type_hints(self.call)[first]

    def suits(self, model: nn.Module) -> bool:
        """Whether the function can be asked of this model."""
        if not isinstance(model, self.model_type):
            return False
        return not self.conditional or getattr(model, "num_classes", 0) > 0

    def bound_to(self, model: nn.Module) -> "Spec":
        """The same entry, with what it needs for this very model."""
        return replace(self, data=self.data(model)) if callable(self.data) else self


Registry = Mapping[str, Spec]
Names = (
    Sequence[str] | str | None
)  # what a user asks for: some names, "all", or None for the quick ones


def select(
    kind: str,
    asked: Names,
    registry: Registry,
    model: nn.Module,
    renamed: Mapping[str, str] | None = None,
) -> dict[str, Spec]:
    """The entries of a registry for a model.

    Arguments:
    kind: the setting's name, for messages, such as "figures".
    asked: some names; "all" that suit the model; None for those of them that are not slow.
    registry: all entries.
    model: which they are asked of.
    renamed: former names, with what they are called now.

    Raises ValueError for a name that does not exist, or does not suit the model.
    """
    suited = {name: spec.bound_to(model) for name, spec in registry.items() if spec.suits(model)}
    if asked is None or asked == "all":
        return {name: spec for name, spec in suited.items() if asked == "all" or not spec.slow}
    for name in asked:
        if name in (renamed or {}):
            raise ValueError(f"{kind}: {name} is called {(renamed or {})[name]} now")
        if name not in registry:
            hint = did_you_mean(nearest(name, registry))
            raise ValueError(f"{kind}: {name} is none of {', '.join(registry)}{hint}")
        if name not in suited:
            raise ValueError(
                f"{kind}: {name} cannot be had from a {type(model).__name__}, which can give "
                f"{', '.join(suited)}"
            )
    return {name: suited[name] for name in asked}


class Selection:
    """What is asked for of each registry, as far as the model allows it.

    An entry that turns out to lack something is skipped with one line; asked for by name of a
    single model, it is refused.
    """

    def __init__(
        self, model: nn.Module, *, alone: bool, **kinds: tuple[Names, Registry, Mapping[str, str]]
    ) -> None:
        """Arguments:
        model: which the entries are asked of.
        alone: whether it is the only one; of several each gives what it can.
        kinds: for each kind what was asked for, all its entries, and former names.

        Raises ValueError as `select` does.
        """
        self._alone = alone
        self._asked: dict[str, Names] = {}
        self._chosen: dict[str, dict[str, Spec]] = {}
        for kind, (asked, registry, renamed) in kinds.items():
            self._asked[kind] = asked
            if not alone and _is_by_name(asked):
                asked = [name for name in asked if not self._is_unsuited(name, registry, model)]
            self._chosen[kind] = select(kind, asked, registry, model, renamed)

    def __getitem__(self, kind: str) -> dict[str, Spec]:
        return self._chosen[kind]

    def needs(self, resource: str) -> bool:
        """Whether any chosen entry needs one of RESOURCES."""
        for specs in self._chosen.values():
            if any(getattr(spec, resource) for spec in specs.values()):
                return True
        return False

    def skip(self, resource: str, reason: str) -> None:
        """Do without the entries that need a resource, which is not there for this reason.

        Raises ValueError where such an entry was asked for by name.
        """
        for kind, specs in self._chosen.items():
            lacking = [name for name, spec in specs.items() if getattr(spec, resource)]
            if not lacking:
                continue
            names, asked = ", ".join(lacking), self._asked[kind]
            if self._alone and _is_by_name(asked):
                raise ValueError(f"{kind}: {names} needs {RESOURCES[resource]}, but {reason}")
            log.info("skipped %s %s: %s", kind, names, reason)
            self._chosen[kind] = {name: specs[name] for name in specs if name not in lacking}

    def _is_unsuited(self, name: str, registry: Registry, model: nn.Module) -> bool:
        """Whether an entry does not suit the model, which is then logged."""
        unsuited = name in registry and not registry[name].suits(model)
        if unsuited:
            log.info("skipped %s: cannot be had from a %s", name, type(model).__name__)
        return unsuited


def _is_by_name(asked: Names) -> TypeGuard[Sequence[str]]:
    return asked is not None and asked != "all"
