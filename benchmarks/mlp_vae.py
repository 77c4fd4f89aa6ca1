"""The fully connected VAE 784-400-20 in this project and in the usual tutorial loop.

The tutorial loop is what most VAE examples do: torchvision's MNIST with ToTensor on one PIL image
at a time, a DataLoader, Adam. Ours is `fit` as train.py calls it, with gradient clipping, averaged
weights, a learning rate schedule and metrics.jsonl, on the same gray images; also with dynamic
binarisation, the default of train.py, which the tutorial loop lacks.
"""

import struct
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measure import BATCH_SIZE, Measurement, measure_fit
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from genmodels.likelihoods import BernoulliLikelihood
from genmodels.losses.objectives import ELBO
from genmodels.models.vae import MLPVAE, VAE
from genmodels.schedules import Linear, WarmupCosine
from genmodels.trainers.updater import Updater
from genmodels.trainers.vae import VAETrainer

IMAGES = 20_000


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

    def forward(self, images: Tensor) -> Tensor:
        """Minus the ELBO of images (B, 1, 28, 28), summed over the batch."""
        images = images.view(-1, 784)
        hidden = F.relu(self.fc1(images))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        reconstruction = torch.sigmoid(self.fc4(F.relu(self.fc3(z))))
        distortion = F.binary_cross_entropy(reconstruction, images, reduction="sum")
        kl = -0.5 * torch.sum(1 + log_variance - mean.square() - log_variance.exp())
        return distortion + kl


def random_images() -> Tensor:
    """Noise (N, 1, 28, 28) uint8."""
    return torch.randint(0, 256, (IMAGES, 1, 28, 28), dtype=torch.uint8)


def measure_tutorial(steps: int) -> Measurement:
    """The tutorial loop, after its first steps."""
    return measure_tutorial_loop(TutorialVAE(), steps)


def measure_tutorial_loop(model: nn.Module, steps: int) -> Measurement:
    """A loop over a DataLoader, which adds up its loss at every step.

    Arguments:
    model: images (B, 1, 28, 28) -> their loss, summed.
    steps: of the loop.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with tempfile.TemporaryDirectory() as root:
        dataset = mnist_of(random_images(), Path(root))
    loader: DataLoader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    done, total, warm_up = 0, 0.0, max(steps // 10, 1)
    while done < steps + warm_up:
        for batch, _ in loader:
            if done == warm_up:
                start = time.perf_counter()
            optimizer.zero_grad()
            loss = model(batch)
            loss.backward()
            optimizer.step()
            total += loss.item()
            done += 1
            if done == steps + warm_up:
                break
    return Measurement(steps * BATCH_SIZE / (time.perf_counter() - start))


def measure_ours(binarise: bool, precision: str, steps: int) -> Measurement:
    """`fit` with the same model."""
    model = MLPVAE(
        image_shape=(1, 28, 28), latent_dim=20, widths=[400], likelihood=BernoulliLikelihood()
    )
    return measure_vae(model, binarise, precision, steps)


def measure_vae(model: VAE, binarise: bool, precision: str, steps: int) -> Measurement:
    """`fit` with a VAE for 28x28 gray images, and the settings that train.py has by default."""
    updater = partial(
        Updater,
        optimizer=partial(torch.optim.AdamW, betas=(0.9, 0.99), weight_decay=0.01),
        lr=1e-3,
        lr_schedule=WarmupCosine(warmup_steps=200),
        clip_norm=200.0,
        ema_images=50_000,
        batch_size=BATCH_SIZE,
        precision=precision,
    )
    trainer = VAETrainer(
        model.to(memory_format=torch.channels_last),
        updater=updater,
        objective=ELBO(),
        kl_weight=1.0,
        kl_schedule=Linear(warmup=0.1),
        binarise=binarise,
    )
    return measure_fit(trainer, random_images(), steps, log_every=max(steps // 20, 1))
