"""Pictures of the latent space: what lies between two points, and what each dimension does."""

import torch

from genmodels.figures.canvas import Picture, Request, image_table
from genmodels.figures.grids import latent_table
from genmodels.figures.labels import class_name, in_turn
from genmodels.metrics.likelihood import kl_per_dimension
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import generator

STEPS = 11


@torch.no_grad()
def interpolation(model: GenerativeModel, request: Request) -> Picture:
    """Straight lines in the latent space between pairs of draws from the prior, decoded. Numbers: each image's z."""
    rows = min(request.n, 8)
    ends = model.prior(2 * rows, request.temperature, generator(request.seed, "interpolation"))
    fractions = torch.linspace(0, 1, STEPS, device=ends.device)
    z = torch.lerp(ends[:rows, None], ends[rows:, None], fractions[None, :, None]).flatten(0, 1)    # (rows * STEPS, D)
    chosen = in_turn(model, request, len(z), most=1)
    title = f"Between {rows} pairs of samples, z ~ {model.density.formula(request.temperature)}{chosen.words}"
    figure = image_table(model.generate(z, chosen.values), STEPS, title,
                         column_labels=[f"{fraction:.1f}" for fraction in fractions.tolist()],
                         x_label="way from the left sample to the right one, straight in z")
    return Picture(figure, latent_table(z, **chosen.column, pair=[row for row in range(rows) for _ in range(STEPS)],
                                        fraction=fractions.tolist() * rows))


@torch.no_grad()
def traversals(model: VAE, request: Request) -> Picture:
    """One latent dimension a row, moved from -3 to 3 with the others at a test image's posterior mean.

    Dimensions are sorted by their KL over the test part, in nats; those without use come last and change nothing.
    Numbers: every dimension's KL and where the test image lies.
    """
    assert request.part is not None
    kl = kl_per_dimension(model, request.part)                          # (D,)
    order = kl.argsort(descending=True)
    shown = order[:min(len(order), 10, request.n)].tolist()
    image, label = request.part.batch(slice(0, 1))
    mean = model.encode(image, label).mean                              # (1, D)
    values = torch.linspace(-3, 3, STEPS)
    z = mean.repeat(len(shown) * STEPS, 1)
    for row, dimension in enumerate(shown):
        z[row * STEPS:(row + 1) * STEPS, dimension] = values.to(z)
    kind = f", class {class_name(request, int(label))}" if model.num_classes else ""
    figure = image_table(model.generate(z, label.repeat(len(z))), STEPS,
                         f"{len(shown)} of {len(kl)} latent dimensions, sorted by KL{kind}",
                         row_labels=[f"z{dimension}  {kl[dimension]:.2f} nats" for dimension in shown],
                         column_labels=[f"{round(value, 1) + 0.0:+.1f}" for value in values.tolist()],
                         x_label="value of this dimension, in standard deviations of the prior")
    table = [{"dimension": dimension, "kl_nats": kl[dimension].item(), "test_image_mean": mean[0, dimension].item(),
              "shown": dimension in shown} for dimension in order.tolist()]
    return Picture(figure, table)
