"""The metrics: (model, Evaluation) -> numbers. To add one, write it and enter it here."""

from genmodels.metrics import accuracy, collapse, conditional, diagnosis, likelihood, sample_quality
from genmodels.registry import Spec

METRICS = {
    "elbo": Spec(likelihood.elbo, data=True),
    "collapse": Spec(collapse.collapse, data=True),
    "verdict": Spec(diagnosis.verdict, data=True),
    "reconstruction": Spec(likelihood.reconstruction, data=True),
    "iwae": Spec(likelihood.iwae, data=True, slow=True),
    "leakage": Spec(conditional.leakage, data=True, labels=True),
    "elbo_classification": Spec(
        conditional.elbo_classification, conditional=True, data=True, labels=True
    ),
    "accuracy": Spec(accuracy.accuracy, data=True, labels=True),
    "fd": Spec(sample_quality.fd, data=True, features=True),
    "kid": Spec(sample_quality.kid, data=True, features=True),
    "prdc": Spec(sample_quality.prdc, data=True, features=True),
    "class_accuracy": Spec(
        sample_quality.class_accuracy, conditional=True, data=True, labels=True, classifier=True
    ),
    "class_shares": Spec(sample_quality.class_shares, data=True, labels=True, classifier=True),
    "gan_train": Spec(
        sample_quality.gan_train, conditional=True, data=True, labels=True, slow=True
    ),
    "memorisation": Spec(sample_quality.memorisation, data=True, slow=True),
}
RENAMED: dict[str, str] = {}
