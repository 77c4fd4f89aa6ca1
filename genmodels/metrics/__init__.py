"""The metrics: (model, Evidence) -> numbers, all with this one signature. To add one, write it and enter it here."""

from genmodels.catalogue import Entry
from genmodels.metrics import accuracy, collapse, conditional, health, likelihood, samples

METRICS = {
    "elbo": Entry(likelihood.elbo, needs="encode", data=True),
    "collapse": Entry(collapse.collapse, needs="encode", data=True),
    "verdict": Entry(health.verdict, needs="generate", data=True),
    "reconstruction": Entry(likelihood.reconstruction, needs="encode", data=True),
    "iwae": Entry(likelihood.iwae, needs="encode", data=True, slow=True),
    "leakage": Entry(conditional.leakage, needs="encode", data=True, labels=True),
    "elbo_classification": Entry(
        conditional.elbo_classification, needs="encode num_classes", data=True, labels=True
    ),
    "accuracy": Entry(accuracy.accuracy, needs="features", data=True, labels=True),
    "fd": Entry(samples.fd, needs="generate", data=True, features=True),
    "kid": Entry(samples.kid, needs="generate", data=True, features=True),
    "prdc": Entry(samples.prdc, needs="generate", data=True, features=True),
    "class_accuracy": Entry(
        samples.class_accuracy, needs="generate num_classes", data=True, labels=True, judge=True
    ),
    "class_shares": Entry(
        samples.class_shares, needs="generate", data=True, labels=True, judge=True
    ),
    "gan_train": Entry(
        samples.gan_train, needs="generate num_classes", data=True, labels=True, slow=True
    ),
    "memorisation": Entry(samples.memorisation, needs="generate", data=True, slow=True),
}
