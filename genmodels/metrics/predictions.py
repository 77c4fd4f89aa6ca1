"""What a classifier says of labelled images, counted. Accuracies are shares in [0, 1]."""

import torch
from torch import Tensor

from genmodels.data.images import EVALUATION_BATCH, ImageSet
from genmodels.models.classifier import Classifier


class Predictions:
    """A classifier's predictions for labelled images, counted batch by batch."""

    def __init__(self, model: Classifier) -> None:
        classes = model.num_classes
        self.model = model
        self.confusion = torch.zeros(
            classes, classes, dtype=torch.long
        )  # a row for each true class
        self._log_probability = 0.0  # of the true classes, summed over the images

    @torch.no_grad()
    def add(self, images: Tensor, labels: Tensor) -> Tensor:
        """Count the predictions for images (B, C, H, W) of classes (B,).

        Returns the images' features (B, F).
        """
        features = self.model.features(images)
        prediction = self.model.classify(features)
        pairs = labels * self.model.num_classes + prediction.logits.argmax(dim=1)
        counts = torch.bincount(pairs.cpu(), minlength=self.confusion.numel())
        self.confusion += counts.view_as(self.confusion)
        self._log_probability += prediction.log_prob(labels).double().sum().item()
        return features

    def numbers(self) -> dict[str, float]:
        """`accuracy`, the share of right answers, with its binomial standard error; `nll`, the mean
        of -log p(class|x) in nats per image; the number `n` of images."""
        n = int(self.confusion.sum())
        share = int(self.confusion.diagonal().sum()) / n
        return {
            "accuracy": share,
            "accuracy_standard_error": (share * (1 - share) / n) ** 0.5,
            "nll": -self._log_probability / n,
            "n": n,
        }

    def by_class(self) -> Tensor:
        """The share of right answers for each true class, (K,) float64; NaN without its images."""
        return self.confusion.diagonal().double() / self.confusion.sum(dim=1)


def predict(model: Classifier, split: ImageSet) -> Predictions:
    """The predictions for all images of a labelled split."""
    predictions = Predictions(model)
    for images, labels in split.batches(EVALUATION_BATCH):
        predictions.add(images, labels)
    return predictions
