"""The aggregated posterior q(z) = E_x q(z|x): where a model puts the data, beside the prior."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Normal

from genmodels.data.images import EVALUATION_BATCH, ImageSet
from genmodels.metrics.likelihood import binarise_for
from genmodels.models.priors import Prior, StandardNormal
from genmodels.models.vae import VAE
from genmodels.randomness import CONSTANT_SEED, generator, reseed

ACTIVE = 0.01  # variance of a dimension's posterior mean over images, above which it is in use
HOLE = 0.1  # of the prior's density: where q(z) is less, samples land and data do not
RESOLUTION = 0.1  # distance in z: between two images that are closer there is no hole
REACH = 5.0  # how far from 0 holes of N(0, I) are looked for, in standard deviations
PRIOR_DRAWS = 20_000  # from which a prior's density is estimated where it has no closed form
GRID_CHUNK = 2000  # Gaussians that are added to a grid at once


@dataclass(frozen=True)
class Posteriors:
    """q(z|x) of many images, float64 on the CPU."""

    mean: Tensor  # (N, D)
    stddev: Tensor  # (N, D)
    kl: Tensor  # (N, D) KL(q(z_d|x) || p(z_d)) in nats
    labels: Tensor  # (N,) int64, -1 where there are none

    def of_class(self, label: int) -> "Posteriors":
        """Those of one class."""
        rows = self.labels == label
        return Posteriors(
            mean=self.mean[rows],
            stddev=self.stddev[rows],
            kl=self.kl[rows],
            labels=self.labels[rows],
        )

    def sample(self, generator: torch.Generator) -> Tensor:
        """One z ~ q(z|x) for each image, (N, D)."""
        noise = torch.randn(self.mean.shape, generator=generator, dtype=torch.float64)
        return self.mean + self.stddev * noise


@torch.no_grad()
def posteriors(model: VAE, split: ImageSet, batch_size: int = EVALUATION_BATCH) -> Posteriors:
    """q(z|x) of every image of a split, the very images that `likelihood.evaluate` sees.

    Reseeds torch's global generators.
    """
    marginals = model.prior.marginals()
    batches = []
    for index, (images, labels) in enumerate(split.batches(batch_size)):
        reseed(CONSTANT_SEED, "evaluation", index)
        posterior = model.encode(binarise_for(model, images), labels)
        kl = model.prior.kl_per_dimension(posterior, posterior.rsample(), marginals)
        values = [value.cpu().double() for value in (posterior.mean, posterior.stddev, kl)]
        batches.append([*values, labels.cpu()])
    return Posteriors(*map(torch.cat, zip(*batches, strict=True)))


@dataclass(frozen=True)
class LatentPlane:
    """Two directions of the latent space to look along, or one.

    Coordinates are z projected on the directions, which are orthonormal: those of z ~ N(0, I) are
    N(0, I) too. To make one, call `of`, `whole` or `along`.
    """

    directions: Tensor  # (P, D) orthonormal rows, P = 1 or 2
    through: Tensor  # (D,) a point of the plane, where `embed` holds what coordinates leave open
    names: tuple[str, ...]  # of the coordinates, for axes
    keys: tuple[str, ...]  # and for tables
    variance_share: float = 1.0  # of the posterior means, that lies in the plane

    @classmethod
    def of(cls, posteriors: Posteriors) -> "LatentPlane":
        """z itself in one or two dimensions; else two principal components of posterior means."""
        dimensions = posteriors.mean.shape[1]
        if dimensions <= 2:
            return cls.whole(dimensions)
        center = posteriors.mean.mean(dim=0)
        _, values, directions = torch.linalg.svd(posteriors.mean - center, full_matrices=False)
        directions = directions[:2]
        largest = directions.abs().argmax(dim=1, keepdim=True)
        signs = directions.gather(1, largest).sign()  # so that each has a positive largest entry
        shares = values.square() / values.square().sum().clamp(min=1e-300)
        names = []
        for number, share in enumerate(shares[:2].tolist(), start=1):
            component = f"principal component {number} of {dimensions}"
            names.append(f"{component}, {share:.0%} of the means' variance")
        share = shares[:2].sum().item()
        return cls(directions * signs, center, tuple(names), ("pc1", "pc2"), share)

    @classmethod
    def whole(cls, latent_dim: int) -> "LatentPlane":
        """A latent space of one or two dimensions itself."""
        return cls._of_axes(range(latent_dim), latent_dim)

    @classmethod
    def along(cls, dimension: int, latent_dim: int) -> "LatentPlane":
        """One dimension of a latent space of `latent_dim` dimensions."""
        return cls._of_axes([dimension], latent_dim)

    @classmethod
    def _of_axes(cls, axes: Sequence[int], latent_dim: int) -> "LatentPlane":
        directions = torch.eye(latent_dim, dtype=torch.float64)[list(axes)]
        names = tuple(f"z{axis}" for axis in axes)
        return cls(directions, torch.zeros(latent_dim, dtype=torch.float64), names, names)

    def project(self, z: Tensor) -> Tensor:
        """(N, D) -> coordinates (N, P)."""
        return z @ self.directions.T

    def project_stddev(self, stddev: Tensor) -> Tensor:
        """Standard deviations of independent dimensions (N, D) -> along the directions (N, P)."""
        variance = stddev.square() @ self.directions.T.square()
        return variance.sqrt()

    def embed(self, coordinates: Tensor) -> Tensor:
        """Coordinates (N, P) -> points of the plane (N, D)."""
        origin = self.project(self.through[None])
        return self.through + (coordinates - origin) @ self.directions


def density(posteriors: Posteriors, plane: LatentPlane, axes: Sequence[Tensor]) -> Tensor:
    """The aggregated posterior's density on a grid of the plane.

    It is the mixture of the projected posteriors, whose coordinates are taken as independent,
    smoothed with a standard deviation of RESOLUTION: else very sharp posteriors of finitely many
    images would leave holes everywhere.

    Arguments:
    posteriors: of the data.
    plane: of one or two coordinates.
    axes: the grid's positions (G,) along each coordinate, float64.

    Returns (G0, G1), or (G0,) on a line.
    """
    means = plane.project(posteriors.mean)
    stddevs = plane.project_stddev(posteriors.stddev)
    return _smoothed(means, stddevs, axes)


class PriorDensity:
    """A prior's density on planes of the latent space.

    It is exact for N(0, I), and for any prior where the plane is the whole latent space. Else it is
    the density of projected draws, which are made once.
    """

    def __init__(self, prior: Prior) -> None:
        self.prior = prior

    @cached_property
    def _draws(self) -> Tensor:
        """(PRIOR_DRAWS, D) float64 on the CPU."""
        noise = generator(CONSTANT_SEED, "prior density")
        with torch.no_grad():
            z = self.prior.sample(PRIOR_DRAWS, generator=noise)
        return z.cpu().double()

    @torch.no_grad()
    def on_grid(self, plane: LatentPlane, axes: Sequence[Tensor]) -> Tensor:
        """The density on the same grid as that of `density`.

        Draws are smoothed: otherwise contours would be those of single draws. The bandwidth is half
        of that of Scott's rule (Scott 1992, "Multivariate density estimation", eq. 6.42), which is
        for a single Gaussian.
        """
        if isinstance(self.prior, StandardNormal):
            along = [Normal(0, 1).log_prob(axis).exp() for axis in axes]
            return torch.outer(*along) if len(axes) == 2 else along[0]
        if len(axes) == self.prior.latent_dim:
            grid = torch.cartesian_prod(*axes).view(-1, len(axes))
            z = plane.embed(grid).float().to(self.prior.device)
            shape = [len(axis) for axis in axes]
            return self.prior.log_prob(z).exp().cpu().double().view(shape)
        coordinates = plane.project(self._draws)
        exponent = -1 / (len(axes) + 4)
        bandwidth = 0.5 * coordinates.std(dim=0) * len(coordinates) ** exponent
        return _smoothed(coordinates, bandwidth.expand_as(coordinates), axes)

    def reach(self, plane: LatentPlane, sigmas: float, share: float = 1.0) -> float:
        """How far from 0 the prior reaches in the coordinates of a plane.

        It is `sigmas` for N(0, I), else the distance that this share of the draws' coordinates does
        not exceed.
        """
        if isinstance(self.prior, StandardNormal):
            return sigmas
        distances = plane.project(self._draws).abs().flatten()
        return distances.quantile(share).item()


def share_in_holes(
    posteriors: Posteriors, prior: PriorDensity, plane: LatentPlane, points: int = 201
) -> float:
    """The share of the prior's draws that land in a hole: where q(z) < HOLE p(z), on the plane.

    Arguments:
    posteriors: of the data.
    prior: what samples are drawn from.
    plane: on which q(z) and p(z) are compared.
    points: of the grid along each coordinate.
    """
    reach = prior.reach(plane, REACH)
    axis = torch.linspace(-reach, reach, points, dtype=torch.float64)
    axes = [axis] * len(plane.keys)
    p = prior.on_grid(plane, axes)
    holes = density(posteriors, plane, axes) < HOLE * p
    return float((p * holes).sum() / p.sum())


def _smoothed(means: Tensor, stddevs: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """The density of a mixture of Gaussians (N, P), smoothed by RESOLUTION, on a grid."""
    stddevs = (stddevs.square() + RESOLUTION**2).sqrt()
    total = torch.zeros([len(axis) for axis in axes], dtype=torch.float64)
    chunks = zip(means.split(GRID_CHUNK), stddevs.split(GRID_CHUNK), strict=True)
    for mean, stddev in chunks:
        along = []  # (chunk, len(axis)) each
        for index, axis in enumerate(axes):
            gaussians = Normal(mean[:, [index]], stddev[:, [index]])
            along.append(gaussians.log_prob(axis).exp())
        total += along[0].T @ along[1] if len(axes) == 2 else along[0].sum(dim=0)
    return total / len(means)
