"""docs/RELIABILITY.md, from what the soak tests found."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from genmodels import files

PAGE = Path(__file__).parent.parent / "docs/RELIABILITY.md"


@dataclass(frozen=True)
class Campaign:
    """Attempts of one kind.

    Arguments:
    title: what was done.
    outcomes: how it ended -> how often.
    slowest: seconds of the longest one.
    """

    title: str
    outcomes: Counter[str]
    slowest: float


def keep(config: pytest.Config, name: str, campaign: Campaign) -> None:
    """Keep what a test found, for the page that is written when all have ended."""
    folder = config.cache.mkdir("reliability")  # type: ignore[union-attr]
    files.write_json(folder / f"{name}.json", asdict(campaign))
