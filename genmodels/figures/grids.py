"""Grids of images: samples, samples by class and by temperature, reconstructions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genmodels.figures.labels import Labels, labels_in_turn, requested_classes
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, Row, image_table, pad_images
from genmodels.losses.vae import elbo_terms
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

MAX_CLASSES = 12  # in a grid; of more, evenly spaced ones, unless others are asked for
TEMPERATURES = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0)  # about equal steps of the standard deviation
COLUMNS = 10
STYLE_ROWS = 8  # draws of noise that are shown as every class
MAX_RECONSTRUCTIONS = 30


@torch.no_grad()
def samples(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """Images of z ~ prior at temperature T, of the requested classes in turn.

    Numbers: each image's z, and its label if the model knows labels, -1 for none.
    """
    z, labels = sample_latents(model, options)
    images = model.generate(z, labels.values)
    title = f"{options.n} samples, {distribution_of_z(model, options)}{labels.title}"
    figure = image_table(images, min(COLUMNS, options.n), title)
    return FigureResult(figure, latent_table(z, **labels.column))


def sample_latents(model: GenerativeModel, options: FigureOptions) -> tuple[Tensor, Labels]:
    """z (n, D) and the labels of the images that `samples` shows."""
    noise = generator(options.seed, "samples")
    labels = labels_in_turn(model, options, options.n)
    z = model.prior.sample(options.n, options.temperature, noise, labels.values)
    return z, labels


@torch.no_grad()
def temperature(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """One row for each temperature T, z ~ N(0, T I).

    T is a variance, so that noise is multiplied by its square root. A column is one noise vector
    and one of the requested classes; without noise, T = 0, all images of a class are the same. The
    requested temperature is not used.

    Numbers: each image's T and z, and its label if the model knows labels.
    """
    columns = min(options.n, COLUMNS)
    one_row = labels_in_turn(model, options, columns)
    rows, temperatures = [], []
    for value in TEMPERATURES:
        noise = generator(options.seed, "temperature")
        rows.append(model.prior.sample(columns, value, noise, one_row.values))
        temperatures += [value] * columns
    z = torch.cat(rows)
    labels = one_row.repeated(len(TEMPERATURES))
    figure = image_table(
        model.generate(z, labels.values),
        columns,
        "The same noise in each column, more of it in each row: "
        f"z ~ {model.prior.formula('T')}{labels.title}",
        row_labels=[f"T = {value:g}" for value in TEMPERATURES],
    )
    return FigureResult(figure, latent_table(z, temperature=temperatures, **labels.column))


@torch.no_grad()
def class_grid(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """One row for each class: min(n, 10) samples, each from its own noise.

    Numbers: each image's label and z.
    """
    classes = _classes(model, options)
    columns = min(options.n, COLUMNS)
    noise = generator(options.seed, "class grid")
    labels = torch.tensor(classes).repeat_interleave(columns)
    z = model.prior.sample(len(labels), options.temperature, noise, labels)
    figure = image_table(
        model.generate(z, labels.to(z.device)),
        columns,
        f"Samples of {_count(classes, model)}, {distribution_of_z(model, options)}",
        row_labels=[options.class_name(label) for label in classes],
    )
    return FigureResult(figure, latent_table(z, label=labels.tolist()))


@torch.no_grad()
def style_grid(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """The same noise in each of min(n, 8) rows, as every class.

    Where the prior is the same for all classes, z is the same along a row: what does not change
    comes from it, the style, and what changes comes from the label. Where each class has a prior of
    its own, z is what that prior makes of the noise.

    Numbers: each image's label and z.
    """
    classes = _classes(model, options)
    rows = min(options.n, STYLE_ROWS)
    columns = []
    for label in classes:
        noise = generator(options.seed, "style grid")
        labels = torch.full((rows,), label)
        columns.append(model.prior.sample(rows, options.temperature, noise, labels))
    z = torch.stack(columns, dim=1).flatten(0, 1)  # (rows * classes, D)
    labels = torch.tensor(classes).repeat(rows)
    figure = image_table(
        model.generate(z, labels.to(z.device)),
        len(classes),
        f"The same noise in each row, {distribution_of_z(model, options)}",
        column_labels=[options.class_name(label) for label in classes],
        x_label=f"label ({_count(classes, model)})",
    )
    return FigureResult(figure, latent_table(z, label=labels.tolist()))


@torch.no_grad()
def reconstructions(model: VAE, options: FigureOptions) -> FigureResult:
    """Test images above their reconstructions, the mean images of p(x|z) at the mean of q(z|x).

    Numbers: the ELBO of each image and its terms (KL weight 1), in nats. A Bernoulli likelihood
    takes gray values as probabilities, all others take them as they are.
    """
    assert options.test is not None
    count = min(options.n, MAX_RECONSTRUCTIONS, len(options.test))
    images, labels = options.test.batch(slice(0, count))
    means = model.reconstruct(images, labels)
    reseed(CONSTANT_SEED, "reconstructions")
    terms = elbo_terms(model, images, labels)
    table = []
    for index in range(count):
        row = {
            "test_image": index,
            "class": options.class_name(int(labels[index])),
            "elbo": terms.elbo[index].item(),
            "distortion": terms.distortion[index].item(),
            "kl": terms.kl[index].sum().item(),
            "squared_error": (images[index] - means[index]).square().sum().item(),
        }
        table.append(row)
    rows = []
    for originals, reconstructed in zip(images.split(COLUMNS), means.split(COLUMNS), strict=True):
        rows += [pad_images(originals, COLUMNS), pad_images(reconstructed, COLUMNS)]
    figure = image_table(
        torch.cat(rows),
        COLUMNS,
        "Test images above their reconstructions",
        row_labels=["original", "reconstruction"] * (len(rows) // 2),
    )
    return FigureResult(figure, table)


def latent_table(z: Tensor, **columns: Sequence[Any]) -> list[Row]:
    """One row for each vector of z (N, D), after further columns of N values."""
    table = []
    for index, vector in enumerate(z.tolist()):
        row = {name: values[index] for name, values in columns.items()}
        row["image"] = index
        for dimension, value in enumerate(vector):
            row[f"z{dimension}"] = value
        table.append(row)
    return table


def distribution_of_z(model: GenerativeModel, options: FigureOptions) -> str:
    """What z is drawn from, for titles, such as "z ~ N(0, I)"."""
    return f"z ~ {model.prior.formula(options.temperature)}"


def _classes(model: GenerativeModel, options: FigureOptions) -> list[int]:
    """The requested classes, else all of them, or evenly spaced ones of many."""
    count = min(model.num_classes, MAX_CLASSES)
    spaced = torch.linspace(0, model.num_classes - 1, count).round().long()
    return requested_classes(model, options) or spaced.tolist()


def _count(classes: Sequence[int], model: GenerativeModel) -> str:
    if len(classes) == model.num_classes:
        return f"{len(classes)} classes"
    return f"{len(classes)} of {model.num_classes} classes"
