"""What figures are asked with: the same few options for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genmodels.data.images import ImageSet
from genmodels.metrics.aggregated_posterior import Posteriors, posteriors
from genmodels.models.vae import VAE


@dataclass(frozen=True)
class FigureOptions:
    """Options of all figures; each figure uses those that concern it.

    Arguments:
    n: how many images, or rows; figures that read better with fewer show fewer.
    seed: of the noise.
    temperature: the prior's variance.
    center: of a region of the latent space, (D,); None for 0.
    stddev: standard deviation of that region.
    labels: the classes to make, for conditional models; None for all, or any.
    test: the test split; None where there are no data.
    train: the training split, likewise.
    classes: names of the labels.
    run: the run's folder, with what it kept as it trained; None where there is none.
    """

    n: int = 100
    seed: int = 0
    temperature: float = 1.0
    center: Sequence[float] | None = None
    stddev: float = 0.3
    labels: Sequence[int] | None = None
    test: ImageSet | None = None
    train: ImageSet | None = None
    classes: Sequence[str] = ()
    run: Path | None = None
    _posteriors: dict[VAE, Posteriors] = field(default_factory=dict, repr=False, compare=False)

    def posteriors(self, model: VAE) -> Posteriors:
        """q(z|x) of every test image, computed once for all figures of a model."""
        if model not in self._posteriors:
            assert self.test is not None
            self._posteriors[model] = posteriors(model, self.test)
        return self._posteriors[model]

    def class_name(self, label: int) -> str:
        """A label's name: its number where the data have no names, "" for no label."""
        if label < 0:
            return ""
        return self.classes[label] if label < len(self.classes) else str(label)
