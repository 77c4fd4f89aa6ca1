"""The in-domain classifier, a reference for metrics: classes and features of images."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.distributions import Categorical

from genmodels.errors import require
from genmodels.models.blocks import check_widths, halved_sizes


class Classifier(nn.Module):
    """Stages that halve the side, a hidden layer of features, dropout, a linear layer.

    A stage is a convolution, a maximum over 2x2, BatchNorm (Ioffe & Szegedy 2015) and ReLU; the
    last stage has one convolution more.

    Arguments:
    image_shape: (C, H, W).
    num_classes: K, at least 2.
    widths: channels of the stages.
    hidden: features F.
    dropout: share of features that training hides.
    """

    def __init__(
        self,
        *,
        image_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int],
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        require(
            num_classes >= 2,
            "num_classes",
            num_classes,
            "an integer >= 2: data with labels of several classes",
        )
        check_widths(widths)
        require(hidden >= 1, "hidden", hidden, "an integer >= 1")
        require(0 <= dropout < 1, "dropout", dropout, "a number >= 0 and < 1")
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        *_, smallest = halved_sizes(image_shape, len(widths))

        # shapes are those of widths=[32, 64, 128] at 28x28
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for width in widths[:-1]:
            layers += _stage(channels, width)  # (B, 32, 14, 14), then (B, 64, 7, 7)
            channels = width
        last = widths[-1]
        layers += [_convolution(channels, last), nn.BatchNorm2d(last), nn.ReLU()]  # (B, 128, 7, 7)
        layers += _stage(last, last)  # (B, 128, 4, 4)
        layers += [nn.Flatten(), nn.Linear(last * math.prod(smallest), hidden), nn.ReLU()]  # (B, F)
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, num_classes))  # (B, K)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer for images (B, C, H, W) in [0, 1]: (B, F) >= 0, F = hidden."""
        return self.body(images).float()

    def forward(self, images: Tensor) -> Categorical:
        """p(class|x) for images (B, C, H, W) in [0, 1], of batch shape (B,) over K classes."""
        return self.classify(self.features(images))

    def classify(self, features: Tensor) -> Categorical:
        """p(class|x) from the features (B, F) of images."""
        logits = self.head(features).float()  # (B, K)
        # the trainer's message for a NaN is better than that of a validation
        return Categorical(logits=logits, validate_args=False)


def _stage(inputs: int, outputs: int) -> list[nn.Module]:
    """Pools first: the same up to the sign of BatchNorm's scale, at a quarter of its cost."""
    return [
        _convolution(inputs, outputs),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
