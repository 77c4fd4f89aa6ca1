"""The form of every refusal: which value, what it is, what is legal, and what was perhaps meant."""

import difflib
from collections.abc import Iterable, Sequence


class TooFewError(ValueError):
    """There are too few images for what is asked of them."""


def require(legal: bool, name: str, value: object, constraint: str) -> None:
    """Raise ValueError("<name>=<value>: must be <constraint>") unless the value is legal."""
    if not legal:
        raise ValueError(f"{name}={value}: must be {constraint}")


def require_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError, naming the choices, unless the value is one of them."""
    require(value in choices, name, value, f"one of {', '.join(choices)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is spelt most like this one, in any case; "" where none is near."""
    by_letters = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), list(by_letters), n=1)
    return by_letters[matches[0]] if matches else ""


def did_you_mean(near: str) -> str:
    """ ". Did you mean <near>?", or "" for ""."""
    return f". Did you mean {near}?" if near else ""
