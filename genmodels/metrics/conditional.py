"""What a label does in a latent-variable model: how much of it is left in z, and whether the decoder listens to it."""

import torch
from torch import Tensor

from genmodels.losses.vae import elbo_terms
from genmodels.metrics.aggregated_posterior import Posteriors, posteriors
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.likelihood import observed
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

PROBED = 10_000  # training images, drawn at random, that the probe learns from
BOUNDS = 20_000  # that a classification computes at most, one for each image and class


def leakage(model: VAE, evaluation: Evaluation) -> dict[str, float]:
    """How well a linear probe reads the label from z: `probe` of posterior means of training and test images.

    A VAE's z holds much of the label. A good conditional model's z holds none, as its decoder is told the label anyway:
    accuracy near chance. Where it is not, z and label disagree when samples combine them freely.
    """
    train = evaluation.data.train.subset(PROBED, generator(CONSTANT_SEED, "drawn"))
    return probe(posteriors(model, train), posteriors(model, evaluation.split))


def probe(train: Posteriors, test: Posteriors) -> dict[str, float]:
    """Multinomial logistic regression from standardised posterior means to labels, learnt on `train`.

    Returns its `accuracy` on `test`, that of always saying the most frequent training label (`chance`), and the number
    `n` of test images.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    found = classifier.fit(train.mean.numpy(), train.labels.numpy()).predict(test.mean.numpy())
    return {
        "accuracy": (torch.from_numpy(found) == test.labels).double().mean().item(),
        "chance": (test.labels == train.labels.mode().values).double().mean().item(),
        "n": len(test.labels),
    }


def elbo_classification(model: VAE, evaluation: Evaluation) -> dict[str, float]:
    """Test images classified by the label under which the model explains them best, argmax_y ELBO(x, y).

    Bayes' rule with equal classes, the bound for log p(x|y). A model that ignores its label is at chance. Returns the
    `accuracy`, its `chance`, 1 / classes, and the number `n` of images, drawn at random; of many classes, fewer images.
    """
    count = min(evaluation.n, BOUNDS // model.num_classes)
    part = evaluation.split.subset(count, generator(CONSTANT_SEED, "drawn"))
    right = [
        class_elbos(model, images, index).argmax(dim=1) == labels
        for index, (images, labels) in enumerate(part.batches(500))
    ]
    return {
        "accuracy": torch.cat(right).double().mean().item(),
        "chance": 1 / model.num_classes,
        "n": len(part),
    }


@torch.no_grad()
def class_elbos(model: VAE, images: Tensor, step: int = 0) -> Tensor:
    """ELBO(x, y) of images (B, C, H, W) in [0, 1] for every class y, (B, num_classes) nats.

    Binarisation and noise are the same for all classes, and for the same step. Reseeds torch's global generators.
    """
    bounds = []
    for label in range(model.num_classes):
        reseed(CONSTANT_SEED, "class elbos", step)
        terms = elbo_terms(
            model, observed(model, images), torch.full((len(images),), label, device=images.device)
        )
        bounds.append(terms.elbo)
    return torch.stack(bounds, dim=1)
