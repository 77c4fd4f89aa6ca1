"""What metrics judge by, the same for all of them; each takes what concerns it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from genmodels.data.images import ImageData, ImageSet, to_uint8
from genmodels.metrics.accuracy import BATCH
from genmodels.metrics.features import FeatureSpace
from genmodels.models.classifier import Classifier
from genmodels.models.generative import GenerativeModel
from genmodels.randomness import generator


@dataclass(frozen=True)
class Evaluation:
    """The data of a run, and how thoroughly to look. A model's samples are made once, and kept till another asks."""

    data: ImageData
    kl_weight: float | None = (
        None  # what a nat of code cost in training, if its objective says so; 1 is the ELBO
    )
    k: int = 500  # importance samples for each image
    n: int = 2000  # test images, drawn at random, for metrics that are too slow for all of them
    samples: int = 10_000  # images that the model generates, at temperature 1
    seed: int = 0  # of the noise, where a metric has any to choose
    judge: Callable[[], Classifier | None] = lambda: (
        None
    )  # a classifier trained on these data, if there is one
    features: Callable[[], FeatureSpace] | None = None  # in which sets of images are compared
    school: Callable[[ImageSet], Classifier] | None = (
        None  # trains a classifier like the judge on other images
    )
    _kept: dict[str, Any] = field(default_factory=dict, init=False, compare=False)

    def once(self, model: nn.Module, what: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call for this model, and kept until there is one for another."""
        if self._kept.get("model") is not model:
            self._kept.clear()
            self._kept["model"] = model
        if what not in self._kept:
            self._kept[what] = make()
        return self._kept[what]

    def sampled(self, model: GenerativeModel) -> ImageSet:
        """`samples` images that the model makes, of all classes in turn if it knows any, always of the same noise for
        the same seed. In 256 levels, as real images are."""
        return self.once(
            model,
            "samples",
            lambda: sample(model, self.samples, self.seed, len(self.data.spec.classes)),
        )


@torch.no_grad()
def sample(model: GenerativeModel, count: int, seed: int, classes: int) -> ImageSet:
    """Images (count, C, H, W) at temperature 1, asked for `classes` in turn (labels -1 if there are none)."""
    labels = torch.arange(count) % classes if classes else torch.full((count,), -1)
    noise, images = generator(seed, "judged samples"), []
    for some in labels.split(BATCH):
        z = model.prior(len(some), generator=noise)
        images.append(to_uint8(model.generate(z, some.to(z.device))).cpu())
    return ImageSet(torch.cat(images), labels, torch.arange(count), device=model.device)
