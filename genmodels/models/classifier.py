"""The in-domain classifier: which class an image is of, and features in which images can be compared.

It generates nothing; metrics judge by it what others generate.
"""

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Categorical

from genmodels.errors import require
from genmodels.models.blocks import halvings


class Classifier(nn.Module):
    """Stages of a convolution, a maximum over 2x2 that halves the side, and BatchNorm (Ioffe & Szegedy 2015), the last
    with one convolution more; a hidden layer, whose units are the features; dropout; a linear layer."""

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int],
        hidden: int,
        dropout: float,
    ) -> None:
        """image_shape: (C, H, W). widths: channels of the stages. hidden: features. dropout: the share of features
        that training hides."""
        super().__init__()
        require(
            num_classes >= 2,
            "num_classes",
            num_classes,
            "an integer >= 2: data with labels of several classes",
        )
        require(
            bool(widths) and min(widths) >= 1,
            "widths",
            list(widths),
            "a list of at least one integer >= 1",
        )
        require(hidden >= 1, "hidden", hidden, "an integer >= 1")
        require(0 <= dropout < 1, "dropout", dropout, "a number >= 0 and < 1")
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        channels, *sides = image_shape
        last = math.prod(
            halvings(side, len(widths))[-1] for side in sides
        )  # pixels after the stages
        *stages, (narrow, wide) = itertools.pairwise([channels, *widths])
        self.body = nn.Sequential(
            *[layer for stage in stages for layer in _stage(*stage)],
            _convolution(narrow, wide),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            *_stage(wide, wide),
            nn.Flatten(),
            nn.Linear(wide * last, hidden),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, num_classes))

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer for images (B, C, H, W) in [0, 1]: (B, F) >= 0, F = hidden."""
        return self.body(images).float()

    def forward(self, images: Tensor) -> Categorical:
        """p(class|x) for images (B, C, H, W) in [0, 1], of batch shape (B,) over K classes."""
        return self.classify(self.features(images))

    def classify(self, features: Tensor) -> Categorical:
        """p(class|x) from the features (B, F) of images."""
        return Categorical(
            logits=self.head(features).float(), validate_args=False
        )  # the trainer names a NaN better


def _stage(narrow: int, wide: int) -> list[nn.Module]:
    """Pooled before it is normalised: the same up to the sign of BatchNorm's scale, at a quarter of its cost."""
    return [
        _convolution(narrow, wide),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.BatchNorm2d(wide),
        nn.ReLU(),
    ]


def _convolution(narrow: int, wide: int) -> nn.Conv2d:
    return nn.Conv2d(narrow, wide, 3, padding=1, bias=False)
