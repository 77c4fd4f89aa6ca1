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
import subprocess
import sys
from collections.abc import Iterator

from commands import seconds_per_step
from measure import format_spread

from genmodels import hardware

STEPS = 40
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


def main() -> None:
    """Print a row for each model and load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["vae_mlp", "vae", "gan"])
    options = parser.parse_args()
    loads = sorted({0, 1, hardware.cores()})
    cases = list(itertools.product(options.models, loads))
    measured: dict[tuple, list[float]] = {}
    for _, (model, busy) in itertools.product(range(options.rounds), cases):
        with busy_processes(busy):
            for name, (threads, variables) in SETTINGS.items():
                times = measured.setdefault((model, busy, name), [])
                arguments = [f"model={model}", threads, f"max_steps={STEPS}"]
                times.append(1000 * seconds_per_step(arguments, variables=variables))
    print(f"| ms per step, median of {options.rounds} | busy | {' | '.join(SETTINGS)} |")
    print("|---|---|" + "---|" * len(SETTINGS))
    for model, busy in cases:
        cells = [format_spread(measured[model, busy, name], 0) for name in SETTINGS]
        print(f"| {model} | {busy} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
