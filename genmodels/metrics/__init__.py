"""The metrics: (model, Evaluation) -> numbers, all with this one signature. To add one, write it and enter it here."""

from genmodels.metrics import (
    accuracy,
    collapse,
    conditional,
    gan_diagnosis,
    likelihood,
    sample_quality,
)
from genmodels.registry import Entry

METRICS = {
    "elbo": Entry(likelihood.elbo, needs="encode", data=True),
    "collapse": Entry(collapse.collapse, needs="encode", data=True),
    "verdict": Entry(gan_diagnosis.verdict, needs="generate", data=True),
    "reconstruction": Entry(likelihood.reconstruction, needs="encode", data=True),
    "iwae": Entry(likelihood.iwae, needs="encode", data=True, slow=True),
    "leakage": Entry(conditional.leakage, needs="encode", data=True, labels=True),
    "elbo_classification": Entry(
        conditional.elbo_classification, needs="encode num_classes", data=True, labels=True
    ),
    "accuracy": Entry(accuracy.accuracy, needs="features", data=True, labels=True),
    "fd": Entry(sample_quality.fd, needs="generate", data=True, features=True),
    "kid": Entry(sample_quality.kid, needs="generate", data=True, features=True),
    "prdc": Entry(sample_quality.prdc, needs="generate", data=True, features=True),
    "class_accuracy": Entry(
        sample_quality.class_accuracy,
        needs="generate num_classes",
        data=True,
        labels=True,
        judge=True,
    ),
    "class_shares": Entry(
        sample_quality.class_shares, needs="generate", data=True, labels=True, judge=True
    ),
    "gan_train": Entry(
        sample_quality.gan_train, needs="generate num_classes", data=True, labels=True, slow=True
    ),
    "memorisation": Entry(sample_quality.memorisation, needs="generate", data=True, slow=True),
}
