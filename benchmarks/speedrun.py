"""How soon a VAE of MNIST is good: experiment=speedrun_mnist against the usual tutorial loop.

    python benchmarks/speedrun.py dataset.root=DIR

The seconds until the ELBO of the validation images, black and white, reaches -105 and -95 nats,
without those of evaluations. The tutorial loop is that of mlp_vae.py (784-400-20 on gray images,
Adam at 0.001), evaluated after each epoch; ours evaluates every 50 steps. They take turns, seed by
seed.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from commands import train
from measure import BATCH_SIZE, format_spread
from mlp_vae import TutorialVAE, mnist_of
from torch.utils.data import DataLoader

from genmodels.data.datasets import mnist
from genmodels.data.images import ImageData, binarise
from genmodels.run_files import read_rows

GOALS = (-105.0, -95.0)
MAX_EPOCHS = 40  # of the tutorial loop
SEEDS = (0, 1, 2)


@torch.no_grad()
def elbo_of(model: TutorialVAE, data: ImageData) -> float:
    """Of the validation images."""
    torch.manual_seed(0)
    losses = [model(binarise(batch.images)).item() for batch in data.validation.batches(500)]
    return -sum(losses) / len(data.validation)


def seconds_of_tutorial(data: ImageData, root: Path, seed: int, goal: float) -> float:
    """Until the tutorial loop reaches the goal; infinite where MAX_EPOCHS do not."""
    torch.manual_seed(seed)
    dataset = mnist_of(data.train.images.index_select(0, data.train.rows), root)
    loader: DataLoader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True)
    model = TutorialVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds = 0.0
    for _ in range(MAX_EPOCHS):
        start = time.perf_counter()
        for images, _ in loader:
            optimizer.zero_grad()
            loss = model(images)
            loss.backward()
            optimizer.step()
        seconds += time.perf_counter() - start
        if elbo_of(model, data) >= goal:
            return seconds
    return float("inf")


def seconds_of_ours(folder: Path, overrides: list[str], seed: int) -> dict[float, float]:
    """Until a run reaches each goal: steps at its speed, which leaves evaluations out."""
    run = folder / f"seed{seed}"
    train(["experiment=speedrun_mnist", f"seed={seed}", *overrides, f"hydra.run.dir={run}"])
    rows = read_rows(run)
    speeds = [row["time"]["images_per_second"] for row in rows if "train" in row]
    seconds = BATCH_SIZE / sorted(speeds)[len(speeds) // 2]
    reached = {}
    for goal in GOALS:
        steps = [
            row["step"] for row in rows if "validation" in row and row["validation"]["elbo"] >= goal
        ]
        reached[goal] = min(steps) * seconds if steps else float("inf")
    return reached


def main() -> None:
    """Print the times, seed by seed, and their ratio."""
    overrides = sys.argv[1:]
    root = dict(text.split("=", 1) for text in overrides).get("dataset.root", "data")
    data = mnist(root=root, download=True, keep_raw=False, cache="data/cache").load()
    ratios = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as name:
            tutorial = seconds_of_tutorial(data, Path(name), seed, GOALS[0])
            ours = seconds_of_ours(Path(name), overrides, seed)
        ratios.append(tutorial / ours[GOALS[0]])
        times = ", ".join(f"{seconds:.1f} s to {goal:.0f}" for goal, seconds in ours.items())
        print(f"seed {seed}: tutorial loop {tutorial:.0f} s to {GOALS[0]:.0f}; genmodels {times}")
    print(f"{format_spread(ratios, 1)} times as soon at {GOALS[0]:.0f}")


if __name__ == "__main__":
    main()
