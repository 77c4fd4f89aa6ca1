"""explorer.html: a trained model in one page that works without a server, also by e-mail.

The decoder or generator runs in the browser. A pad moves z in a plane of the latent space, over the
posterior means of the test images; sliders move each dimension.
"""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genmodels.explorer.browser_model import describe
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import class_colour
from genmodels.html_page import write_page
from genmodels.metrics.aggregated_posterior import LatentPlane
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import generator

TEMPLATE = Path(__file__).parent / "explorer.html.j2"
SOURCES = ("explorer.css", "network.js", "state.js", "map.js", "explorer.js")  # of the page
MAX_POINTS = 2000  # of the scatter under the pad
RANGE_DRAWS = 2000  # from which the range of each slider is taken
RANGE_SHARE = 0.998  # of the draws that lie within it
EFFECT_IMAGES = 4  # from which the effect of a dimension is measured

Data = dict[str, Any]  # what the page reads as json


@dataclass(frozen=True)
class ExplorerPage:
    """The page of a model, without its caption."""

    data: Data

    def save(self, folder: Path, name: str, caption: str, file_format: str = "png") -> Path:
        """Write <name>.html, whatever the format of figures; returns its path."""
        path = folder / f"{name}.html"
        write_page(path, TEMPLATE, SOURCES, self.data, caption=caption)
        return path


@torch.no_grad()
def explorer(model: GenerativeModel, options: FigureOptions) -> ExplorerPage:
    """A page in which the model runs: z by pad and sliders, classes, temperature, interpolation.

    The dimensions are sorted by their KL over the test images; without these images, and of a GAN,
    by how much a step of each changes the images. The file holds the weights in float16, and the
    test images' posterior means.

    Raises UnsuitedError for a model that the page cannot run.
    """
    classes = [options.class_name(label) for label in range(model.num_classes)]
    data = {
        "model": describe(model),
        "classes": classes,
        "needs_label": model.num_classes > 0 and not model.label_dropout,
        "prior": model.prior.formula("T"),
        "temperature": options.temperature,
        "label": options.labels[0] if options.labels else min(model.num_classes, 1) - 1,
        "planes": [],
        "points": None,
    }
    draws = _draws(model, RANGE_DRAWS)
    if isinstance(model, VAE) and options.test is not None:
        posterior = options.posteriors(model)
        data["points"] = _points(posterior.mean, posterior.labels, options)
        if model.latent_dim > 2:
            data["planes"] = [_plane(LatentPlane.of(posterior))]
        draws = torch.cat([draws, posterior.mean.float()])
        values, unit = posterior.kl.mean(dim=0), "KL, nats"
    else:
        values, unit = effects(model), "effect"
    data["dimensions"] = _dimensions(values, draws)
    data["unit"] = unit
    return ExplorerPage(data)


def effects(model: GenerativeModel) -> Tensor:
    """How much a step of each dimension changes the images, (D,).

    It is the mean absolute change of a value in [0, 1], of a step of one standard deviation of the
    prior.
    """
    stddev = _draws(model, RANGE_DRAWS).std(dim=0)
    z = _draws(model, EFFECT_IMAGES).to(model.device)
    labels = _labels(model, len(z))
    images = model.generate(z, labels)
    values = torch.zeros(model.latent_dim)
    for dimension in range(model.latent_dim):
        moved = z.clone()
        moved[:, dimension] += stddev[dimension]
        values[dimension] = (model.generate(moved, labels) - images).abs().mean()
    return values


def _draws(model: GenerativeModel, n: int) -> Tensor:
    """Latents from the prior, of all classes in turn, (n, D) on the CPU."""
    noise = generator(0, "explorer")
    return model.prior.sample(n, generator=noise, labels=_labels(model, n)).cpu()


def _labels(model: GenerativeModel, n: int) -> Tensor | None:
    if not model.num_classes:
        return None
    return torch.arange(n, device=model.device) % model.num_classes


def _points(means: Tensor, labels: Tensor, options: FigureOptions) -> Data:
    """Posterior means with the name and colour of each class."""
    chosen = torch.randperm(len(means), generator=generator(0, "scatter"))[:MAX_POINTS]
    halves = means[chosen].clamp(-6e4, 6e4).half()
    present = sorted(set(labels[chosen].tolist()))
    return {
        "means": base64.b64encode(halves.numpy().astype("<f2").tobytes()).decode(),
        "labels": labels[chosen].tolist(),
        "names": {label: options.class_name(label) for label in present},
        "colours": {label: class_colour(label) for label in present},
    }


def _plane(plane: LatentPlane) -> Data:
    return {"directions": plane.directions.tolist(), "names": list(plane.names)}


def _dimensions(values: Tensor, draws: Tensor) -> list[Data]:
    """Index, value and range of each dimension, the largest values first."""
    tail = (1 - RANGE_SHARE) / 2
    low, high = draws.double().quantile(torch.tensor([tail, 1 - tail]).double(), dim=0)
    reach = torch.maximum(low.abs(), high.abs()).clamp(min=1)
    order = values.argsort(descending=True, stable=True).tolist()
    return [
        {"index": index, "value": float(values[index]), "reach": round(float(reach[index]), 2)}
        for index in order
    ]
