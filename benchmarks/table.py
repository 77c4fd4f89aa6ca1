"""How fast this project trains here: one table, from one command.

    python benchmarks/table.py

Each loop is measured in a process of its own, and all take turns, so that a noisy machine is
equally noisy to all: ratios to the tutorial loop of the same model count. The share of the peak is
that of the matrix products and convolutions of a step, as torch counts them, in what the machine
reaches in a product of two large matrices of the same precision.
"""

import argparse
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import conv_vae
import dcgan
import mlp_vae
import torch
from commands import TORCHRUN, seconds_of_sweep, seconds_per_step
from measure import PRECISIONS, Measurement, format_spread, in_new_process, peak_flops

from genmodels import hardware

Loop = Callable[[], Measurement]
ROUNDS = 5
SWEEP = ["model=vae_mlp", "kl_weight=0,0.3,1,3", "seed=0,1", "max_steps=300", "figures=[]"]
DATA_PARALLEL = ["model=vae", "prior=standard_normal", "max_steps=60", "batch_size=256"]


def loops() -> Mapping[str, tuple[Callable[..., Measurement], Mapping[str, partial]]]:
    """Model -> the tutorial's loop, and the project's by their names."""
    precisions = ["fp32", "bf16"]
    if hardware.choose_precision("auto", torch.device("cpu")) == "fp32":
        precisions.remove("bf16")  # emulated
    table: dict[str, tuple[Callable[..., Measurement], Mapping[str, partial]]] = {}
    for name, module, steps in (("MLP VAE", mlp_vae, 300), ("conv VAE", conv_vae, 40)):
        ours = {}
        for precision in precisions:
            ours[precision] = partial(module.measure_ours, False, precision, steps)
            ours[f"{precision}, binarised"] = partial(module.measure_ours, True, precision, steps)
        table[name] = partial(module.measure_tutorial, steps), ours
    ours = {precision: partial(dcgan.measure_ours, precision, 12) for precision in precisions}
    table["DCGAN 64x64"] = partial(dcgan.measure_tutorial, 12), ours
    return table


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"median (smallest to largest) of {rounds} rounds\n")
    print("| model | images/s | times the tutorial loop | share of the peak | memory, MB |")
    print("|---|---|---|---|---|")
    for name, (tutorial, ours) in loops().items():
        compare_loops(name, tutorial, ours, rounds)
    print("\n| command | seconds | ratio |\n|---|---|---|")
    compare_commands(rounds)


def compare_loops(name: str, tutorial: Loop, ours: Mapping[str, Loop], rounds: int) -> None:
    """Print a row for the tutorial's loop, and one for each of the project's."""
    rates: list[float] = []
    measured: dict[str, list[Measurement]] = {kind: [] for kind in ours}
    shares: dict[str, list[float]] = {kind: [] for kind in ours}
    for _ in range(rounds):
        rates.append(in_new_process(tutorial).images_per_second)
        peaks = {name: in_new_process(peak_flops, name) for name in PRECISIONS}
        for kind, loop in ours.items():
            measurement = in_new_process(loop)
            precision = kind.partition(",")[0]
            measured[kind].append(measurement)
            shares[kind].append(100 * measurement.flops_per_second / peaks[precision])
    print(f"| {name}, tutorial | {statistics.median(rates):,.0f} | 1 | | |")
    for kind, results in measured.items():
        speeds = [result.images_per_second for result in results]
        ratios = [ours / tutorials for ours, tutorials in zip(speeds, rates, strict=True)]
        memory = max(result.peak_memory for result in results) / 2**20
        print(
            f"| {name}, {kind} | {statistics.median(speeds):,.0f} | {format_spread(ratios)} "
            f"| {statistics.median(shares[kind]):.0f} % | {memory:.0f} |"
        )


def compare_commands(rounds: int) -> None:
    """Print what two processes bring to a run, and jobs side by side to a sweep."""
    pairs: dict[str, tuple[Callable[[], float], Callable[[], float]]] = {
        "a step by two processes; by one with two threads": (
            partial(seconds_per_step, DATA_PARALLEL, TORCHRUN),
            partial(seconds_per_step, [*DATA_PARALLEL, "threads=2"]),
        ),
        "a sweep of 8, two jobs at once; one after another": (
            partial(seconds_of_sweep, [*SWEEP, "hydra/launcher=joblib"]),
            partial(seconds_of_sweep, SWEEP),
        ),
    }
    for name, (first, second) in pairs.items():
        times = [(first(), second()) for _ in range(rounds)]
        ratios = [one / other for one, other in times]
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        seconds = "; ".join(f"{median:.3g}" for median in medians)
        print(f"| {name} | {seconds} | {format_spread(ratios)} |")


def processor() -> str:
    """The name of the processor, as far as Linux says it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


if __name__ == "__main__":
    main()
