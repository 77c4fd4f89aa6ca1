"""The verdict on a model."""

from dataclasses import dataclass

HEALTHY = "healthy"


@dataclass(frozen=True)
class Verdict:
    """A label, and the reasons and remedies as sentences with their numbers."""

    label: str
    sentences: list[str]
