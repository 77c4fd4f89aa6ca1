"""Images per second of this project's loop and of the usual tutorial loop.

    python benchmarks/throughput.py

The same model (fully connected, 784-400-20, batch 128) on the same gray images. The tutorial loop
is what most VAE examples do: torchvision's MNIST with ToTensor on one PIL image at a time, a
DataLoader, Adam. Ours is `fit` as train.py calls it, with gradient clipping, averaged weights, a
learning rate schedule and metrics.jsonl; once without and once with dynamic binarisation, the
default of train.py, which the tutorial loop lacks. The loops take turns, so a noisy machine is
equally noisy to each; the ratio is what counts.
"""

import argparse
import statistics
import struct
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from genmodels.checkpoint import CheckpointWriter
from genmodels.data.images import BatchStream, ImageData, ImageSet, ImageSpec
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.objectives import ELBO
from genmodels.models.vae import MLPVAE
from genmodels.run_files import read_rows
from genmodels.run_folder import Run
from genmodels.schedules import Linear, WarmupCosine
from genmodels.trainers.loop import Cadence, Trainer, fit
from genmodels.trainers.updater import Updater
from genmodels.trainers.vae import VAETrainer

BATCH_SIZE = 128


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array in MNIST's idx format: magic 0 0 8 (uint8) ndim, big-endian sizes, values."""
    magic = struct.pack(">BBBB", 0, 0, 8, array.ndim)
    sizes = struct.pack(f">{array.ndim}i", *array.shape)
    path.write_bytes(magic + sizes + array.tobytes())


def mnist_of(images: Tensor, root: Path) -> MNIST:
    """torchvision's own MNIST class, as tutorials use it, over images (N, 1, 28, 28) uint8."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):  # it asks for the test files too
        write_idx(raw / f"{split}-images-idx3-ubyte", images.squeeze(1).numpy())
        write_idx(raw / f"{split}-labels-idx1-ubyte", images[:, 0, 0, 0].numpy())
    return MNIST(str(root), train=True, transform=ToTensor())


class TutorialVAE(nn.Module):
    """The VAE of pytorch/examples in outline: 784-400-20."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 400)
        self.mean = nn.Linear(400, 20)
        self.log_variance = nn.Linear(400, 20)
        self.fc3 = nn.Linear(20, 400)
        self.fc4 = nn.Linear(400, 784)

    def loss(self, images: Tensor) -> Tensor:
        """Minus the ELBO of images (B, 1, 28, 28), summed over the batch."""
        images = images.view(-1, 784)
        hidden = F.relu(self.fc1(images))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        reconstruction = torch.sigmoid(self.fc4(F.relu(self.fc3(z))))
        distortion = F.binary_cross_entropy(reconstruction, images, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_variance - mean.square() - log_variance.exp())
        return distortion + kl


def tutorial_rate(dataset: MNIST, steps: int) -> float:
    """Images per second of the tutorial loop, which adds up its loss at every step."""
    model = TutorialVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader: DataLoader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    done, total, start = 0, 0.0, time.perf_counter()
    while done < steps:
        for batch, _ in loader:
            optimizer.zero_grad()
            loss = model.loss(batch)
            loss.backward()
            optimizer.step()
            total += loss.item()
            done += 1
            if done == steps:
                break
    return steps * BATCH_SIZE / (time.perf_counter() - start)


def our_rate(images: Tensor, steps: int, binarise: bool) -> float:
    """Images per second of `fit` with the same model."""
    model = MLPVAE(
        image_shape=(1, 28, 28), latent_dim=20, widths=[400], likelihood=BernoulliLikelihood()
    )
    updater = partial(
        Updater,
        optimizer=partial(torch.optim.AdamW, betas=(0.9, 0.99), weight_decay=0.01),
        lr=1e-3,
        lr_schedule=WarmupCosine(warmup_steps=200),
        clip_norm=200.0,
        ema_images=50_000,
        batch_size=BATCH_SIZE,
        precision="fp32",
    )
    trainer = VAETrainer(
        model,
        updater=updater,
        objective=ELBO(),
        kl_weight=1.0,
        kl_schedule=Linear(warmup=0.1),
        binarise=binarise,
    )
    return rate_of_fit(trainer, images, steps, log_every=10)


def rate_of_fit(trainer: Trainer, images: Tensor, steps: int, log_every: int) -> float:
    """Images per second of `fit`, between its first and its last row of training terms.

    Arguments:
    trainer: of any model.
    images: (N, C, H, W) uint8, to train on.
    steps: of the run.
    log_every: steps from one row to the next.
    """
    train = ImageSet(images, torch.full((len(images),), -1), torch.arange(len(images)))
    few = ImageSet(images, train.labels, torch.arange(min(500, len(images))))
    _, channels, height, width = images.shape
    spec = ImageSpec("benchmark", (channels, height, width))
    data = ImageData(spec, train=train, validation=few, test=few)
    stream = BatchStream(train, BATCH_SIZE, seed=0)
    cadence = Cadence(total=steps, log=log_every, evaluate=steps, checkpoint=steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Run(folder) as run:
            fit(trainer, stream, data, run, CheckpointWriter(folder, {}, {}), cadence)
        rows = [row for row in read_rows(folder) if "train" in row]
    first, last = rows[0], rows[-1]
    seconds = last["time"]["seconds"] - first["time"]["seconds"]
    return (last["step"] - first["step"]) * BATCH_SIZE / seconds


def summarise(name: str, ratios: Sequence[float]) -> str:
    """The median of some ratios to the tutorial loop, and their range."""
    return (
        f"{name}: {statistics.median(ratios):.2f} times the tutorial loop (median), "
        f"{min(ratios):.2f} to {max(ratios):.2f}, n = {len(ratios)}, "
        f"{torch.get_num_threads()} threads"
    )


def parse_arguments(description: str | None, steps: int) -> argparse.Namespace:
    """The number of rounds, and the steps of each."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=steps)
    return parser.parse_args()


def main() -> None:
    """Print the rates of both loops, round by round, and the median of their ratios."""
    arguments = parse_arguments(__doc__, steps=300)
    images = torch.randint(0, 256, (20_000, 1, 28, 28), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as root:
        dataset = mnist_of(images, Path(root))
    tutorial_rate(dataset, 20)  # warm-up: imports, allocators
    our_rate(images, 20, True)
    ratios: dict[str, list[float]] = {"genmodels": [], "... binarised": []}
    for _ in range(arguments.rounds):
        tutorial = tutorial_rate(dataset, arguments.steps)
        line = f"tutorial loop {tutorial:6.0f} images/s"
        for name, binarise in zip(ratios, (False, True), strict=True):
            ours = our_rate(images, arguments.steps, binarise)
            ratios[name].append(ours / tutorial)
            line += f"   {name} {ours:6.0f} ({ours / tutorial:.2f})"
        print(line)
    for name, values in ratios.items():
        print(summarise(name, values))


if __name__ == "__main__":
    main()
