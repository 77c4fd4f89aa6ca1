"""The update of the in-domain classifier."""

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from genmodels.data.images import Batch, ImageSet
from genmodels.errors import require
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.predictions import predict
from genmodels.models.batch_norm_statistics import recompute_statistics
from genmodels.models.classifier import Classifier
from genmodels.trainers.updater import Updater


class ClassifierTrainer:
    """Trains a classifier by cross-entropy, in nats per image."""

    evaluates = ("accuracy", "nll")  # quantities that `evaluate` gives, to select by

    def __init__(
        self,
        model: Classifier,
        *,
        updater: Callable[..., Updater[Classifier]],
        label_smoothing: float,
    ) -> None:
        """Arguments:
        model: which is trained.
        updater: called with the model.
        label_smoothing: the share of a label that is spread over all classes (Szegedy et al. 2016,
            section 7).
        """
        require(
            0 <= label_smoothing < 1, "label_smoothing", label_smoothing, "a number >= 0 and < 1"
        )
        self.model = model
        self.label_smoothing = label_smoothing
        self.updater = updater(model=model)

    @property
    def inference_model(self) -> Classifier:
        """The model with averaged weights."""
        return self.updater.average

    def plan(self, step: int, total: int) -> dict[str, float]:
        """What changes over time by plan: the learning rate."""
        return {"lr": self.updater.learning_rate(step, total)}

    def inputs(self, batch: Batch) -> Tensor:
        """The images (B, C, H, W) as the model sees them."""
        return batch.images

    def update(self, batch: Batch, step: int, total: int) -> dict[str, Tensor]:
        """One step on a batch.

        Returns the loss in nats per image, the share of right answers, the gradient's norm, and
        whether it was clipped.
        """
        with self.updater.autocast():
            prediction = self.model(self.inputs(batch))
        logits = prediction.logits  # (B, K)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        accuracy = (logits.argmax(dim=1) == batch.labels).float().mean()
        means = {"loss": loss.detach(), "accuracy": accuracy}
        means |= self.updater.update(loss, means, step, total)
        return means

    def recompute_statistics(self, batches: Iterable[Batch]) -> None:
        """BatchNorm's statistics of the averaged model."""
        model = self.inference_model
        recompute_statistics((model,), batches, lambda batch: model(self.inputs(batch)))

    def evaluate(self, split: ImageSet) -> dict[str, float]:
        """Accuracy and log-likelihood of the averaged model."""
        return predict(self.inference_model, split).numbers()

    def diagnose(self, evaluation: Evaluation) -> None:
        """There is no verdict on a classifier: its accuracy says all."""

    def facts(self) -> dict[str, Any]:
        """Nothing besides the settings."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """All that a continuation needs and that is not a function of the step."""
        return {"updater": self.updater.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.updater.load_state_dict(state["updater"])
