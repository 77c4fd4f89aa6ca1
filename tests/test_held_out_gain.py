"""How far q(z) lies from the prior, against Kullback-Leibler divergences that are known."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from planted_models import PlantedPosteriors, noise_images
from torch import Tensor
from torch.distributions import Laplace, Normal

from genmodels.metrics.collapse import gaussian_gap
from genmodels.metrics.held_out_gain import HeldOutGain, held_out_gain
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.priors import Prior

IMAGES = 4000


def gain_of(
    mean: Tensor, stddev: Tensor, prior: Prior | None = None, images: int = IMAGES
) -> HeldOutGain:
    """Of a model whose q(z|x) are these (K, D), each of as many images."""
    labels = torch.arange(images) % len(mean)
    gain = held_out_gain(PlantedPosteriors(mean, stddev, prior), noise_images(labels))
    assert gain is not None
    return gain


def test_a_gaussian_lies_so_many_nats_from_the_prior() -> None:
    """q(z) = N(m, C) through posteriors at points of its own: correlated, with moments 0 and 1."""
    torch.manual_seed(0)
    correlation = 0.8
    covariance = torch.tensor([[1, correlation], [correlation, 1]])
    root = torch.linalg.cholesky(covariance - 0.1 * torch.eye(2))
    mean = torch.randn(IMAGES, 2) @ root.T
    stddev = torch.full((IMAGES, 2), 0.1**0.5)
    exact = -0.5 * math.log(1 - correlation**2)
    gain = gain_of(mean, stddev)
    assert gain.nats == pytest.approx(exact, abs=0.06)  # the moments of each dimension say 0
    assert gain.standard_error < 0.03 and gain.count == 1000 and gain.components == 10
    assert gaussian_gap(mean.double(), stddev.double()) == pytest.approx(exact, abs=0.03)


def test_latents_that_are_the_prior_gain_nothing() -> None:
    gain = gain_of(torch.zeros(1, 3), torch.ones(1, 3))
    assert -0.1 < gain.nats < 0.02 and gain.prior == "N(0, I)"


def test_a_mixture_sees_what_moments_do_not() -> None:
    """Two narrow clusters with mean 0 and variance 1 in all: KL = log(1 / (2 stddev)) + ..."""
    stddev = 0.2
    center = math.sqrt(1 - stddev**2)
    gain = gain_of(torch.tensor([[-center], [center]]), torch.full((2, 1), stddev))
    entropy = math.log(2) + 0.5 * math.log(2 * math.pi * math.e * stddev**2)
    cross_entropy = 0.5 * math.log(2 * math.pi) + 0.5
    assert gain.nats == pytest.approx(cross_entropy - entropy, abs=0.05)
    assert gaussian_gap(*_points(center, stddev)) < 0.01


def _points(center: float, stddev: float) -> tuple[Tensor, Tensor]:
    mean = torch.tensor([[-center], [center]]).double().repeat(IMAGES // 2, 1)
    return mean, torch.full_like(mean, stddev)


class LaplacePrior(Prior):
    """Independent dimensions of scale 1."""

    def log_prob(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return Laplace(0, 1).log_prob(z).sum(dim=1)

    def marginals(self) -> Sequence[Prior]:
        return [LaplacePrior(1)] * self.latent_dim

    def formula(self, temperature: float | str = 1.0) -> str:
        return "Laplace(0, 1)"


@pytest.mark.parametrize("make", [lambda: LaplacePrior(1), lambda: _two_gaussians(3.0)])
def test_any_prior(make: Callable[[], Prior]) -> None:
    """q(z) = N(0, 1); KL(q || p) by numerical integration."""
    prior = make()
    gain = gain_of(torch.zeros(1, 1), torch.ones(1, 1), prior)
    z = torch.linspace(-8, 8, 8001).double()
    log_q = Normal(0, 1).log_prob(z)
    exact = torch.trapezoid(log_q.exp() * (log_q - prior.log_prob(z[:, None])), z).item()
    assert gain.nats == pytest.approx(exact, abs=0.06) and gain.prior == prior.formula()


def _two_gaussians(distance: float) -> GaussianMixture:
    means = torch.tensor([[-distance / 2], [distance / 2]]).double()
    return GaussianMixture.of(torch.full((2,), 0.5).double(), means, torch.ones(2, 1, 1).double())


def test_a_conditional_model_is_compared_class_by_class() -> None:
    """q(z) = N(0, I) in all, to rounding; q(z|y) is a quarter of it."""
    mean = torch.tensor([[-0.9, 0.0], [0.9, 0.0]])
    model = PlantedPosteriors(mean, torch.ones(2, 2))
    images = noise_images(torch.arange(IMAGES) % 2)
    model.num_classes = 2
    gain = held_out_gain(model, images)
    assert gain is not None and gain.conditional and gain.components == 1
    assert gain.nats == pytest.approx(0.9**2 / 2, abs=0.1)  # KL(N(0.9, 1) || N(0, 1))


def test_a_prior_for_each_class_is_compared_with_that_class() -> None:
    """p(z|y) is q(z|y): there is nothing to gain, though p(z) is far from N(0, I)."""
    mean, stddev = torch.tensor([[-2.0], [2.0]]), torch.ones(2, 1)
    weights, covariances = torch.ones(2, 1), torch.ones(2, 1, 1)
    model = PlantedPosteriors(mean, stddev).with_prior(
        GaussianMixture.of(weights, mean, covariances)
    )
    model.num_classes = 2
    gain = held_out_gain(model, noise_images(torch.arange(IMAGES) % 2))
    assert gain is not None and gain.nats == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(("images", "dimensions"), [(60, 2), (60, 40), (1295, 256)])
def test_few_images_and_many_dimensions(images: int, dimensions: int) -> None:
    """A shrunk Gaussian then finds no gain where there is none, and most of a large one."""
    mean, stddev = torch.zeros(1, dimensions), torch.ones(1, dimensions)
    same = gain_of(mean, stddev, images=images)
    assert same.components == 1 and -0.05 * dimensions - 0.2 < same.nats < 0.2
    far = gain_of(mean + 2, stddev, images=images)
    assert far.nats == pytest.approx(2 * dimensions, rel=0.25)  # KL(N(2, 1) || N(0, 1)) = 2 each


def test_too_few_images_say_nothing() -> None:
    model = PlantedPosteriors(torch.zeros(1, 2), torch.ones(1, 2))
    assert held_out_gain(model, noise_images(torch.zeros(49, dtype=torch.long))) is None


@pytest.mark.parametrize(("images", "dimensions"), [(143, 32), (1000, 32), (300, 64)])
def test_the_gap_of_full_covariances_is_corrected_for_few_images(
    images: int, dimensions: int
) -> None:
    """Means of N(0, I): the plain estimate is D (D + 1) / 4N + D / 2N too high, 2 nats at first."""
    torch.manual_seed(0)
    gaps = []
    for _ in range(20):
        mean = torch.randn(images, dimensions, dtype=torch.float64)
        gaps.append(gaussian_gap(mean, torch.full_like(mean, 1e-6)))
    assert sum(gaps) / len(gaps) < 0.4
    assert gaussian_gap(mean[: dimensions + 1], torch.full_like(mean, 1e-6)) == 0
