"""What figures are asked with: the same few options for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genmodels.data.images import ImageSet
from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import Prior


@dataclass(frozen=True)
class FigureOptions:
    """Options of all figures; each figure takes those that concern it."""

    n: int = 100  # how many images, or rows: figures that read better with fewer show fewer
    seed: int = 0  # of the noise
    temperature: float = 1.0  # the prior's variance
    density: Prior | None = None  # what z is drawn from; None: the model's own prior
    center: Sequence[float] | None = None  # of a region of the latent space; None: the prior's
    stddev: float = 0.3  # of that region
    labels: Sequence[int] | None = None  # classes to make, of conditional models; None: all, or any
    test: ImageSet | None = None  # the test split; None where there are no data
    train: ImageSet | None = None  # the training split, likewise
    classes: Sequence[str] = ()  # names of the labels
    run: Path | None = (
        None  # the run's folder, with what it kept as it trained; None: there is none
    )

    def prior_of(self, model: GenerativeModel) -> Prior:
        """What z is drawn from for images of this model."""
        return model.prior if self.density is None else self.density

    def class_name(self, label: int) -> str:
        """A label's name, "" where the data have none."""
        return self.classes[label] if 0 <= label < len(self.classes) else ""
