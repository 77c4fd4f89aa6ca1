"""The metrics: (model, Evidence) -> numbers, all with this one signature. To add one, write it and enter it here."""

from genmodels.catalogue import Entry
from genmodels.metrics import conditional, likelihood

METRICS = {
    "elbo": Entry(likelihood.elbo, needs="encode", data=True),
    "leakage": Entry(conditional.leakage, needs="encode", data=True, labels=True),
    "elbo_classification": Entry(conditional.elbo_classification, needs="encode num_classes", data=True, labels=True),
}
