"""Pictures that are grids of images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from genmodels.figures.labels import Labels, asked, class_name, in_turn
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, image_table, padded
from genmodels.losses.vae import elbo_terms
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

CLASSES = 12  # that a grid shows; of more, some evenly spaced ones, unless others are asked for
TEMPERATURES = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0)  # about equal steps of the standard deviation
COLUMNS, ROWS = 10, 8  # images of a class, and latents that go through all classes


@torch.no_grad()
def samples(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """Images generated from noise, z ~ N(0, T I) or of a fitted density, of the classes asked for in turn.

    Numbers: each image's z, and its label, -1 for none, if the model knows labels.
    """
    z, chosen = noise(model, options)
    images = model.generate(z, chosen.values)
    title = f"{options.n} samples, {_drawn(model, options)}{chosen.words}"
    return FigureResult(
        image_table(images, min(10, options.n), title), latent_table(z, **chosen.column)
    )


def noise(model: GenerativeModel, options: FigureOptions) -> tuple[Tensor, Labels]:
    """What `samples` generates from, z (n, D) and its labels, for other figures of the same images."""
    z = options.prior_of(model).sample(
        options.n, options.temperature, generator(options.seed, "samples")
    )
    return z, in_turn(model, options, options.n)


@torch.no_grad()
def temperature(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """One row for each temperature T, z ~ N(0, T I): a variance, so noise is multiplied by its square root.

    A column is one noise vector, and one class of those asked for in turn; without noise, T = 0, all images of a class
    are the same. The temperature asked for plays no part. Numbers: each image's T and z, and its label, if the model
    knows labels.
    """
    columns = min(options.n, COLUMNS)
    z = torch.cat(
        [
            options.prior_of(model).sample(columns, each, generator(options.seed, "temperature"))
            for each in TEMPERATURES
        ]
    )
    chosen = in_turn(model, options, columns).repeated(len(TEMPERATURES))
    title = f"The same noise in each column, more of it in each row: z ~ {options.prior_of(model).formula('T')}{chosen.words}"
    figure = image_table(
        model.generate(z, chosen.values),
        columns,
        title,
        row_labels=[f"T = {each:g}" for each in TEMPERATURES],
    )
    temperatures = [each for each in TEMPERATURES for _ in range(columns)]
    return FigureResult(figure, latent_table(z, temperature=temperatures, **chosen.column))


@torch.no_grad()
def class_grid(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """One row for each class: min(n, 10) samples, each from noise of its own. Numbers: each image's label and z."""
    rows, columns = _classes(model, options), min(options.n, COLUMNS)
    z = options.prior_of(model).sample(
        len(rows) * columns, options.temperature, generator(options.seed, "class grid")
    )
    values = torch.tensor(rows).repeat_interleave(columns)
    figure = image_table(
        model.generate(z, values.to(z.device)),
        columns,
        f"Samples of {_count(rows, model)}, {_drawn(model, options)}",
        row_labels=[class_name(options, label) for label in rows],
    )
    return FigureResult(figure, latent_table(z, label=values.tolist()))


@torch.no_grad()
def style_grid(model: GenerativeModel, options: FigureOptions) -> FigureResult:
    """One z for each of min(n, 8) rows, decoded as every class: what z keeps is the style, the rest is the label's.

    Numbers: each image's label and z.
    """
    rows, columns = min(options.n, ROWS), _classes(model, options)
    z = (
        options.prior_of(model)
        .sample(rows, options.temperature, generator(options.seed, "style grid"))
        .repeat_interleave(len(columns), dim=0)
    )
    values = torch.tensor(columns).repeat(rows)
    figure = image_table(
        model.generate(z, values.to(z.device)),
        len(columns),
        "The same z in each row",
        column_labels=[class_name(options, label) for label in columns],
        x_label=f"label ({_count(columns, model)})",
        y_label=_drawn(model, options),
    )
    return FigureResult(figure, latent_table(z, label=values.tolist()))


@torch.no_grad()
def reconstructions(model: VAE, options: FigureOptions) -> FigureResult:
    """Test images above their reconstructions, the mean images of p(x|z) at the mean of q(z|x).

    Numbers: the bound on each image and its terms (KL weight 1), in nats; under a Bernoulli likelihood gray values are
    taken as probabilities, under all others as they are.
    """
    assert options.test is not None
    count, columns = min(options.n, 30, len(options.test)), 10
    images, labels = options.test.batch(slice(0, count))
    again = model.reconstruct(images, labels)
    reseed(CONSTANT_SEED, "reconstructions")
    terms = elbo_terms(model, images, labels)
    pairs = [
        padded(strip[start : start + columns], columns)
        for start in range(0, count, columns)
        for strip in (images, again)
    ]
    table = [
        {
            "test_image": index,
            "class": options.class_name(int(labels[index])),
            "elbo": terms.elbo[index].item(),
            "distortion": terms.distortion[index].item(),
            "kl": terms.kl[index].sum().item(),
            "squared_error": (images[index] - again[index]).square().sum().item(),
        }
        for index in range(count)
    ]
    figure = image_table(
        torch.cat(pairs),
        columns,
        "Test images above their reconstructions",
        row_labels=["original", "reconstruction"] * (len(pairs) // 2),
    )
    return FigureResult(figure, table)


def latent_table(z: Tensor, **columns: list) -> list[dict[str, Any]]:
    """One row for each vector of z (N, D), after further columns of N values."""
    return [
        {name: values[index] for name, values in columns.items()}
        | {"image": index}
        | {f"z{dimension}": value for dimension, value in enumerate(row)}
        for index, row in enumerate(z.tolist())
    ]


def _drawn(model: GenerativeModel, options: FigureOptions) -> str:
    return f"z ~ {options.prior_of(model).formula(options.temperature)}"


def _classes(model: GenerativeModel, options: FigureOptions) -> list[int]:
    """The classes asked for, else all of them, or some evenly spaced ones of many."""
    spaced = (
        torch.linspace(0, model.num_classes - 1, min(model.num_classes, CLASSES))
        .round()
        .long()
        .tolist()
    )
    return asked(model, options) or spaced


def _count(classes: Sequence[int], model: GenerativeModel) -> str:
    return f"{len(classes)}{'' if len(classes) == model.num_classes else f' of {model.num_classes}'} classes"
