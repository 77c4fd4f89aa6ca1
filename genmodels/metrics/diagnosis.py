"""The verdict on a model of any family. A new family may register a diagnosis of its own."""

from dataclasses import asdict, replace
from functools import singledispatch
from typing import Any

from genmodels.metrics import gan_diagnosis, vae_diagnosis
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import Verdict
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE

TRAINED_ON_GRAY = (
    "It was trained on gray values (trainer.binarise=false) and is evaluated, like all models of "
    "this likelihood, on images drawn black and white, which it has never seen."
)


@singledispatch
def diagnose(model: GenerativeModel, evaluation: Evaluation) -> Verdict:
    """The verdict by a model's samples alone, for families that have no diagnosis of their own."""
    diagnosis = gan_diagnosis.diagnose(model, evaluation)
    return gan_diagnosis.verdict_on(diagnosis)


@diagnose.register
def _(model: VAE, evaluation: Evaluation) -> Verdict:
    diagnosis = vae_diagnosis.diagnose(model, evaluation)
    verdict = vae_diagnosis.verdict_on(diagnosis)
    if evaluation.trained_on_gray:
        sentences = [*verdict.sentences, TRAINED_ON_GRAY]
        return replace(verdict, sentences=sentences)
    return verdict


def verdict(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """The verdict as a metric: `label` and `sentences`."""
    return asdict(diagnose(model, evaluation))
