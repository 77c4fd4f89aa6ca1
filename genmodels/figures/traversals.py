"""Latent traversals: what each dimension of z changes in an image."""

import torch

from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult, image_table
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE

STEPS = 11  # images of a dimension
REACH = 3.0  # the largest value of a dimension
MAX_DIMENSIONS = 10


@torch.no_grad()
def traversals(model: VAE, options: FigureOptions) -> FigureResult:
    """One latent dimension a row, moved from -3 to 3; the others keep an image's posterior mean.

    The image is the first of the test split. Dimensions are sorted by their KL over that split, in
    nats; those without use come last and change nothing.

    Numbers: every dimension's KL, and the test image's posterior mean.
    """
    assert options.test is not None
    kl = options.posteriors(model).kl.mean(dim=0)  # (D,)
    order = kl.argsort(descending=True, stable=True).tolist()
    shown = order[: min(MAX_DIMENSIONS, options.n)]
    image, label = options.test.batch(slice(0, 1))
    mean = model.encode(image, label).mean  # (1, D)
    values = torch.linspace(-REACH, REACH, STEPS)
    z = mean.repeat(len(shown) * STEPS, 1)
    for row, dimension in enumerate(shown):
        start, stop = row * STEPS, (row + 1) * STEPS
        z[start:stop, dimension] = values.to(z)

    title = f"{len(shown)} of {len(kl)} latent dimensions, sorted by KL"
    if model.num_classes:
        title += f", class {options.class_name(int(label))}"
    unit = (
        ", in standard deviations of the prior" if isinstance(model.prior, StandardNormal) else ""
    )
    figure = image_table(
        model.generate(z, label.repeat(len(z))),
        STEPS,
        title,
        row_labels=[f"z{dimension}  {kl[dimension]:.2f} nats" for dimension in shown],
        column_labels=[f"{round(value, 1) + 0.0:+.1f}" for value in values.tolist()],
        x_label=f"value of this dimension{unit}",
    )
    table = []
    for dimension in order:
        row_of_dimension = {
            "dimension": dimension,
            "kl_nats": kl[dimension].item(),
            "test_image_mean": mean[0, dimension].item(),
            "shown": dimension in shown,
        }
        table.append(row_of_dimension)
    return FigureResult(figure, table)
