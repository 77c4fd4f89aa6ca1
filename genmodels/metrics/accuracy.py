"""How often a classifier is right."""

from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.predictions import predict
from genmodels.models.classifier import Classifier


def accuracy(model: Classifier, evaluation: Evaluation) -> dict[str, float]:
    """`accuracy`, its standard error, `nll` and `n` on the evaluation's images."""
    predictions = predict(model, evaluation.split)
    return predictions.numbers()
