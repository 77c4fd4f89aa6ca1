"""Pictures that are grids of images."""

from typing import Any

import torch
from torch import Tensor

from genmodels.figures.canvas import Picture, Request, image_table, padded
from genmodels.losses.elbo import elbo_terms
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed


@torch.no_grad()
def samples(model: GenerativeModel, request: Request) -> Picture:
    """Images made from noise: the mean images of p(x|z), z ~ N(0, T I) or a fitted density. Numbers: each image's z."""
    z = model.prior(request.n, request.temperature, generator(request.seed, "samples"))
    images = model.generate(z)
    title = f"{request.n} samples, z ~ {model.density.formula(request.temperature)}"
    return Picture(image_table(images, min(10, request.n), title), latent_table(z))


@torch.no_grad()
def reconstructions(model: VAE, request: Request) -> Picture:
    """Test images above their reconstructions, the mean images of p(x|z) at the mean of q(z|x).

    Numbers: the bound on each image and its terms (gray values as probabilities, KL weight 1), in nats.
    """
    assert request.part is not None
    count, columns = min(request.n, 30, len(request.part)), 10
    images, labels = request.part.batch(slice(0, count))
    again = model.reconstruct(images, labels)
    reseed(CONSTANT_SEED, "reconstructions")
    terms = elbo_terms(model, images, labels)
    pairs = [padded(strip[start:start + columns], columns) for start in range(0, count, columns)
             for strip in (images, again)]
    table = [{"test_image": index, "class": request.class_name(int(labels[index])), "elbo": terms.elbo[index].item(),
              "distortion": terms.distortion[index].item(), "kl": terms.kl[index].sum().item(),
              "squared_error": (images[index] - again[index]).square().sum().item()} for index in range(count)]
    figure = image_table(torch.cat(pairs), columns, "Test images above their reconstructions",
                         row_labels=["original", "reconstruction"] * (len(pairs) // 2))
    return Picture(figure, table)


def latent_table(z: Tensor, **columns: list) -> list[dict[str, Any]]:
    """One row for each vector of z (N, D), after further columns of N values."""
    return [{name: values[index] for name, values in columns.items()} | {"image": index}
            | {f"z{dimension}": value for dimension, value in enumerate(row)} for index, row in enumerate(z.tolist())]
