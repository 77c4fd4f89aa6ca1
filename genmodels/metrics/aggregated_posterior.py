"""The aggregated posterior q(z) = E_x q(z|x): where a model puts the data, and where its samples come from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from genmodels.data.images import ImageSet
from genmodels.distributions import kl_to_standard_normal
from genmodels.metrics.likelihood import observed
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, reseed

HOLE = 0.1  # of the prior's density: where the aggregated posterior has less, samples land and data do not
ACTIVE = 0.01  # variance of a dimension's posterior mean over images, above which it is in use
RESOLUTION = (
    0.1  # standard deviations of the prior: closer than that, between two images, there is no hole
)


@dataclass(frozen=True)
class Posteriors:
    """q(z|x) of many images, float64 on the CPU."""

    mean: Tensor  # (N, D)
    stddev: Tensor  # (N, D)
    labels: Tensor  # (N,) int64, -1 where there are none

    def of_class(self, label: int) -> "Posteriors":
        """Those of one class."""
        chosen = self.labels == label
        return Posteriors(self.mean[chosen], self.stddev[chosen], self.labels[chosen])

    @property
    def kl(self) -> Tensor:
        """KL(q(z_d|x) || N(0, 1)) in nats, (N, D); over images and summed over dimensions, the rate."""
        variance = self.stddev.square()
        return kl_to_standard_normal(self.mean, variance, variance.log())

    def sample(self, generator: torch.Generator) -> Tensor:
        """One z ~ q(z|x) for each image, (N, D)."""
        return self.mean + self.stddev * torch.randn(
            self.mean.shape, generator=generator, dtype=torch.float64
        )


@torch.no_grad()
def posteriors(model: VAE, part: ImageSet, batch_size: int = 500) -> Posteriors:
    """q(z|x) for every image of a part, the very images that `likelihood.evaluate` sees at this batch size."""
    found = []
    for index, (images, labels) in enumerate(part.batches(batch_size)):
        reseed(CONSTANT_SEED, "evaluation", index)
        posterior = model.encode(observed(model, images), labels)
        found.append((posterior.mean.cpu().double(), posterior.stddev.cpu().double(), labels.cpu()))
    return Posteriors(*(torch.cat(values) for values in zip(*found, strict=True)))


@dataclass(frozen=True)
class Plane:
    """Two directions of the latent space to look along, or the one that there is.

    Coordinates are z projected on the directions, which are orthonormal: under the prior N(0, I) they are N(0, I) too.
    """

    directions: Tensor  # (P, D) orthonormal rows, P = 1 or 2
    through: Tensor  # (D,) a point of the plane: what is not seen of z is held there
    names: tuple[str, ...]  # of the coordinates, for axes
    keys: tuple[str, ...]  # and for tables

    @classmethod
    def of(cls, found: Posteriors) -> "Plane":
        """z itself in one or two dimensions; else the first two principal components of the posterior means."""
        dimensions = found.mean.shape[1]
        if dimensions <= 2:
            return cls.whole(dimensions)
        centre = found.mean.mean(dim=0)
        _, values, directions = torch.linalg.svd(found.mean - centre, full_matrices=False)
        share = values.square() / values.square().sum().clamp(min=1e-300)
        signs = directions[:2].gather(1, directions[:2].abs().argmax(1, keepdim=True)).sign()
        names = tuple(
            f"principal component {index + 1} of {dimensions}, {share[index]:.0%} of the means' variance"
            for index in range(2)
        )
        return cls(directions[:2] * signs, centre, names, ("pc1", "pc2"))

    @classmethod
    def whole(cls, dimensions: int) -> "Plane":
        """The latent space itself, of one or two dimensions."""
        names = tuple(f"z{index}" for index in range(dimensions))
        return cls(
            torch.eye(dimensions, dtype=torch.float64),
            torch.zeros(dimensions, dtype=torch.float64),
            names,
            names,
        )

    @classmethod
    def along(cls, dimension: int, dimensions: int) -> "Plane":
        """One dimension of the latent space, which has so many."""
        names = (f"z{dimension}",)
        return cls(
            torch.eye(dimensions, dtype=torch.float64)[[dimension]],
            torch.zeros(dimensions, dtype=torch.float64),
            names,
            names,
        )

    def project(self, z: Tensor) -> Tensor:
        """(N, D) -> coordinates (N, P)."""
        return z @ self.directions.T

    def spread(self, stddev: Tensor) -> Tensor:
        """Standard deviations of independent dimensions (N, D) -> those along the directions (N, P)."""
        return (stddev.square() @ self.directions.T.square()).sqrt()

    def embed(self, coordinates: Tensor) -> Tensor:
        """Coordinates (N, P) -> points of the plane (N, D)."""
        return self.through + (coordinates - self.project(self.through[None])) @ self.directions


def density(found: Posteriors, plane: Plane, axes: list[Tensor], chunk: int = 2000) -> Tensor:
    """The aggregated posterior's density on a grid of the plane, (len(axes[0]), len(axes[1])), or (len(axes[0]),).

    The mixture of the projected posteriors, whose two coordinates are taken as independent, smoothed with a standard
    deviation of RESOLUTION: else very sharp posteriors of finitely many images would leave holes everywhere.
    """
    means = plane.project(found.mean)
    spreads = (plane.spread(found.stddev).square() + RESOLUTION**2).sqrt()
    total = torch.zeros([len(axis) for axis in axes], dtype=torch.float64)
    for mean, spread in zip(means.split(chunk), spreads.split(chunk), strict=True):
        along = [
            torch.distributions.Normal(mean[:, [index]], spread[:, [index]]).log_prob(axis).exp()
            for index, axis in enumerate(axes)
        ]  # (chunk, len(axis)) each
        total += along[0].T @ along[1] if len(axes) == 2 else along[0].sum(dim=0)
    return total / len(means)


def prior_density(axes: list[Tensor]) -> Tensor:
    """N(0, I) on the same grid."""
    along = [torch.distributions.Normal(0, 1).log_prob(axis).exp() for axis in axes]
    return torch.outer(*along) if len(axes) == 2 else along[0]


def share_in_holes(found: Posteriors, plane: Plane, points: int = 201, reach: float = 5.0) -> float:
    """The share of the prior's draws that land in a hole: where q(z) < HOLE p(z), on the plane."""
    axes = [torch.linspace(-reach, reach, points, dtype=torch.float64)] * len(plane.names)
    prior = prior_density(axes)
    return float((prior * (density(found, plane, axes) < HOLE * prior)).sum() / prior.sum())
