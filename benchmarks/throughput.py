"""Images per second of this project's loop and of the usual tutorial loop: `python benchmarks/throughput.py`.

The same model (fully connected, 784-400-20, batch 128) on the same gray images. The tutorial loop is what most VAE
examples do: torchvision's MNIST with ToTensor on one PIL image at a time, a DataLoader, Adam. Ours is `fit` as train.py
calls it, with gradient clipping, averaged weights, learning rate schedule and metrics.jsonl; and once more with dynamic
binarisation, the default of train.py, which the tutorial loop does not do. All take turns, so that a noisy machine is
equally noisy to them; the ratio is what counts.
"""

import argparse
import statistics
import struct
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.objectives import ELBO
from genmodels.models.vae import MLPVAE
from genmodels.run_files import read_rows
from genmodels.schedules import linear
from genmodels.tracking import Run
from genmodels.trainers.loop import Cadence, Trainer, fit
from genmodels.trainers.updater import Updater
from genmodels.trainers.vae import VAETrainer

BATCH_SIZE = 128


def mnist_of(images: torch.Tensor, root: Path) -> MNIST:
    """torchvision's own MNIST class, as tutorials use it, over idx files of these images (N, 1, 28, 28)."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    labels = images[:, 0, 0, 0]
    for name, values in (
        ("train-images-idx3-ubyte", images.squeeze(1)),
        ("train-labels-idx1-ubyte", labels),
    ):
        header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(
            f">{values.ndim}i", *values.shape
        )
        (raw / name).write_bytes(header + values.numpy().tobytes())
        (raw / name.replace("train", "t10k")).touch()
    return MNIST(str(root), train=True, transform=ToTensor())


class TutorialVAE(nn.Module):
    """The VAE of pytorch/examples in outline: 784-400-20."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.mean, self.log_variance = (
            nn.Linear(784, 400),
            nn.Linear(400, 20),
            nn.Linear(400, 20),
        )
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        """Minus the ELBO, summed over the batch."""
        images = images.view(-1, 784)
        hidden = F.relu(self.fc1(images))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        again = torch.sigmoid(self.fc4(F.relu(self.fc3(z))))
        return F.binary_cross_entropy(again, images, reduction="sum") - 0.5 * torch.sum(
            1 + log_variance - mean.square() - log_variance.exp()
        )


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


def our_rate(images: torch.Tensor, steps: int, binarise: bool) -> float:
    """Images per second of `fit` with the same model."""
    model = MLPVAE(
        image_shape=(1, 28, 28), latent_dim=20, widths=[400], likelihood=BernoulliLikelihood()
    )
    updater = partial(
        Updater,
        batch_size=BATCH_SIZE,
        lr=1e-3,
        warmup_steps=200,
        betas=(0.9, 0.99),
        weight_decay=0.01,
        lr_end=0.0,
        clip_norm=200.0,
        ema_images=50_000,
        precision="fp32",
    )
    trainer = VAETrainer(
        model,
        updater=updater,
        objective=ELBO(),
        kl_weight=1.0,
        kl_schedule=partial(linear, warmup=0.1),
        binarise=binarise,
    )
    return rate_of_fit(trainer, images, steps, log_every=10)


def rate_of_fit(trainer: Trainer, images: torch.Tensor, steps: int, log_every: int) -> float:
    """Images per second of `fit` on these (N, C, H, W) uint8, between its first and its last row of training terms."""
    part = ImageSet(images, torch.full((len(images),), -1), torch.arange(len(images)))
    few = ImageSet(images, part.labels, torch.arange(500))
    _, channels, height, width = images.shape
    data = ImageData(
        ImageSpec("benchmark", (channels, height, width)), train=part, validation=few, test=few
    )
    cadence = Cadence(total=steps, log=log_every, evaluate=steps, checkpoint=steps)
    with tempfile.TemporaryDirectory() as folder, Run(Path(folder)) as run:
        fit(
            trainer,
            data,
            run,
            cadence=cadence,
            batch_size=BATCH_SIZE,
            seed=0,
            model_config={},
            about={},
        )
        rows = [row for row in read_rows(Path(folder)) if "train" in row]
    first, last = rows[0], rows[-1]
    return (
        (last["step"] - first["step"])
        * BATCH_SIZE
        / (last["time"]["seconds"] - first["time"]["seconds"])
    )


def main() -> None:
    """Print the rates of both loops, round by round, and the median of their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    images = torch.randint(0, 256, (20_000, 1, 28, 28), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as root:
        dataset = mnist_of(images, Path(root))
    tutorial_rate(dataset, 20), our_rate(images, 20, True)  # warm-up: imports, allocators
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
        print(
            f"{name}: {statistics.median(values):.2f} times the tutorial loop (median), {min(values):.2f} to "
            f"{max(values):.2f}, n = {len(values)}, {torch.get_num_threads()} threads"
        )


if __name__ == "__main__":
    main()
