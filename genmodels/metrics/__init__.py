"""The metrics: (model, Evidence) -> numbers, all with this one signature. To add one, write it and enter it here."""

from genmodels.catalogue import Entry
from genmodels.metrics import likelihood

METRICS = {
    "elbo": Entry(likelihood.elbo, needs="encode", data=True),
}
