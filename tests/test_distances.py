"""Distances between sets of features: cases that are known on paper, and torchmetrics."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from genmodels.errors import TooFewError
from genmodels.metrics.distances import (
    coverage_scores,
    frechet_distance,
    kernel_distance,
    radii,
    squared_discrepancy,
)


def gaussian(count: int, units: int, seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(count, units, generator=noise, dtype=torch.float64)


def whitened(count: int, units: int) -> Tensor:
    """Features whose mean is 0 and whose covariance is the unit matrix, exactly."""
    features = gaussian(count, units)
    orthogonal, _ = torch.linalg.qr(features - features.mean(dim=0))
    return orthogonal * math.sqrt(count - 1)


def test_frechet_distance_between_commuting_gaussians() -> None:
    unit = whitened(300, 4)
    shift = torch.tensor([1.0, -2, 0, 0.5], dtype=torch.float64)
    scale = torch.tensor([0.5, 1, 2, 3], dtype=torch.float64)
    rotation, _ = torch.linalg.qr(gaussian(4, 4, seed=2))
    between_means = shift.square().sum().item()
    assert frechet_distance(unit, unit) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(unit, unit + shift) == pytest.approx(between_means)
    between_roots = (1 - scale).square().sum().item()
    assert frechet_distance(unit, unit * scale) == pytest.approx(between_roots)
    between_roots = (scale - scale.flip(0)).square().sum().item()
    other = (unit * scale.flip(0) + shift) @ rotation
    distance = frechet_distance(unit * scale @ rotation, other)
    assert distance == pytest.approx(between_roots + between_means)


def test_frechet_distance_between_gaussians_that_do_not_commute() -> None:
    one, other = gaussian(60, 5) @ gaussian(5, 5, seed=3), gaussian(80, 5, seed=4)
    product = torch.linalg.eigvals(torch.cov(one.T) @ torch.cov(other.T)).real.sqrt().sum()
    means = (one.mean(dim=0) - other.mean(dim=0)).square().sum()
    traces = torch.cov(one.T).trace() + torch.cov(other.T).trace()
    expected = (means + traces - 2 * product).item()
    assert frechet_distance(one, other) == pytest.approx(expected)


def test_kernel_distance_is_unbiased() -> None:
    values = []
    for seed in range(600):
        one, other = gaussian(20, 3, 2 * seed), gaussian(20, 3, 2 * seed + 1)
        values.append(squared_discrepancy(one, other))
    distances = torch.tensor(values)
    assert abs(distances.mean()) < 3 * distances.std() / 600**0.5
    assert distances.min() < 0 < distances.max()


def test_kernel_distance_of_constants_is_exact() -> None:
    one, other = torch.ones(5, 2).double(), 2 * torch.ones(5, 2).double()
    expected = 2**3 + 5**3 - 2 * 3**3
    assert squared_discrepancy(one, other) == pytest.approx(expected)
    mean, deviation = kernel_distance(one, other, torch.Generator())
    assert mean == pytest.approx(expected) and deviation == pytest.approx(0)


class Identity(torch.nn.Module):
    """Features that are the images themselves, as torchmetrics wants a network."""

    num_features = 12

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save")
def test_agreement_with_torchmetrics() -> None:
    real, fake = gaussian(90, 12), 1.3 * gaussian(70, 12, seed=1) + 0.2
    fid = FrechetInceptionDistance(feature=Identity(), normalize=True).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=70, normalize=True)
    for metric, count in ((fid, 90), (kid, 70)):
        metric.update(real[:count].view(-1, 3, 2, 2), real=True)
        metric.update(fake.view(-1, 3, 2, 2), real=False)
    assert frechet_distance(real, fake) == pytest.approx(fid.compute().item(), abs=1e-4)
    assert squared_discrepancy(real[:70], fake) == pytest.approx(kid.compute()[0].item(), abs=1e-4)


def test_coverage_scores_of_planted_sets() -> None:
    one, other = gaussian(120, 3), gaussian(120, 3, seed=1)
    same = coverage_scores(one, one, k=5)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    assert set(coverage_scores(one, one + 1000).values()) == {0.0}
    half = coverage_scores(torch.cat([one, one + 1000]), torch.cat([other, other]))
    assert half["recall"] < 0.5 and half["coverage"] < 0.5 and half["precision"] > 0.8
    many = coverage_scores(gaussian(3000, 3), gaussian(3000, 3, seed=1))
    assert many["density"] == pytest.approx(1, abs=0.05)
    assert many["coverage"] == pytest.approx(1 - 2**-5, abs=0.02)


@pytest.mark.parametrize("max_distances", [8_000_000, 90], ids=["all at once", "a row or two"])
def test_coverage_scores_are_those_of_the_definitions(max_distances: int) -> None:
    real, fake, k = gaussian(50, 2), gaussian(40, 2, seed=1) + 0.5, 3
    real_radii = torch.cdist(real, real).sort(dim=1).values[:, k]
    fake_radii = torch.cdist(fake, fake).sort(dim=1).values[:, k]
    between = torch.cdist(real, fake)
    inside = between <= real_radii[:, None]
    expected = {
        "precision": inside.any(dim=0),
        "recall": (between <= fake_radii).any(dim=1),
        "density": inside.sum(dim=0) / k,
        "coverage": inside.any(dim=1),
    }
    means = {name: values.double().mean().item() for name, values in expected.items()}
    assert coverage_scores(real, fake, k, max_distances) == pytest.approx(means)
    torch.testing.assert_close(radii(real, k, max_distances).sqrt(), real_radii)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (frechet_distance, "samples=4: must be more than 8"),
        (
            lambda a, b: kernel_distance(a[:1], b, torch.Generator()),
            "samples=1: must be more than 3",
        ),
        (lambda a, b: coverage_scores(b, a), "samples=4: must be more than 5"),
    ],
)
def test_too_few_are_refused(score: Callable, message: str) -> None:
    with pytest.raises(TooFewError, match=message):
        score(gaussian(4, 8), gaussian(40, 8))
