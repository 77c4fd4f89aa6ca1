"""How often a classifier is right, and how far the members of a class are from each other. Accuracies are shares in
[0, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.models.classifier import Classifier

if TYPE_CHECKING:
    from genmodels.metrics.evaluation import Evaluation

BATCH = 500


class Answers:
    """What a classifier says of labelled images, counted batch by batch."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.confusion = torch.zeros(
            model.num_classes, model.num_classes, dtype=torch.long
        )  # a row a true class
        self._log_probability = 0.0  # of the true classes, summed over the images

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor) -> Tensor:
        """Count the answers to images (B, C, H, W) of classes (B,); returns the images' features (B, F)."""
        features = self.model.features(images)
        answer = self.model.classify(features)
        pairs = labels * self.model.num_classes + answer.logits.argmax(dim=1)
        self.confusion += torch.bincount(pairs.cpu(), minlength=self.confusion.numel()).view_as(
            self.confusion
        )
        self._log_probability += answer.log_prob(labels).double().sum().item()
        return features

    def numbers(self) -> dict[str, float]:
        """`accuracy`, the share of right answers, with its binomial standard error; `nll`, the mean of -log p(class|x)
        in nats per image; the number `n` of images."""
        n = int(self.confusion.sum())
        share = int(self.confusion.diagonal().sum()) / n
        return {
            "accuracy": share,
            "accuracy_standard_error": (share * (1 - share) / n) ** 0.5,
            "nll": -self._log_probability / n,
            "n": n,
        }

    def by_class(self) -> Tensor:
        """The share of right answers for each true class, (K,) float64; NaN where there is no image of it."""
        return self.confusion.diagonal().double() / self.confusion.sum(dim=1)


class Spread:
    """The root mean square distance between two members of each class, from sums over the members alone.

    The mean of |a - b|^2 over all pairs of n is 2 n / (n - 1) (mean |x|^2 - |mean x|^2). Float64 on the CPU.
    """

    def __init__(self, classes: int) -> None:
        self._count = torch.zeros(classes, dtype=torch.float64)
        self._square = torch.zeros(classes, dtype=torch.float64)  # sums of |x|^2
        self._total: Tensor | float = 0.0  # sums of x, (K, F)

    def add(self, values: Tensor, labels: Tensor) -> None:
        """Add members (B, ...) of classes (B,)."""
        values = values.flatten(1).cpu().double()  # (B, F)
        member = F.one_hot(labels.cpu(), len(self._count)).double()  # (B, K)
        self._count += member.sum(dim=0)
        self._square += member.T @ values.square().sum(dim=1)
        self._total = self._total + member.T @ values

    def distance(self) -> Tensor:
        """(K,); NaN for a class of fewer than two."""
        mean = self._total / self._count[:, None]
        variance = (self._square / self._count - mean.square().sum(dim=1)).clamp(min=0)
        return torch.where(
            self._count > 1, 2 * self._count / (self._count - 1) * variance, torch.nan
        ).sqrt()


def evaluate(model: Classifier, part: ImageSet) -> dict[str, float]:
    """`Answers.numbers` of a labelled part."""
    return answers(model, part).numbers()


def accuracy(model: Classifier, evaluation: Evaluation) -> dict[str, float]:
    """`evaluate` on the test part."""
    return evaluate(model, evaluation.data.test)


def answers(model: Classifier, part: ImageSet) -> Answers:
    """What a classifier says of a labelled part."""
    found = Answers(model)
    for images, labels in part.batches(BATCH):
        found.add(images, labels)
    return found
