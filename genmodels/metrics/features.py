"""Features of images, in which generated and real images are compared.

Of the reference classifier, of pixels, or of Inception. A score means nothing without the name and
the checksum of the network that gives the features.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from genmodels import safetensors_io
from genmodels.data.images import EVALUATION_BATCH, ImageData, ImageSet, to_uint8
from genmodels.errors import TooFewError
from genmodels.metrics.predictions import predict
from genmodels.models.classifier import Classifier
from genmodels.randomness import CONSTANT_SEED, derive_seed, generator

MAX_REAL_IMAGES = 50_000  # of a larger split so many are drawn: what is held stays below 1 GB
COMPONENTS = 64  # principal components of pixels
FITTED_IMAGES = 5000  # training images that they are fitted to
INCEPTION_LAYER = (
    "2048"  # torch-fidelity's name of the last pooling layer, that of the published FID
)


class FeatureSpace:
    """A map from images to features, with the features of the real images."""

    def __init__(
        self,
        name: str,
        checksum: str,
        extract: Callable[[Tensor], Tensor],
        data: ImageData,
        **facts: Any,
    ) -> None:
        """Arguments:
        name: of the kind of features.
        checksum: of the weights that make them.
        extract: images (B, C, H, W) in [0, 1] -> features (B, F).
        data: the real images.
        facts: what else is to be stated with each score.
        """
        self.name = name
        self.checksum = checksum
        self.data = data
        self.facts = facts
        self._extract = extract
        self._real: dict[str, Tensor] = {}
        self._floors: dict[tuple[str, str, int], float | None] = {}

    @torch.no_grad()
    def features_of(self, images: ImageSet) -> Tensor:
        """Features (N, F), float64 on the CPU."""
        batches = images.batches(EVALUATION_BATCH)
        return torch.cat([self._extract(batch.images).cpu().double() for batch in batches])

    def real(self, split: str) -> Tensor:
        """Features (M, F) of the real images of a split, M <= MAX_REAL_IMAGES; computed once."""
        if split not in self._real:
            images = self.data.splits[split]
            if len(images) > MAX_REAL_IMAGES:
                draw = generator(CONSTANT_SEED, "real images")
                images = images.subset(MAX_REAL_IMAGES, draw, in_order=True)
            self._real[split] = self.features_of(images)
        return self._real[split]

    def floor(
        self,
        score: str,
        distance: Callable[[Tensor, Tensor], float],
        held_out: ImageSet,
        split: str,
    ) -> float | None:
        """What real images score in the place of generated ones, computed once for a number of
        them; None where they are too few.

        Arguments:
        score: its name.
        distance: of features (N, F) of generated images from those (M, F) of real ones.
        held_out: images that the features were not fitted to, as samples are not.
        split: the name of the real images' split, another one.
        """
        key = (score, split, len(held_out))
        if key not in self._floors:
            try:
                self._floors[key] = distance(self.features_of(held_out), self.real(split))
            except TooFewError:
                self._floors[key] = None
        return self._floors[key]

    def label(self) -> dict[str, Any]:
        """What every score must be quoted with."""
        return {"features": {"name": self.name, "crc32": self.checksum, **self.facts}}


def of_classifier(classifier: Classifier, data: ImageData) -> FeatureSpace:
    """The penultimate layer of a classifier of the same data."""
    accuracy = predict(classifier, data.test).numbers()["accuracy"]
    checksum = checksum_of(classifier.state_dict())
    return FeatureSpace("classifier", checksum, classifier.features, data, accuracy=accuracy)


def of_pixels(data: ImageData) -> FeatureSpace:
    """The first principal components of the training images' pixels: a baseline without shapes."""
    from sklearn.decomposition import PCA  # slow to import

    images = data.train.subset(FITTED_IMAGES, generator(CONSTANT_SEED, "drawn"))
    batches = images.batches(EVALUATION_BATCH)
    pixels = torch.cat([batch.images.flatten(1).cpu() for batch in batches])  # (N, P)
    seed = derive_seed(CONSTANT_SEED, "components")
    fitted = PCA(min(COMPONENTS, *pixels.shape), random_state=seed).fit(pixels)
    components = torch.from_numpy(fitted.components_).double()  # (F, P)
    mean = torch.from_numpy(fitted.mean_).double()  # (P,)

    def extract(images: Tensor) -> Tensor:
        return (images.flatten(1).cpu().double() - mean) @ components.T

    checksum = checksum_of({"components": components, "mean": mean})
    explained = float(fitted.explained_variance_ratio_.sum())
    return FeatureSpace("pixels", checksum, extract, data, explained_variance=explained)


def of_inception(data: ImageData) -> FeatureSpace:
    """The last pooling layer of Inception-v3 with the published weights, that of the usual FID.

    Raises ValueError where torch-fidelity or its weights, which it fetches once, cannot be had.
    """
    device = data.train.images.device
    require_package("inception")
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (  # an extra
            FeatureExtractorInceptionV3,
        )

        network = FeatureExtractorInceptionV3("inception", [INCEPTION_LAYER]).to(device).eval()
    except OSError as error:
        raise ValueError(f"features=inception: its weights cannot be fetched ({error})") from None

    def extract(images: Tensor) -> Tensor:
        rgb = images.expand(-1, 3, -1, -1)
        return network(to_uint8(rgb))[0]

    return FeatureSpace("inception", checksum_of(network.state_dict()), extract, data)


def require_package(features: str | None) -> None:
    """Raise ValueError where features need a package that is not installed."""
    if features == "inception" and importlib.util.find_spec("torch_fidelity") is None:
        raise ValueError(
            "features=inception: needs torch-fidelity: uv sync --extra inception, or pip install "
            "torch-fidelity"
        )


def default_features(classes: Sequence[str]) -> str:
    """The name of the default features: those of the classifier, if the data have labels."""
    return "classifier" if classes else "pixels"


def checksum_of(tensors: Mapping[str, Tensor]) -> str:
    """The checksum of weights, in hex."""
    return f"{safetensors_io.checksum(tensors):08x}"
