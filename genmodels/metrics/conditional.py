"""What labels do in a latent-variable model: how much of them z tells, and whether they count."""

import torch
from torch import Tensor

from genmodels.data.images import EVALUATION_BATCH
from genmodels.losses.vae import elbo_terms
from genmodels.metrics.aggregated_posterior import Posteriors, posteriors
from genmodels.metrics.evaluation import Evaluation
from genmodels.metrics.likelihood import binarise_for
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

PROBE_IMAGES = 10_000  # training images, drawn at random, that the probe learns from
MAX_BOUNDS = 20_000  # that a classification computes, one for each image and class


def leakage(model: VAE, evaluation: Evaluation) -> dict[str, float]:
    """How well a linear `probe` reads the label from the posterior means of images.

    A VAE's z holds much of the label. A good conditional model's z holds none, as its decoder is
    told the label anyway: the accuracy is near chance. Where it is not, z and label disagree when
    samples combine them freely.
    """
    train = evaluation.data.train.subset(PROBE_IMAGES, generator(CONSTANT_SEED, "drawn"))
    learnt_from = posteriors(model, train)
    return probe(learnt_from, posteriors(model, evaluation.split))


def probe(train: Posteriors, test: Posteriors) -> dict[str, float]:
    """Multinomial logistic regression from standardised posterior means to labels.

    Learnt on `train`. Returns its `accuracy` on `test`; `chance`, the accuracy of the most frequent
    training label; and the number `n` of test images.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(train.mean.numpy(), train.labels.numpy())
    predicted = torch.from_numpy(classifier.predict(test.mean.numpy()))
    most_frequent = train.labels.mode().values
    return {
        "accuracy": (predicted == test.labels).double().mean().item(),
        "chance": (test.labels == most_frequent).double().mean().item(),
        "n": len(test.labels),
    }


def elbo_classification(model: VAE, evaluation: Evaluation) -> dict[str, float]:
    """Images classified by the label under which the model explains them best, argmax ELBO(x, y).

    Bayes' rule with equal classes and the bound in the place of log p(x|y). A model that ignores
    its label is at chance. Returns the `accuracy`; `chance`, 1 / classes; and the number `n` of
    images, drawn at random: fewer where there are many classes.
    """
    count = min(evaluation.n, MAX_BOUNDS // model.num_classes)
    split = evaluation.split.subset(count, generator(CONSTANT_SEED, "drawn"))
    correct = []
    for index, (images, labels) in enumerate(split.batches(EVALUATION_BATCH)):
        predicted = class_elbos(model, images, index).argmax(dim=1)
        correct.append(predicted == labels)
    return {
        "accuracy": torch.cat(correct).double().mean().item(),
        "chance": 1 / model.num_classes,
        "n": len(split),
    }


@torch.no_grad()
def class_elbos(model: VAE, images: Tensor, step: int = 0) -> Tensor:
    """ELBO(x, y) of images (B, C, H, W) in [0, 1] for every class y, (B, num_classes) nats.

    Binarisation and noise are the same for all classes, and for the same step. Reseeds torch's
    global generators.
    """
    elbos = []
    for label in range(model.num_classes):
        reseed(CONSTANT_SEED, "class elbos", step)
        labels = torch.full((len(images),), label, device=images.device)
        terms = elbo_terms(model, binarise_for(model, images), labels)
        elbos.append(terms.elbo)
    return torch.stack(elbos, dim=1)
