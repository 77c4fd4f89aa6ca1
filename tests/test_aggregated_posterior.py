"""The aggregated posterior and the prior on lines and planes of the latent space."""

import math

import numpy as np
import pytest
import torch
from planted_models import linear_gaussian, model_images
from scipy import stats
from torch import Tensor

from genmodels.metrics import likelihood
from genmodels.metrics.aggregated_posterior import (
    RESOLUTION,
    LatentPlane,
    Posteriors,
    PriorDensity,
    density,
    posteriors,
    share_in_holes,
)
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.priors import StandardNormal

AXIS = torch.linspace(-4, 4, 81, dtype=torch.float64)


def posteriors_at(mean: list[list[float]], stddev: float) -> Posteriors:
    means = torch.tensor(mean, dtype=torch.float64)
    return Posteriors(
        means, torch.full_like(means, stddev), torch.zeros_like(means), torch.arange(len(means))
    )


def random_posteriors(latent_dim: int) -> Posteriors:
    torch.manual_seed(0)
    return posteriors_at((torch.randn(300, latent_dim) * torch.arange(latent_dim)).tolist(), 0.5)


def two_gaussians(latent_dim: int) -> GaussianMixture:
    means = torch.tensor([-1.0, 1.5], dtype=torch.float64)[:, None].repeat(1, latent_dim)
    covariances = 0.25 * torch.eye(latent_dim, dtype=torch.float64).repeat(2, 1, 1)
    return GaussianMixture.of(torch.tensor([0.5, 0.5], dtype=torch.float64), means, covariances)


def test_posteriors_are_those_that_the_elbo_is_measured_with() -> None:
    model, split = linear_gaussian(shift=0.2), model_images(1100)
    q = posteriors(model, split)
    assert q.kl.shape == q.mean.shape == (1100, 3) and q.labels.tolist() == [-1] * 1100
    kl = q.kl.sum(dim=1).mean().item()
    assert kl == pytest.approx(likelihood.evaluate(model, split)["kl"], rel=1e-12)


def test_posteriors_of_a_class_and_their_samples() -> None:
    q = posteriors_at([[-4.0], [4.0]], 0.5)
    assert q.of_class(1).mean.tolist() == [[4.0]] and q.of_class(1).kl.shape == (1, 1)
    z = q.sample(torch.Generator().manual_seed(3))
    noise = torch.randn(2, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(z, q.mean + q.stddev * noise)


def test_the_principal_plane_is_that_of_numpy() -> None:
    q = random_posteriors(4)
    plane = LatentPlane.of(q)
    values, vectors = np.linalg.eigh(np.cov(q.mean.numpy().T))
    for index, direction in enumerate(plane.directions.numpy()):
        assert abs(direction @ vectors[:, -1 - index]) == pytest.approx(1)
        assert direction[np.abs(direction).argmax()] > 0
        share = values[-1 - index] / values.sum()
        assert plane.names[index].endswith(f"of 4, {share:.0%} of the means' variance")
    assert plane.keys == ("pc1", "pc2")
    coordinates = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(plane.project(plane.embed(coordinates)), coordinates)
    torch.testing.assert_close(plane.embed(plane.project(q.mean.mean(0)[None]))[0], q.mean.mean(0))


@pytest.mark.parametrize(
    ("plane", "keys"),
    [
        (LatentPlane.of(random_posteriors(2)), ("z0", "z1")),
        (LatentPlane.whole(1), ("z0",)),
        (LatentPlane.along(2, 5), ("z2",)),
    ],
)
def test_planes_of_latent_dimensions(plane: LatentPlane, keys: tuple[str, ...]) -> None:
    z = torch.randn(6, plane.directions.shape[1], dtype=torch.float64)
    columns = [int(key[1]) for key in keys]
    assert plane.keys == plane.names == keys
    assert torch.equal(plane.project(z), z[:, columns])
    assert torch.equal(plane.project_stddev(z.abs()), z.abs()[:, columns])


def test_the_density_is_that_of_scipy() -> None:
    """Of a mixture, smoothed by RESOLUTION."""
    q = posteriors_at([[-1.0, 0.5], [2.0, 0.0]], 0.4)
    stddev = math.hypot(0.4, RESOLUTION)
    along = stats.norm.pdf(AXIS[:, None], q.mean.T[:, None], stddev)  # (2, G, 2)
    grid = density(q, LatentPlane.whole(2), [AXIS, AXIS])
    np.testing.assert_allclose(grid, along[0] @ along[1].T / 2, atol=1e-12)
    line = density(q, LatentPlane.along(1, 2), [AXIS])
    np.testing.assert_allclose(line, along[1].mean(axis=1), atol=1e-12)


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_the_density_of_priors(latent_dim: int) -> None:
    plane = LatentPlane.of(random_posteriors(latent_dim))
    axes = [AXIS] * len(plane.keys)
    mixture = two_gaussians(latent_dim)
    z = plane.project(mixture.means[:1])
    at = tuple((AXIS - value).abs().argmin() for value in z[0])
    point = plane.embed(torch.stack([AXIS[index] for index in at])[None]).numpy()

    standard = PriorDensity(StandardNormal(latent_dim)).on_grid(plane, axes)
    expected = math.prod(stats.norm.pdf(AXIS[index].item()) for index in at)
    assert standard[at].item() == pytest.approx(expected)

    projected = plane.project(mixture.means).numpy()
    covariance = 0.25 * np.eye(len(axes))
    if latent_dim > 2:
        variance = 0.25 + projected.var(axis=0)
        bandwidth = 0.5 * np.sqrt(variance) * 20_000 ** (-1 / (len(axes) + 4))
        covariance += np.diag(bandwidth**2 + RESOLUTION**2)
    coordinates = plane.project(torch.from_numpy(point)).numpy()[0]
    expected = np.mean(
        [stats.multivariate_normal(m, covariance).pdf(coordinates) for m in projected]
    )
    estimate = PriorDensity(mixture).on_grid(plane, axes)[at].item()
    assert estimate == pytest.approx(expected, rel=0.1 if latent_dim > 2 else 1e-5)


def test_the_share_of_draws_in_holes() -> None:
    """N(2, 1) is under a tenth of N(0, 1) where 2 x - 2 < -log 10; no hole where q is the prior."""
    stddev = math.sqrt(1 - RESOLUTION**2)
    q = posteriors_at([[0.0, 2.0]], stddev)
    shares = [
        share_in_holes(q, PriorDensity(StandardNormal(2)), LatentPlane.along(dimension, 2))
        for dimension in (0, 1)
    ]
    assert shares == [0, pytest.approx(stats.norm.cdf(1 - math.log(10) / 2), abs=0.01)]


def test_the_share_of_draws_in_holes_of_another_prior() -> None:
    """Of two equal components, one of which no data are near."""
    q = posteriors_at([[1.5, 1.5, 1.5]], 0.5)
    share = share_in_holes(q, PriorDensity(two_gaussians(3)), LatentPlane.along(0, 3))
    assert share == pytest.approx(0.5, abs=0.03)


def test_densities_integrate_to_one() -> None:
    axis = torch.linspace(-12, 12, 241, dtype=torch.float64)
    q, plane = random_posteriors(3), LatentPlane.of(random_posteriors(3))
    grids: list[Tensor] = [density(q, plane, [axis, axis])]
    for prior in (StandardNormal(3), two_gaussians(3)):
        grids.append(PriorDensity(prior).on_grid(plane, [axis, axis]))
    for grid in grids:
        assert grid.sum().item() * 0.1**2 == pytest.approx(1, abs=1e-3)
