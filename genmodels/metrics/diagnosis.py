"""The verdict on a model of any family. A new family may register a diagnosis of its own."""

from dataclasses import asdict
from functools import singledispatch
from typing import Any

from genmodels.metrics import gan_diagnosis, vae_diagnosis
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.verdict import Verdict
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE


@singledispatch
def diagnose(model: GenerativeModel, evaluation: Evaluation) -> Verdict:
    """The verdict by a model's samples alone, for families that have no diagnosis of their own."""
    diagnosis = gan_diagnosis.diagnose(model, evaluation)
    return gan_diagnosis.verdict_on(diagnosis)


@diagnose.register
def _(model: VAE, evaluation: Evaluation) -> Verdict:
    diagnosis = vae_diagnosis.diagnose(model, evaluation)
    return vae_diagnosis.verdict_on(diagnosis)


def verdict(model: GenerativeModel, evaluation: Evaluation) -> dict[str, Any]:
    """The verdict as a metric: `label` and `sentences`."""
    return asdict(diagnose(model, evaluation))
