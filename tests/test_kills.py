"""kill -9 at random moments, again and again: every run ends as one that was never stopped.

`pytest -m soak` kills 200 times, and tells of it in docs/RELIABILITY.md.
"""

import os
import random
import runpy
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run
from reliability import Campaign, keep

import genmodels.training  # noqa: F401 (so that the processes to kill need not import it)
from genmodels import checkpoint
from genmodels.report.write import write  # noqa: F401
from genmodels.run_files import SUMMARY, read_summary

KILLS = {"vae": 80, "gan": 80, "sweep": 40}
TITLES = {
    "vae": "`kill -9` of `train.py model=vae_mlp prior=flow`",
    "gan": "`kill -9` of `train.py model=gan`",
    "sweep": "`kill -9` of `train.py -m` with four runs",
}
LONG = ["max_steps=200", "evaluate_every=50", "checkpoint_every=9", "batch_size=16"]
COMMANDS = {
    "vae": ["model=vae_mlp", "model.widths=[16]", "prior=flow", *LONG],
    "gan": ["model=gan", "model.generator_width=4", "model.discriminator_width=4", *LONG],
    "sweep": ["-m", "model=vae_mlp", "model.widths=[16]", "kl_weight=0,1", "seed=0,1", *LONG],
}


def start(arguments: Sequence[str], log: Path) -> int:
    """`python train.py` with these arguments in a process of its own; returns its id.

    A fork of this one, which has imported everything: a start takes no seconds.
    """
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        with open(log, "a", buffering=1) as file:
            sys.stdout = sys.stderr = file
            sys.argv = [str(ROOT / "train.py"), *arguments]
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    finally:
        os._exit(status)


def finish(process: int) -> int:
    """Wait for a process; returns its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def kill_after(process: int, seconds: float) -> bool:
    """Kill a process after so long; returns whether it was still running."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)  # it has not been waited for: the number is still its own
    return finish(process) == -signal.SIGKILL


def runs_in(folder: Path) -> dict[str, Path]:
    """The run folders of a run or of a sweep, by name."""
    paths = [*folder.glob(SUMMARY), *folder.glob(f"*/{SUMMARY}")]
    return {path.parent.name: path.parent for path in paths}


def steps_in(folder: Path) -> dict[str, int]:
    """How far each run can go on from: none may need a checkpoint that is not whole."""
    steps = {}
    for name, run in runs_in(folder).items():
        newest = checkpoint.latest(run)
        steps[name] = newest.step if newest is not None else 0
    return steps


def attack(kind: str, kills: int, tmp_path: Path, cache: Path) -> Campaign:
    """Kill a command so many times, begin anew where it has ended, and compare each end.

    Raises AssertionError where a run loses what it had saved, or ends otherwise.
    """
    moments, log = random.Random(0), tmp_path / "log"
    whole, killed = tmp_path / "whole" / kind, tmp_path / "killed" / kind
    where = "hydra.sweep.dir" if kind == "sweep" else "hydra.run.dir"

    def command(folder: Path) -> list[str]:
        return [
            *COMMANDS[kind],
            "figures=[samples]",
            f"dataset.cache='{cache}'",
            f"{where}='{folder}'",
        ]

    begin = time.monotonic()
    assert finish(start(command(whole), log)) == 0, log.read_text()
    duration = time.monotonic() - begin
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    while outcomes["killed"] < kills:
        before = steps_in(killed)
        process = start(command(killed), log)
        stopped = kill_after(process, moments.uniform(0, duration))
        outcomes["killed"] += stopped
        after = steps_in(killed)
        assert all(after[name] >= before[name] for name in before), (before, after)
        if not stopped or outcomes["killed"] % 4 == 0 or outcomes["killed"] == kills:
            begin = time.monotonic()
            assert finish(start(command(killed), log)) == 0, log.read_text()
            slowest = max(slowest, time.monotonic() - begin)
            outcomes["runs that ended as if never stopped"] += compare(whole, killed)
            shutil.rmtree(killed)
    return Campaign(TITLES[kind], dict(outcomes), slowest)


def compare(whole: Path, killed: Path) -> int:
    """How many runs there are, each of which must be the same in both folders."""
    expected, found = runs_in(whole), runs_in(killed)
    assert expected.keys() == found.keys()
    for name, run in found.items():
        assert read_summary(run)["status"] == "finished"
        assert_same_run(expected[name], run)
        assert not list(run.glob("**/*.tmp"))
    return len(found)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> Callable[..., Campaign]:
    """`attack` from a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return lambda kind, kills: attack(kind, kills, tmp_path, cache)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae", "gan"])
def test_killed_a_few_times(kind: str, alone: Callable[..., Campaign]) -> None:
    campaign = alone(kind, 4)
    assert campaign.outcomes["killed"] == 4
    assert campaign.outcomes["runs that ended as if never stopped"] >= 1


@pytest.mark.soak
@pytest.mark.parametrize("kind", KILLS)
def test_killed_again_and_again(
    kind: str, alone: Callable[..., Campaign], request: pytest.FixtureRequest
) -> None:
    keep(request.config, f"kills_{kind}", alone(kind, KILLS[kind]))
