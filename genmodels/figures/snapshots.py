"""Images that a model makes, as it trains, of the same noise and the same test images."""

import numpy as np
import torch
from torch import nn

from genmodels.data.images import ImageSet, to_uint8
from genmodels.figures.image_sheet import tile
from genmodels.figures.labels import labels_in_turn
from genmodels.figures.options import FigureOptions
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator

COLUMNS = 10
SAMPLES = 40


@torch.no_grad()
def snapshots(model: nn.Module, test: ImageSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each name a sheet (H', W', C) and its images (n, C, H, W), uint8; {} for a classifier.

    Samples of a conditional model are of all its classes in turn. Reconstructions lie under their
    originals on the sheet.
    """
    result = {}
    if isinstance(model, GenerativeModel):
        all_classes = FigureOptions(labels=range(model.num_classes))
        labels = labels_in_turn(model, all_classes, SAMPLES)
        noise = generator(CONSTANT_SEED, "snapshots")
        z = model.prior.sample(SAMPLES, generator=noise, labels=labels.values)
        samples = model.generate(z, labels.values)
        result["samples"] = (tile(samples, COLUMNS), to_uint8(samples).cpu().numpy())
    if isinstance(model, VAE):
        images, image_labels = test.batch(slice(0, COLUMNS))
        reconstructions = model.reconstruct(images, image_labels)
        sheet = tile(torch.cat([images, reconstructions]), COLUMNS)
        result["reconstructions"] = (sheet, to_uint8(reconstructions).cpu().numpy())
    return result
