"""Whole commands: a sweep of eight runs, and one run by two processes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from genmodels.run_files import read_rows

ROOT = Path(__file__).parents[1]
SKIPPED = 5  # steps in which memory is first allocated
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")


def seconds_per_step(
    arguments: Sequence[str],
    launcher: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> float:
    """Of a run of train.py that logs every step.

    Arguments:
    arguments: of train.py.
    launcher: arguments of Python that start train.py, such as TORCHRUN.
    variables: of the environment.
    """
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        train([*arguments, "figures=[]", f"hydra.run.dir={run}"], launcher, variables)
        rows = [row for row in read_rows(run) if "train" in row]
    first, last = rows[SKIPPED], rows[-1]
    seconds = last["time"]["seconds"] - first["time"]["seconds"]
    return seconds / (last["step"] - first["step"])


def seconds_of_sweep(arguments: Sequence[str]) -> float:
    """Of a sweep, from the command to its report."""
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        train(["-m", *arguments, f"hydra.sweep.dir={name}/sweep"])
        return time.perf_counter() - start


def train(
    arguments: Sequence[str],
    launcher: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run train.py; the arguments are those of `seconds_per_step`."""
    environment = os.environ | (variables or {})
    if not launcher:
        environment.pop("OMP_NUM_THREADS", None)
    subprocess.run(
        [sys.executable, *launcher, ROOT / "train.py", *arguments],
        check=True,
        capture_output=True,
        env=environment,
    )
