"""The metrics: (model, Evidence) -> numbers, all with this one signature. To add one, write it and enter it here."""

from genmodels.catalogue import Entry
from genmodels.metrics import accuracy, collapse, conditional, health, likelihood

METRICS = {
    "elbo": Entry(likelihood.elbo, needs="encode", data=True),
    "collapse": Entry(collapse.collapse, needs="encode", data=True),
    "verdict": Entry(health.verdict, needs="generate", data=True),
    "iwae": Entry(likelihood.iwae, needs="encode", data=True, slow=True),
    "leakage": Entry(conditional.leakage, needs="encode", data=True, labels=True),
    "elbo_classification": Entry(conditional.elbo_classification, needs="encode num_classes", data=True, labels=True),
    "accuracy": Entry(accuracy.accuracy, needs="features", data=True, labels=True),
    "class_accuracy": Entry(accuracy.class_accuracy, needs="generate num_classes", data=True, labels=True, judge=True),
    "class_shares": Entry(accuracy.class_shares, needs="generate", data=True, labels=True, judge=True),
}
