"""Features of images, in which generated and real ones are compared: of the classifier of the data, of pixels, or of
Inception. A score means nothing without the name and the checksum of what saw it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from genmodels import safetensors_io
from genmodels.data.images import ImageData, ImageSet, to_uint8
from genmodels.metrics.accuracy import BATCH, evaluate
from genmodels.models.classifier import Classifier
from genmodels.randomness import CONSTANT_SEED, derive_seed, generator

COMPONENTS = 64  # principal components of pixels
FITTED = 5000  # training images that they are fitted to
INCEPTION = "2048"  # torch-fidelity's name of the last pooling layer, of which the published FID is


@dataclass(frozen=True)
class FeatureSpace:
    """A map of images to features, and the real images' places in it."""

    name: str
    checksum: str  # of what the map is made of
    extract: Callable[[Tensor], Tensor]  # images (B, C, H, W) in [0, 1] -> (B, F)
    data: ImageData
    facts: dict[str, Any] = field(default_factory=dict)  # what else is to be stated with each score
    _kept: dict[Any, Any] = field(default_factory=dict, init=False, compare=False)

    def once(self, what: Any, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call: what all models are compared with."""
        if what not in self._kept:
            self._kept[what] = make()
        return self._kept[what]

    def of(self, part: ImageSet) -> Tensor:
        """Features (N, F) of a part's images, float64 on the CPU."""
        with torch.no_grad():
            return torch.cat(
                [self.extract(images).cpu().double() for images, _ in part.batches(BATCH)]
            )

    @property
    def test(self) -> Tensor:
        """Those of the test part, (M, F)."""
        return self.once("test", lambda: self.of(self.data.test))

    @property
    def validation(self) -> Tensor:
        """Those of the validation part, (M, F)."""
        return self.once("validation", lambda: self.of(self.data.validation))

    def train(self, count: int) -> Tensor:
        """Those of `count` training images (all, if there are fewer), drawn at random with a constant seed."""
        part = self.data.train.drawn(count, generator(CONSTANT_SEED, "drawn"))
        return self.once(("train", count), lambda: self.of(part))

    def label(self) -> dict[str, Any]:
        """What every score must be quoted with."""
        return {"seen_by": {"features": self.name, "crc32": self.checksum} | self.facts}


def of_classifier(classifier: Classifier, data: ImageData) -> FeatureSpace:
    """The penultimate layer of a classifier of the same data."""
    return FeatureSpace(
        "classifier",
        checksum_of(classifier.state_dict()),
        classifier.features,
        data,
        {"accuracy": evaluate(classifier, data.test)["accuracy"]},
    )


def of_pixels(data: ImageData) -> FeatureSpace:
    """The first principal components of the training images' pixels: a baseline that knows no shapes."""
    from sklearn.decomposition import PCA  # slow to import

    part = data.train.drawn(FITTED, generator(CONSTANT_SEED, "drawn"))
    pixels = torch.cat([images.flatten(1).cpu() for images, _ in part.batches(BATCH)])  # (N, P)
    found = PCA(
        min(COMPONENTS, *pixels.shape), random_state=derive_seed(CONSTANT_SEED, "components")
    ).fit(pixels)
    components, mean = (
        torch.from_numpy(found.components_).double(),
        torch.from_numpy(found.mean_).double(),
    )
    return FeatureSpace(
        "pixels",
        checksum_of({"components": components, "mean": mean}),
        lambda images: (images.flatten(1).cpu().double() - mean) @ components.T,
        data,
        {"explained_variance": float(found.explained_variance_ratio_.sum())},
    )


def of_inception(data: ImageData) -> FeatureSpace:
    """The last pooling layer of Inception-v3 with the published weights, as torch-fidelity has it: of the usual FID.

    Raises ValueError where that package or its weights, which it fetches once, cannot be had.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (
            FeatureExtractorInceptionV3,
        )  # an extra

        network = (
            FeatureExtractorInceptionV3("inception", [INCEPTION])
            .to(data.train.images.device)
            .eval()
        )
    except ImportError:
        raise ValueError(
            "features=inception: needs torch-fidelity: uv sync --extra inception, or pip install "
            "torch-fidelity"
        ) from None
    except OSError as error:
        raise ValueError(f"features=inception: its weights cannot be fetched ({error})") from None
    return FeatureSpace(
        "inception",
        checksum_of(network.state_dict()),
        lambda images: network(to_uint8(images.expand(-1, 3, -1, -1)))[0],
        data,
    )


def usual(classes: Sequence[str]) -> str:
    """The name of the features to take where none is said: those of the classifier, if the data have labels."""
    return "classifier" if classes else "pixels"


def checksum_of(tensors: dict[str, Tensor]) -> str:
    """Of weights, in hex."""
    return f"{safetensors_io.checksum(tensors):08x}"
