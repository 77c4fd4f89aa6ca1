"""Metrics that are part of every evaluation as a run trains: scores of samples, and others."""

from collections.abc import Callable

from torch import nn

from genmodels.data.images import ImageData
from genmodels.errors import require
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.features import FeatureSpace, require_package
from genmodels.metrics.registry import METRICS
from genmodels.models.classifier import Classifier
from genmodels.quantities import QUANTITIES
from genmodels.randomness import CONSTANT_SEED
from genmodels.trainers.loop import Score, Trainer

SAMPLES = 2000  # that the model generates for each evaluation
SAMPLE_SCORES = ("fd", "kid")  # quantities that `features` asks for of any model


def selectable(trainer: Trainer) -> list[str]:
    """The quantities that a trainer's model can be selected by."""
    names = []
    for name, quantity in QUANTITIES.items():
        if quantity.metric is not None:
            suits = METRICS[quantity.metric].suits(trainer.inference_model)
        else:
            suits = name in trainer.evaluates
        if suits and quantity.better != 0:
            names.append(name)
    return names


def check_selection(trainer: Trainer, features: str | None, select: str | None) -> None:
    """Raise ValueError where evaluations of this model cannot have these numbers."""
    names = selectable(trainer)
    kind = type(trainer.inference_model).__name__
    known = ", ".join([*names, "null"])
    require(select in (None, *names), "select", select, f"one of {known} for a {kind}")
    require(features is None or "fd" in names, "features", features, f"null for a {kind}")
    require_package(features)


def quantities_to_score(model: nn.Module, features: str | None, select: str | None) -> list[str]:
    """The quantities that evaluations of a model take from metrics, by the settings of a run."""
    names = list(SAMPLE_SCORES) if features is not None else []
    if features == "classifier" and METRICS["class_accuracy"].suits(model):
        names.append("class_accuracy")
    if select is not None and QUANTITIES[select].metric is not None:
        names += SAMPLE_SCORES if select in SAMPLE_SCORES else [select]
    return list(dict.fromkeys(names))


def make_score(
    names: list[str],
    data: ImageData,
    feature_space: Callable[[], FeatureSpace],
    classifier: Callable[[], Classifier | None],
) -> Score:
    """A function from a model to these quantities on the validation split.

    Arguments:
    names: of quantities that metrics give.
    data: of the run.
    feature_space: gives the features, for scores of samples.
    classifier: gives the reference classifier of these data, or None.

    Raises ValueError where the validation split has too few images for a Frechet distance.
    """
    if "fd" in names:
        validation = feature_space().real("validation")
        count, units = validation.shape
        require(
            count > units,
            "features",
            feature_space().name,
            f"left out with {count} validation images, which are too few for {units} features",
        )

    def score(model: nn.Module) -> dict[str, float]:
        """The chosen quantities of a model, on the validation split."""
        evaluation = Evaluation(
            model,
            data,
            split="validation",
            samples=SAMPLES,
            seed=CONSTANT_SEED,
            classifier=classifier,
            feature_space=feature_space,
        )
        scores = {}
        for name in names:
            quantity = QUANTITIES[name]
            numbers = METRICS[quantity.metric or ""].call(model, evaluation)
            scores[name] = numbers[quantity.key or name]
        return scores

    return score
