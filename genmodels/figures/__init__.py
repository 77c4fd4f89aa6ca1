"""The figures: (model, FigureOptions) -> FigureResult, all with this one signature. To add one, write it and enter it here."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from genmodels.data.images import ImageSet, to_uint8
from genmodels.figures import (
    confusion,
    dimensions,
    grids,
    latent,
    latent_maps,
    nearest,
    rate_distortion,
    training_progress,
)
from genmodels.figures.labels import in_turn
from genmodels.figures.plotting import FigureOptions, tile
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator
from genmodels.registry import Entry

FIGURES = {
    "samples": Entry(grids.samples, needs="generate"),
    "class_grid": Entry(grids.class_grid, needs="generate num_classes"),
    "style_grid": Entry(grids.style_grid, needs="generate num_classes"),
    "temperature": Entry(grids.temperature, needs="generate"),
    "nearest": Entry(nearest.nearest, needs="generate", data=True),
    "reconstructions": Entry(grids.reconstructions, needs="encode", data=True),
    "interpolation": Entry(latent.interpolation, needs="generate"),
    "traversals": Entry(latent.traversals, needs="encode", data=True),
    "kl_per_dimension": Entry(dimensions.kl_per_dimension, needs="encode", data=True),
    "aggregated_posterior": Entry(dimensions.aggregated_posterior, needs="encode", data=True),
    "latent_grid": Entry(latent_maps.latent_grid, needs="encode", data=latent_maps.needs_data),
    "latent_scatter": Entry(latent_maps.latent_scatter, needs="encode", data=True),
    "latent_atlas": Entry(latent_maps.latent_atlas, needs="encode", data=True),
    "region": Entry(latent_maps.region, needs="generate", slow=True),
    "training_progress": Entry(training_progress.training_progress, needs="generate", history=True),
    "rate_distortion": Entry(rate_distortion.rate_distortion, needs="encode", history=True),
    "confusion": Entry(confusion.confusion, needs="features", data=True),
}


def draw(
    model: nn.Module, names: Iterable[str], options: FigureOptions, folder: Path, caption: str
) -> list[Path]:
    """Draw these figures into a folder; returns the paths of the pictures."""
    return [FIGURES[name].call(model, options).save(folder, name, caption) for name in names]


@torch.no_grad()
def snapshots(
    model: nn.Module, part: ImageSet, n: int = 40
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What a model makes of the same noise, and of the same test images, each time that it is asked; {} if nothing.

    For each name a sheet (H', W', C) and the images (n, C, H, W), uint8. Reconstructions lie under their originals.
    Samples of a conditional model are of all its classes in turn.
    """
    columns, made = 10, {}
    if isinstance(model, GenerativeModel):
        z = model.prior(n, generator=generator(CONSTANT_SEED, "snapshots"))
        images = model.generate(
            z, in_turn(model, FigureOptions(labels=range(model.num_classes)), n).values
        )
        made["samples"] = (tile(images, columns), to_uint8(images).cpu().numpy())
    if isinstance(model, VAE):
        originals, labels = part.batch(slice(0, columns))
        again = model.reconstruct(originals, labels)
        made["reconstructions"] = (
            tile(torch.cat([originals, again]), columns),
            to_uint8(again).cpu().numpy(),
        )
    return made
