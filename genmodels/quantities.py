"""What is measured of models: the unit and direction of each number that is logged or compared."""

from dataclasses import dataclass

HIGHER, LOWER = 1, -1  # which is better


@dataclass(frozen=True)
class Quantity:
    """A number that training rows, evaluations or metrics have under its name in `QUANTITIES`."""

    label: str  # in titles and tables
    unit: str
    better: int = 0  # HIGHER or LOWER; 0 where neither is better in itself
    progress_bar: bool = False  # shown as training goes
    table_only: bool = False  # follows from others, or is of little use alone: no line, no chart
    metric: str | None = (
        None  # which registered metric gives it; None: the trainer's own evaluation
    )
    key: str | None = None  # among that metric's numbers; None: the quantity's own name

    @property
    def axis(self) -> str:
        """The label of an axis: its name with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


# In the order of importance: a report ranks settings by the first of these with a direction
QUANTITIES = {
    "elbo": Quantity("ELBO", "nats per image", HIGHER, progress_bar=True),
    "accuracy": Quantity("accuracy", "share of the images", HIGHER, progress_bar=True),
    "fd": Quantity(
        "Frechet distance", "squared units of the features", LOWER, progress_bar=True, metric="fd"
    ),
    "kid": Quantity("kernel distance", "units of the features", LOWER, metric="kid"),
    "class_accuracy": Quantity(
        "class accuracy of samples",
        "share of the samples",
        HIGHER,
        metric="class_accuracy",
        key="accuracy",
    ),
    "nll": Quantity("negative log-likelihood", "nats per image", LOWER),
    "bits_per_dimension": Quantity(
        "bits per dimension", "bits per dimension", LOWER, table_only=True
    ),
    "loss": Quantity("loss", "nats per image"),
    "distortion": Quantity("distortion", "nats per image", progress_bar=True),
    "kl": Quantity("KL", "nats per image", progress_bar=True),
    "kl_weight": Quantity("KL weight", "", progress_bar=True),
    "active_units": Quantity("active units", "latent dimensions"),
    "likelihood_stddev": Quantity(
        "standard deviation of the likelihood", "brightness from 0 to 1", table_only=True
    ),
    "psnr": Quantity("peak signal-to-noise ratio", "dB", HIGHER, metric="reconstruction"),
    "mse": Quantity("mean squared error", "squared brightness", LOWER, metric="reconstruction"),
    "clipped": Quantity("clipped gradients", "share of the steps"),
    "discriminator_loss": Quantity("loss of D", "", progress_bar=True),
    "generator_loss": Quantity("loss of G", "", progress_bar=True),
    "real_above_fake": Quantity(
        "pairs that D tells apart", "share of the pairs", progress_bar=True
    ),
    "diversity": Quantity("diversity of samples", "times that of real images"),
    "near_duplicates": Quantity("near-duplicate samples", "share of the samples"),
}


def quantity(name: str) -> Quantity:
    """The entry of a name; one without unit and direction for a name that is not in the table."""
    return QUANTITIES.get(name) or Quantity(name.replace("_", " "), "")
