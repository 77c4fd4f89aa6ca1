"""Images per second of this project's loop and of the usual tutorial loop: `python benchmarks/throughput.py`.

The same model (fully connected, 784-400-20, batch 128) and the same images. The tutorial loop is what most VAE examples
do: torchvision's ToTensor on one PIL image at a time, a DataLoader, Adam. Ours is `fit` as train.py calls it: dynamic
binarisation, gradient clipping, averaged weights, learning rate schedule, metrics.jsonl. They take turns, so that a
noisy machine is equally noisy to both; the ratio is what counts.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import VisionDataset
from torchvision.transforms import ToTensor

from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.distributions import BernoulliLikelihood
from genmodels.losses.objectives import ELBO
from genmodels.models.vae import MLPVAE
from genmodels.schedules import linear
from genmodels.tracking import Run, read_rows
from genmodels.trainers.loop import Cadence, fit
from genmodels.trainers.updater import Updater
from genmodels.trainers.vae import VAETrainer

BATCH_SIZE = 128


class TutorialDataset(VisionDataset):
    """Images as torchvision's MNIST serves them: one PIL image at a time, through a transform."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__(root="", transform=ToTensor())
        self.images = images.squeeze(1)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image
        return self.transform(Image.fromarray(self.images[index].numpy())), 0


class TutorialVAE(nn.Module):
    """The VAE of pytorch/examples in outline: 784-400-20."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.mean, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        """Minus the ELBO, summed over the batch."""
        images = images.view(-1, 784)
        hidden = F.relu(self.fc1(images))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        again = torch.sigmoid(self.fc4(F.relu(self.fc3(z))))
        return (F.binary_cross_entropy(again, images, reduction="sum")
                - 0.5 * torch.sum(1 + log_variance - mean.square() - log_variance.exp()))


def tutorial_rate(images: torch.Tensor, steps: int) -> float:
    """Images per second of the tutorial loop, its loss read at every tenth step."""
    model = TutorialVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader: DataLoader = DataLoader(TutorialDataset(images), batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    done, start = 0, time.perf_counter()
    while done < steps:
        for batch, _ in loader:
            optimizer.zero_grad()
            loss = model.loss(batch)
            loss.backward()
            optimizer.step()
            if done % 10 == 0:
                loss.item()
            done += 1
            if done == steps:
                break
    return steps * BATCH_SIZE / (time.perf_counter() - start)


def our_rate(images: torch.Tensor, steps: int) -> float:
    """Images per second of `fit`, between its first and its last row of training terms."""
    part = ImageSet(images, torch.full((len(images),), -1), torch.arange(len(images)))
    data = ImageData(ImageSpec("benchmark", (1, 28, 28)), part, *[ImageSet(images, part.labels, torch.arange(500))] * 2)
    model = MLPVAE(image_shape=(1, 28, 28), latent_dim=20, widths=[400], likelihood=BernoulliLikelihood())
    updater = partial(Updater, batch_size=BATCH_SIZE, lr=1e-3, warmup_steps=200, betas=(0.9, 0.99), weight_decay=0.01,
                      clip_norm=200.0, ema_images=50_000, precision="fp32")
    trainer = VAETrainer(model, updater=updater, objective=ELBO(), kl_weight=1.0,
                         kl_schedule=partial(linear, warmup=0.1), binarise=True)
    cadence = Cadence(total=steps, log=10, evaluate=steps, checkpoint=steps)
    with tempfile.TemporaryDirectory() as folder, Run(Path(folder)) as run:
        fit(trainer, data, run, cadence=cadence, batch_size=BATCH_SIZE, seed=0, model_config={}, about={})
        rows = [row for row in read_rows(Path(folder)) if "train" in row]
    first, last = rows[0], rows[-1]
    return (last["step"] - first["step"]) * BATCH_SIZE / (last["time"]["seconds"] - first["time"]["seconds"])


def main() -> None:
    """Print the rates of both loops, round by round, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    images = torch.randint(0, 256, (20_000, 1, 28, 28), dtype=torch.uint8)
    ratios = []
    tutorial_rate(images, 20), our_rate(images, 20)     # warm-up: imports, allocators
    for _ in range(arguments.rounds):
        tutorial, ours = tutorial_rate(images, arguments.steps), our_rate(images, arguments.steps)
        ratios.append(ours / tutorial)
        print(f"tutorial loop {tutorial:7.0f} images/s   genmodels {ours:7.0f} images/s   ratio {ratios[-1]:.2f}")
    print(f"ratio: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}, "
          f"n = {len(ratios)}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
