"""What threads that wait for each other cost where other processes compute: ms of a training step.

    python benchmarks/threads.py

Each run of train.py is a process of its own, since OpenMP reads its settings when torch is loaded.
They take turns: each round tries every setting, alone and beside processes that compute without
end, up to one for each core. By default threads spin for a while before they sleep; with
GOMP_SPINCOUNT they sleep sooner.
"""

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from genmodels import hardware
from genmodels.run_files import read_rows

ROOT = Path(__file__).parents[1]
STEPS = 40
SKIPPED = 5  # steps in which memory is first allocated
SLEEP_SOONER = {"GOMP_SPINCOUNT": "10000"}
ALL, ONE, CHOSEN = f"threads={hardware.cores()}", "threads=1", "threads=null"
SETTINGS = {
    ALL: (ALL, {}),
    f"{ALL}, which sleep sooner": (ALL, SLEEP_SOONER),
    ONE: (ONE, {}),
    CHOSEN: (CHOSEN, {}),
}


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute without end."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def milliseconds(model: str, threads: str, variables: dict[str, str]) -> float:
    """Of a training step of a model on the digits, with these environment variables."""
    environment = os.environ | variables
    environment.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        arguments = [f"model={model}", threads, f"max_steps={STEPS}", "figures=[]"]
        subprocess.run(
            [sys.executable, ROOT / "train.py", *arguments, f"hydra.run.dir={run}"],
            check=True,
            capture_output=True,
            env=environment,
        )
        rows = [row for row in read_rows(run) if "train" in row]
    first, last = rows[SKIPPED], rows[-1]
    seconds = last["time"]["seconds"] - first["time"]["seconds"]
    return 1000 * seconds / (last["step"] - first["step"])


def main() -> None:
    """Print a row for each model and load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["vae_mlp", "vae", "gan"])
    arguments = parser.parse_args()
    loads = sorted({0, 1, hardware.cores()})
    cases = list(itertools.product(arguments.models, loads))
    measured: dict[tuple, list[float]] = {}
    for _, (model, busy) in itertools.product(range(arguments.rounds), cases):
        with busy_processes(busy):
            for name, (threads, variables) in SETTINGS.items():
                times = measured.setdefault((model, busy, name), [])
                times.append(milliseconds(model, threads, variables))
    print(f"| ms per step, median of {arguments.rounds} | busy | {' | '.join(SETTINGS)} |")
    print("|---|---|" + "---|" * len(SETTINGS))
    for model, busy in cases:
        cells = [format_times(measured[model, busy, name]) for name in SETTINGS]
        print(f"| {model} | {busy} | {' | '.join(cells)} |")


def format_times(times: Sequence[float]) -> str:
    """The median, and the smallest and largest."""
    return f"{statistics.median(times):.0f} ({min(times):.0f} to {max(times):.0f})"


if __name__ == "__main__":
    main()
