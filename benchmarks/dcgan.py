"""DCGAN at 64x64 in this project and in the usual tutorial loop.

The same game on both sides: transposed convolutions against convolutions, ngf = ndf = 64, nz = 64,
BatchNorm, binary cross-entropy, Adam (0.5, 0.999), batch 128, one update of each network a step.
The tutorial loop, in outline that of pytorch/examples, reads png files through ImageFolder,
transforms and a DataLoader of two workers, in float32. Ours is `fit` with the settings of
experiment=gan_dcgan.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from measure import BATCH_SIZE, Measurement, measure_fit
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from genmodels.data.augmentation import DiffAugment
from genmodels.losses.adversarial import NonSaturating, Penalty
from genmodels.models.gan import GAN
from genmodels.schedules import WarmupCosine
from genmodels.trainers.gan import GANTrainer
from genmodels.trainers.updater import Updater

LATENT_DIM = 64
WIDTH = 64
BETAS = (0.5, 0.999)
LR = 2e-4


def random_images(steps: int) -> Tensor:
    """Noise (N, 3, 64, 64) uint8, enough for one batch more than there are steps."""
    return torch.randint(0, 256, (BATCH_SIZE * (steps + 1), 3, 64, 64), dtype=torch.uint8)


def write_folder(images: Tensor, root: Path) -> ImageFolder:
    """torchvision's ImageFolder over png files of images, with the transforms of tutorials."""
    (root / "all").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / "all" / f"{index:05d}.png")
    to_symmetric_range = Normalize((0.5,) * 3, (0.5,) * 3)
    transform = Compose([Resize(64), CenterCrop(64), ToTensor(), to_symmetric_range])
    return ImageFolder(str(root), transform)


def tutorial_generator() -> nn.Module:
    """As in pytorch/examples, in outline: (B, nz, 1, 1) -> (B, 3, 64, 64)."""
    layers: list[nn.Module] = []
    channels, stride, padding = LATENT_DIM, 1, 0
    for width in (8 * WIDTH, 4 * WIDTH, 2 * WIDTH, WIDTH):
        layers.append(nn.ConvTranspose2d(channels, width, 4, stride, padding, bias=False))
        layers += [nn.BatchNorm2d(width), nn.ReLU(True)]  # (B, 512, 4, 4) after the first
        channels, stride, padding = width, 2, 1
    layers += [nn.ConvTranspose2d(WIDTH, 3, 4, 2, 1, bias=False), nn.Tanh()]
    return nn.Sequential(*layers)


def tutorial_discriminator() -> nn.Module:
    """As in pytorch/examples, in outline: (B, 3, 64, 64) -> (B,)."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH):
        layers.append(nn.Conv2d(channels, width, 4, 2, 1, bias=False))
        if width > WIDTH:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.LeakyReLU(0.2, True))  # (B, 64, 32, 32) after the first
        channels = width
    layers += [nn.Conv2d(8 * WIDTH, 1, 4, 1, 0, bias=False), nn.Sigmoid(), nn.Flatten(0)]
    return nn.Sequential(*layers)


def measure_tutorial(steps: int) -> Measurement:
    """The tutorial loop, after its first step."""
    with tempfile.TemporaryDirectory() as root:
        return _measure_tutorial(Path(root), steps)


def _measure_tutorial(root: Path, steps: int) -> Measurement:
    generator, discriminator = tutorial_generator(), tutorial_discriminator()
    criterion = nn.BCELoss()
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=LR, betas=BETAS)
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=LR, betas=BETAS)
    dataset = write_folder(random_images(steps), root)
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=2)
    for step, (real, _) in zip(range(steps + 1), loader, strict=False):
        if step == 1:
            start = time.perf_counter()
        discriminator.zero_grad()
        criterion(discriminator(real), torch.ones(len(real))).backward()
        fake = generator(torch.randn(len(real), LATENT_DIM, 1, 1))
        criterion(discriminator(fake.detach()), torch.zeros(len(real))).backward()
        d_optimizer.step()
        generator.zero_grad()
        criterion(discriminator(fake), torch.ones(len(real))).backward()
        g_optimizer.step()
    return Measurement(steps * BATCH_SIZE / (time.perf_counter() - start))


def measure_ours(precision: str, steps: int) -> Measurement:
    """`fit` with the same networks, after its first step."""
    model = GAN(
        image_shape=(3, 64, 64),
        latent_dim=LATENT_DIM,
        generator_width=WIDTH,
        discriminator_width=WIDTH,
        generator_norm="batch",
        generator_blocks=0,
        discriminator_norm="batch",
        discriminator_blocks=0,
    )
    updater = partial(
        Updater,
        optimizer=partial(torch.optim.Adam, betas=BETAS),
        lr=LR,
        lr_schedule=WarmupCosine(warmup_steps=0, end=1.0),
        clip_norm=None,
        ema_images=0,
        batch_size=BATCH_SIZE,
        precision=precision,
    )
    trainer = GANTrainer(
        model.to(memory_format=torch.channels_last),
        generator=updater,
        discriminator=updater,
        adversarial_loss=NonSaturating(),
        penalty=Penalty(r1=0.0, r2=0.0, gradient=0.0, every=1, end=1.0),
        diff_augment=DiffAugment(color_jitter=False, translation=0.0, cutout=0.0),
        n_critic=1,
        instance_noise=0.0,
    )
    return measure_fit(trainer, random_images(steps), steps + 1, log_every=1)
