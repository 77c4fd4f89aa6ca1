"""docs/RELIABILITY.md, from what the soak tests found."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch

from genmodels import files, hardware
from genmodels.run_folder import git_commit

HEAD = """# What was tried to break it

This page is written by `uv run pytest -m soak` (half an hour on two idle cores), which fails, and
leaves the page as it is, where a single attempt ends otherwise than the page says.

In the attempts on files and settings, hypothesis changes up to three places of what this project
itself wrote, or types settings that nobody would. An attempt must end in 20 seconds, by a result or
by one message that names the file or the setting. It must not need 2 GB of memory, change any file
outside of its folder, or start a program.

In the attempts by `kill -9`, a command is killed at a random moment and given again, four times.
Then it must end, and leave the weights, optimizer states, rows and metrics of one that was never
killed, bit for bit. In between, no run may lose a step that it had saved.

| attempt | ended | longest |
|---|---|---|
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
    """

    title: str
    outcomes: dict[str, int]
    slowest: float


def keep(config: pytest.Config, name: str, campaign: Campaign) -> None:
    """Keep what a test found, for the page that is written when all have ended."""
    found = asdict(campaign) | {"commit": git_commit()}
    files.write_json(_folder(config) / f"{name}.json", found)


def write_page(config: pytest.Config) -> None:
    """Write PAGE where all ATTEMPTS were made at this commit, in this session or in several."""
    campaigns = []
    for name in ATTEMPTS:
        found = files.read_json(_folder(config) / f"{name}.json")
        if found.pop("commit", None) != git_commit():
            return
        campaigns.append(Campaign(**found))
    files.write_text(PAGE, _page(campaigns))


def _folder(config: pytest.Config) -> Path:
    return config.cache.mkdir("reliability")  # type: ignore[union-attr]


def _page(campaigns: Sequence[Campaign]) -> str:
    rows = []
    for campaign in campaigns:
        outcomes = [f"{count:,} {outcome}" for outcome, count in campaign.outcomes.items()]
        rows.append(f"| {campaign.title} | {'; '.join(outcomes)} | {campaign.slowest:.1f} s |")
    versions = f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}"
    versions += f", commit {git_commit()}"
    machine = f"{versions}, {hardware.cores()} cores, {platform.system()}."
    return HEAD + "\n".join(rows) + f"\n\n{machine}\n"
