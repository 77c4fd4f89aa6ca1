"""The metrics: (model, Evidence) -> numbers, all with this one signature. To add one, write it and enter it here."""

from genmodels.catalogue import Entry
from genmodels.metrics import collapse, likelihood, verdict

METRICS = {
    "elbo": Entry(likelihood.elbo, needs="encode", data=True),
    "collapse": Entry(collapse.collapse, needs="encode", data=True),
    "verdict": Entry(verdict.verdict, needs="encode", data=True),
    "iwae": Entry(likelihood.iwae, needs="encode", data=True, slow=True),
}
