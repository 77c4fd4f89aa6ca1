"""What a run knows besides its settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """Where a run goes, and which choices of groups made its configuration."""

    folder: Path
    choices: Mapping[str, str]  # of the groups, such as {"model": "vae"}
    sweep: str | None = None  # the name of the sweep that it belongs to
