"""Images per second of DCGAN at 64x64 in this project and in the usual tutorial loop: `python benchmarks/dcgan.py`.

The same game on both sides: transposed convolutions against convolutions, ngf = ndf = 64, nz = 64, BatchNorm, binary
cross-entropy, Adam (0.5, 0.999), batch 128, one update of each player a step. The tutorial loop, in outline that of
pytorch/examples, reads png files through ImageFolder, transforms and a DataLoader of two workers, in float32. Ours is
`fit` with the settings of experiment=gan_dcgan, in the precision that precision=auto chooses here. Each runs in a
process of its own, ours with the settings of memory that train.py makes too. They take turns, so that a noisy machine
is equally noisy to them; the ratio is what counts.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from PIL import Image
from throughput import BATCH_SIZE, rate_of_fit
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from genmodels import hardware
from genmodels.data.augmentation import DiffAugment
from genmodels.losses.adversarial import NonSaturating, Penalty
from genmodels.models.gan import GAN
from genmodels.trainers.gan import GANTrainer
from genmodels.trainers.updater import Updater

LATENTS, WIDTH = 64, 64
BETAS, LR = (0.5, 0.999), 2e-4


def random_images(steps: int) -> torch.Tensor:
    """Noise (N, 3, 64, 64) uint8, enough for so many batches and one more."""
    return torch.randint(0, 256, (BATCH_SIZE * (steps + 1), 3, 64, 64), dtype=torch.uint8)


def folder_of(images: torch.Tensor, root: Path) -> ImageFolder:
    """torchvision's ImageFolder over png files of these images (N, 3, 64, 64), with the transforms of tutorials."""
    (root / "all").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / "all" / f"{index:05d}.png")
    return ImageFolder(
        str(root),
        Compose([Resize(64), CenterCrop(64), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)]),
    )


def tutorial_players() -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator as in pytorch/examples, in outline."""
    up, down = (
        [LATENTS, 8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH],
        [3, WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH],
    )
    layers: list[nn.Module] = []
    for index in range(4):
        stride, padding = (1, 0) if index == 0 else (2, 1)
        layers += [
            nn.ConvTranspose2d(up[index], up[index + 1], 4, stride, padding, bias=False),
            nn.BatchNorm2d(up[index + 1]),
            nn.ReLU(True),
        ]
    generator = nn.Sequential(*layers, nn.ConvTranspose2d(WIDTH, 3, 4, 2, 1, bias=False), nn.Tanh())
    layers = []
    for index in range(4):
        norm = [nn.BatchNorm2d(down[index + 1])] if index else []
        layers += [
            nn.Conv2d(down[index], down[index + 1], 4, 2, 1, bias=False),
            *norm,
            nn.LeakyReLU(0.2, True),
        ]
    return generator, nn.Sequential(
        *layers, nn.Conv2d(8 * WIDTH, 1, 4, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten(0)
    )


def tutorial_rate(root: Path, steps: int) -> float:
    """Images per second of the tutorial loop, after its first step."""
    generator, discriminator = tutorial_players()
    criterion = nn.BCELoss()
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=LR, betas=BETAS)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=LR, betas=BETAS)
    dataset = folder_of(random_images(steps), root)
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    for step, (real, _) in zip(range(steps + 1), loader, strict=False):
        if step == 1:
            start = time.perf_counter()
        discriminator.zero_grad()
        criterion(discriminator(real), torch.ones(len(real))).backward()
        fake = generator(torch.randn(len(real), LATENTS, 1, 1))
        criterion(discriminator(fake.detach()), torch.zeros(len(real))).backward()
        d_optimizer.step()
        generator.zero_grad()
        criterion(discriminator(fake), torch.ones(len(real))).backward()
        g_optimizer.step()
    return steps * BATCH_SIZE / (time.perf_counter() - start)


def our_rate(precision: str, steps: int) -> float:
    """Images per second of `fit` with the same players, after its first step."""
    hardware.keep_freed_memory()
    model = GAN(
        image_shape=(3, 64, 64),
        latent_dim=LATENTS,
        generator_width=WIDTH,
        discriminator_width=WIDTH,
        generator_norm="batch",
        discriminator_norm="batch",
    ).to(memory_format=torch.channels_last)
    updater = partial(
        Updater,
        batch_size=BATCH_SIZE,
        lr=LR,
        warmup_steps=0,
        lr_end=1.0,
        betas=BETAS,
        weight_decay=0.0,
        clip_norm=None,
        ema_images=0,
        precision=precision,
    )
    trainer = GANTrainer(
        model,
        generator=updater,
        discriminator=updater,
        discriminator_lr=LR,
        adversarial_loss=NonSaturating(),
        penalty=Penalty(0.0, 0.0, 0.0, 1, 1.0),
        n_critic=1,
        instance_noise=0.0,
        diff_augment=DiffAugment(color_jitter=False, translation=0.0, cutout=0.0),
    )
    return rate_of_fit(trainer, random_images(steps), steps + 1, log_every=1)


def alone(rate: Callable[..., float], *arguments: object) -> float:
    """What a rate is in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(rate, *arguments).result()


def main() -> None:
    """Print the rates of both loops, round by round, and the median of their ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    precision = hardware.choose_precision("auto", torch.device("cpu"))
    ratios = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as root:
            tutorial = alone(tutorial_rate, Path(root), arguments.steps)
        ours = alone(our_rate, precision, arguments.steps)
        ratios.append(ours / tutorial)
        print(
            f"tutorial loop {tutorial:6.1f} images/s   genmodels in {precision} {ours:6.1f} ({ratios[-1]:.2f})"
        )
    print(
        f"{statistics.median(ratios):.2f} times the tutorial loop (median), {min(ratios):.2f} to {max(ratios):.2f}, "
        f"n = {len(ratios)}, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
