"""What the metrics of one model share: data, how thorough they are, and what is computed once."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn

from genmodels.data.images import EVALUATION_BATCH, ImageData, ImageSet, to_uint8
from genmodels.metrics.diversity import ClassDiversity
from genmodels.metrics.features import FeatureSpace
from genmodels.metrics.predictions import Predictions
from genmodels.models.classifier import Classifier
from genmodels.models.generative import GenerativeModel
from genmodels.models.vae import VAE
from genmodels.randomness import generator


class ClassPredictions:
    """What a classifier says of images, and how different those of a class are."""

    def __init__(self, classifier: Classifier, images: ImageSet) -> None:
        self.predictions = Predictions(classifier)
        self.feature_diversity = ClassDiversity(classifier.num_classes)
        self.pixel_diversity = ClassDiversity(classifier.num_classes)
        for batch, labels in images.batches(EVALUATION_BATCH):
            features = self.predictions.add(batch, labels)
            self.feature_diversity.add(features, labels)
            self.pixel_diversity.add(batch, labels)


class Evaluation:
    """The context of one model's metrics. Samples, their features and predictions are made once."""

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        *,
        split: str = "test",
        kl_weight: float | None = None,
        binarised_training: bool | None = None,
        k: int = 500,
        n: int = 2000,
        samples: int = 10_000,
        seed: int = 0,
        classifier: Callable[[], Classifier | None] = lambda: None,
        feature_space: Callable[[], FeatureSpace] | None = None,
        train_classifier: Callable[[ImageSet], Classifier] | None = None,
    ) -> None:
        """Arguments:
        model: which is measured.
        data: on which it was trained.
        split: on whose images metrics measure: "test", "validation" or "train".
        kl_weight: what a nat of KL cost in training, where the objective says so; 1 is the ELBO.
        binarised_training: whether training drew gray images black and white; None: unknown.
        k: importance samples for each image.
        n: images, drawn at random, for metrics that are too slow for all of them.
        samples: images that the model generates, at temperature 1.
        seed: of the noise, where a metric has any to choose.
        classifier: gives the reference classifier of these data, or None.
        feature_space: gives the features in which sets of images are compared.
        train_classifier: trains a classifier like the reference classifier on other images.
        """
        self.model = model
        self.data = data
        self.split_name = split
        self.split = data.splits[split]
        self.kl_weight = kl_weight
        self.binarised_training = binarised_training
        self.k = k
        self.n = n
        self.samples = samples
        self.seed = seed
        self._classifier = classifier
        self._feature_space = feature_space
        self._train_classifier = train_classifier

    @property
    def trained_on_gray(self) -> bool:
        """Whether evaluations draw images black and white that training left gray."""
        draws = isinstance(self.model, VAE) and self.model.binary
        return draws and self.binarised_training is False

    @property
    def held_out_name(self) -> str:
        """The other split that neither models nor the reference classifier were trained on:
        validation, or test where metrics measure on validation images."""
        return "test" if self.split_name == "validation" else "validation"

    @property
    def held_out(self) -> ImageSet:
        """The images of that split."""
        return self.data.splits[self.held_out_name]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; empty where the data have no labels."""
        return self.data.spec.classes

    @cached_property
    def classifier(self) -> Classifier | None:
        """The reference classifier, if there is one."""
        return self._classifier()

    @cached_property
    def feature_space(self) -> FeatureSpace:
        """The features in which images are compared."""
        assert self._feature_space is not None, "asked only where there is one"
        return self._feature_space()

    @cached_property
    def generated(self) -> ImageSet:
        """`samples` images that the model makes, of all classes in turn if there are any, always of
        the same noise for the same seed; in 256 levels, as real images are."""
        assert isinstance(self.model, GenerativeModel)
        return generate(self.model, self.samples, self.seed, len(self.classes))

    @cached_property
    def generated_features(self) -> Tensor:
        """Features (samples, F) of the generated images, float64."""
        return self.feature_space.features_of(self.generated)

    @property
    def split_features(self) -> Tensor:
        """Features (N, F) of the images that metrics measure on, float64."""
        return self.feature_space.real(self.split_name)

    @cached_property
    def generated_predictions(self) -> ClassPredictions:
        """What the reference classifier says of the generated images."""
        return ClassPredictions(self.require_classifier(), self.generated)

    def require_classifier(self) -> Classifier:
        """The reference classifier, where there must be one."""
        assert self.classifier is not None, "asked only where there is one"
        return self.classifier

    def train_classifier(self, images: ImageSet) -> Classifier:
        """A classifier like the reference classifier, trained on these labelled images."""
        assert self._train_classifier is not None, "asked only where it can be trained"
        return self._train_classifier(images)


@torch.no_grad()
def generate(model: GenerativeModel, count: int, seed: int, classes: int) -> ImageSet:
    """Images at temperature 1, of `classes` in turn.

    Returns (count, C, H, W) uint8 with the labels that were asked for, -1 without classes.
    """
    labels = torch.arange(count) % classes if classes else torch.full((count,), -1)
    noise = generator(seed, "scored samples")
    images = []
    for some in labels.split(EVALUATION_BATCH):
        z = model.prior.sample(len(some), generator=noise, labels=some)
        generated = model.generate(z, some.to(z.device))
        images.append(to_uint8(generated).cpu())
    return ImageSet(torch.cat(images), labels, torch.arange(count), device=model.device)
