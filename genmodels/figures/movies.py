"""Moving pictures, as GIFs: samples in the course of training, walks through the latent space."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genmodels import files
from genmodels.errors import require
from genmodels.figures.image_sheet import tile
from genmodels.figures.interpolation import lerp, slerp
from genmodels.figures.labels import labels_in_turn
from genmodels.figures.options import FigureOptions
from genmodels.figures.training_progress import stored_images, stored_steps
from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE
from genmodels.randomness import generator

FRAME_MILLISECONDS = 80
STEP_MILLISECONDS = 400  # of each stored step of a training
LAST_MILLISECONDS = 2500
MAX_WIDTH = 600  # pixels of a frame that is enlarged
MAX_SCALE = 2
COLUMNS = 10

WALKERS = 25  # images that change side by side
STOPS = 4  # samples that each of them passes
FRAMES_BETWEEN = 12  # of two samples

TRAVERSED = 10  # dimensions, one a column
TRAVERSED_IMAGES = 5  # one a row
TRAVERSAL_FRAMES = 30
TRAVERSAL_REACH = 3.0


@dataclass(frozen=True)
class Movie:
    """Frames (H, W, 1 or 3) uint8, and for how many milliseconds each is shown."""

    frames: Sequence[np.ndarray]
    milliseconds: Sequence[int]

    def save(self, folder: Path, name: str, caption: str, file_format: str = "png") -> Path:
        """Write <name>.gif, with the caption as its comment, whatever the format of figures.

        Returns its path.
        """
        height, width = self.frames[0].shape[:2]
        scale = max(1, min(MAX_SCALE, MAX_WIDTH // width))
        images = []
        for frame in self.frames:
            image = Image.fromarray(frame.squeeze(2) if frame.shape[2] == 1 else frame)
            images.append(image.resize((scale * width, scale * height), Image.Resampling.NEAREST))
        path = folder / f"{name}.gif"
        with files.atomic_write(path) as temporary:
            first, *others = images
            first.save(
                temporary,
                format="gif",
                save_all=True,
                append_images=others,
                duration=list(self.milliseconds),
                loop=0,
                comment=caption.encode(),
            )
        return path


def training_movie(_: GenerativeModel, options: FigureOptions) -> Movie:
    """Samples of the same noise at each stored step of the training.

    Raises ValueError for a run without them.
    """
    assert options.run is not None
    steps = stored_steps(options.run)
    require(bool(steps), "figures", "training_movie", "of a run with stored steps")
    frames = [tile(stored_images(options.run, "samples", step), COLUMNS) for step in steps]
    times = [STEP_MILLISECONDS] * (len(frames) - 1)
    return Movie(frames, [*times, LAST_MILLISECONDS])


@torch.no_grad()
def latent_walk(model: GenerativeModel, options: FigureOptions) -> Movie:
    """Each of 25 images walks from sample to sample and back to the first: arcs under N(0, I),
    straight lines under other priors."""
    labels = labels_in_turn(model, options, WALKERS)
    noise = generator(options.seed, "latent walk")
    stops = []
    for _ in range(STOPS):
        stops.append(model.prior.sample(WALKERS, options.temperature, noise, labels.values))
    path = slerp if isinstance(model.prior, StandardNormal) else lerp
    fractions = torch.arange(FRAMES_BETWEEN, device=stops[0].device) / FRAMES_BETWEEN
    frames = []
    for start, end in zip(stops, [*stops[1:], stops[0]], strict=True):
        for z in path(start, end, fractions).unbind(dim=1):
            frames.append(tile(model.generate(z, labels.values), math.isqrt(WALKERS)))
    return Movie(frames, [FRAME_MILLISECONDS] * len(frames))


@torch.no_grad()
def traversal_movie(model: VAE, options: FigureOptions) -> Movie:
    """A test image in each row; in each column one dimension of its z goes from -3 to 3 and back.

    The dimensions are the ten with the largest KL over the test images, the largest first.
    """
    assert options.test is not None
    kl = options.posteriors(model).kl.mean(dim=0)
    dimensions = kl.argsort(descending=True, stable=True)[:TRAVERSED].tolist()
    images, labels = options.test.batch(slice(0, TRAVERSED_IMAGES))
    mean = model.encode(images, labels).mean
    frames = []
    for frame in range(TRAVERSAL_FRAMES):
        value = TRAVERSAL_REACH * math.sin(2 * math.pi * frame / TRAVERSAL_FRAMES)
        z = _moved(mean, dimensions, value)
        repeated = labels.repeat_interleave(len(dimensions))
        frames.append(tile(model.generate(z, repeated), len(dimensions)))
    return Movie(frames, [FRAME_MILLISECONDS] * len(frames))


def _moved(mean: Tensor, dimensions: Sequence[int], value: float) -> Tensor:
    """Each z (B, D) once for each dimension, which has the value there: (B * dimensions, D)."""
    z = mean.repeat_interleave(len(dimensions), dim=0)
    for column, dimension in enumerate(dimensions):
        of_column = slice(column, None, len(dimensions))
        z[of_column, dimension] = value
    return z
