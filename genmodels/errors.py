"""The form that every refusal has: which value, what it is, what is legal, and what was perhaps meant."""

import difflib
from collections.abc import Iterable


class TooFewError(ValueError):
    """There are too few images for what is asked of them."""


def require(legal: bool, name: str, value: object, words: str) -> None:
    """Raise ValueError("<name>=<value>: must be <words>") unless the value is legal."""
    if not legal:
        raise ValueError(f"{name}={value}: must be {words}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is spelt most like this one, "" where none is near."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")


def did_you_mean(near: str) -> str:
    """ ". Did you mean <near>?", or "" for ""."""
    return f". Did you mean {near}?" if near else ""
