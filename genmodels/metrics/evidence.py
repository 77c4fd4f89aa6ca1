"""What metrics judge by, the same for all of them; each takes what concerns it."""

from collections.abc import Callable
from dataclasses import dataclass

from genmodels.data.images import ImageData
from genmodels.models.classifier import Classifier


@dataclass(frozen=True)
class Evidence:
    """The data of a run, and how thoroughly to look."""

    data: ImageData
    kl_weight: float | None = None  # what a nat of code cost in training, if its objective says so; 1 is the ELBO
    k: int = 500                    # importance samples for each image
    n: int = 2000                   # test images, drawn at random, for metrics that are too slow for all of them
    seed: int = 0                   # of the noise, where a metric has any to choose
    judge: Callable[[], Classifier] | None = None   # a classifier trained on these data; None: there is none
