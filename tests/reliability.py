"""docs/RELIABILITY.md, from what the soak tests found."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
import torch

from genmodels import files, hardware
from genmodels.run_folder import git_commit

HEAD = """# What was tried to break it

This page is written by `uv run pytest -m soak` (73 minutes of cores busy with other work too),
which fails, and leaves the page as it is, where an attempt ends otherwise than the page says.

In the attempts on files and settings, hypothesis changes up to three places of what this project
itself wrote, or types settings that nobody would. An attempt must end in 20 seconds, by a result or
by one message that names the file or the setting. It must not need 2 GB of memory, change any file
outside of its folder, or start a program.

In the attempts by `kill -9`, a command is killed at a random moment and given again, four times.
Then it must end, and leave the weights, optimizer states, rows and metrics of one that was never
killed, bit for bit. In between, no run may lose a step that it had saved.

| attempt | ended | longest | commit |
|---|---|---|---|
"""

PAGE = Path(__file__).parent.parent / "docs/RELIABILITY.md"


ATTEMPTS = (
    *("metadata", "states", "idx_files", "yaml_files", "report_files", "settings"),
    *("kills_vae", "kills_gan", "kills_sweep"),
)


@dataclass(frozen=True)
class Campaign:
    """Attempts of one kind.

    Arguments:
    title: what was done.
    outcomes: how it ended -> how often.
    slowest: seconds of the longest one.
    commit: of the code under test.
    """

    title: str
    outcomes: dict[str, int]
    slowest: float
    commit: str = field(default_factory=git_commit)


def keep(config: pytest.Config, name: str, campaign: Campaign) -> None:
    """Keep what a test found, for the page that is written when all have ended."""
    files.write_json(_folder(config) / f"{name}.json", asdict(campaign))


def write_page(config: pytest.Config) -> None:
    """Write PAGE where all ATTEMPTS were made, in this session or in several."""
    paths = [_folder(config) / f"{name}.json" for name in ATTEMPTS]
    if all(path.exists() for path in paths):
        files.write_text(PAGE, _page([Campaign(**files.read_json(path)) for path in paths]))


def _folder(config: pytest.Config) -> Path:
    return config.cache.mkdir("reliability")  # type: ignore[union-attr]


def _page(campaigns: Sequence[Campaign]) -> str:
    rows = []
    for campaign in campaigns:
        outcomes = [f"{count:,} {outcome}" for outcome, count in campaign.outcomes.items()]
        row = [campaign.title, "; ".join(outcomes), f"{campaign.slowest:.1f} s", campaign.commit]
        rows.append(f"| {' | '.join(row)} |")
    versions = f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}"
    machine = f"{versions}, {hardware.cores()} cores, {platform.system()}."
    return HEAD + "\n".join(rows) + f"\n\n{machine}\n"
