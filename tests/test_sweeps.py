"""Sweeps by the real command: killed in the middle and repeated, and jobs side by side."""

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

SWEEP = [sys.executable, str(ROOT / "train.py"), "-m", *SMALL, "max_steps=60", "evaluate_every=10", "seed=0,1,2"]


def command(folder: Path, cache: Path, *overrides: str) -> list[str]:
    return [*SWEEP, f"hydra.sweep.dir={folder}", f"dataset.cache={cache}", *overrides]


def table(folder: Path) -> list[dict[str, str]]:
    """report.csv without what the clock says."""
    with open(folder / "report.csv", newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_killed_sweep_ends_as_one_that_was_not(tmp_path: Path, cache: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, cache), check=True, capture_output=True)
    with open(tmp_path / "log", "w") as log, subprocess.Popen(command(killed, cache), stdout=log, stderr=log) as sweep:
        deadline = time.monotonic() + 120
        while len(list(killed.glob("*/checkpoint.pt"))) < 3:        # in the third job, after its first evaluation
            assert sweep.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.02)
        sweep.kill()
    assert not (killed / "report.csv").exists()
    done = subprocess.run(command(killed, cache), check=True, capture_output=True, text=True)
    assert done.stdout.count("is finished; overwrite=true starts over") >= 2
    assert table(killed) == table(whole) and len(table(whole)) == 3
    assert {row["status"] for row in table(killed)} == {"finished"}
