"""Likelihoods against sums, integrals and torch.distributions, and at extremes."""

import math

import pytest
import torch
from conftest import ROOT, composed
from torch import Tensor
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import Normal

from genmodels import checkpoint
from genmodels.discretised_logistics import DiscretisedLogistic
from genmodels.image_distributions import STDDEV_FLOOR, ContinuousBernoulli, Gaussian
from genmodels.likelihoods import (
    GaussianLikelihood,
    LearnedGaussianLikelihood,
    Likelihood,
    OptimalGaussianLikelihood,
)

CHOICES = sorted({path.stem for path in (ROOT / "conf/likelihood").glob("*.yaml")} - {"auto"})
LEVELS = (torch.arange(256) / 255).view(256, 1, 1, 1)  # images of one pixel, one of each value
UNIT = torch.linspace(0, 1, 20_001).view(-1, 1, 1, 1)
LOGITS = [-40.0, -8.0, -1.0, -0.51, -0.49, -1e-3, 0.0, 1e-9, 0.2, 0.4999, 0.5001, 3.0, 40.0]


def pixel(*values: float) -> Tensor:
    """Images (N, 1, 1, 1)."""
    return torch.tensor(values).view(-1, 1, 1, 1)


def build(choice: str) -> Likelihood:
    """A likelihood of conf/likelihood."""
    config = composed("train", f"likelihood={choice}").likelihood
    likelihood = checkpoint.rebuild({str(key): value for key, value in config.items()})
    assert isinstance(likelihood, Likelihood)
    return likelihood


@pytest.mark.parametrize("log_scale", [-20.0, -7.0, -4.0, -2.0, 0.0, 2.0, 20.0])
@pytest.mark.parametrize("location", [-3.0, 0.0, 0.3, 0.5, 1.0, 1.01])
def test_the_masses_of_all_levels_sum_to_one(location: float, log_scale: float) -> None:
    logistic = DiscretisedLogistic(pixel(location), pixel(log_scale))
    assert logistic.log_prob(LEVELS).double().exp().sum().item() == pytest.approx(1, abs=2e-5)


def test_masses_are_differences_of_the_distribution_function() -> None:
    location, scale = 0.4, 0.05
    edges = (torch.arange(1, 256, dtype=torch.float64) - 0.5) / 255
    cdf = torch.cat([torch.zeros(1), torch.sigmoid((edges - location) / scale), torch.ones(1)])
    log_masses = DiscretisedLogistic(pixel(location), pixel(math.log(scale))).log_prob(LEVELS)
    torch.testing.assert_close(log_masses.double().exp(), cdf.diff(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("logit", LOGITS)
def test_the_continuous_bernoulli_integrates_to_one_and_has_its_mean(logit: float) -> None:
    continuous, x = ContinuousBernoulli(pixel(logit)), UNIT.flatten().double()
    density = continuous.log_prob(UNIT).double().exp()
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=2e-6)
    mean = torch.trapezoid(density * x, x).item()
    assert continuous.mean.item() == pytest.approx(mean, abs=2e-6)


def test_the_continuous_bernoulli_agrees_with_torch() -> None:
    logits = torch.linspace(-12, 12, 97)  # beyond, torch clamps
    theirs = TorchContinuousBernoulli(logits=logits.double())
    ours = ContinuousBernoulli(logits.view(-1, 1, 1, 1))
    torch.testing.assert_close(ours.mean.flatten().double(), theirs.mean, rtol=0, atol=1e-6)
    for value in (0.0, 0.3, 1.0):
        expected = theirs.log_prob(torch.full_like(theirs.mean, value))
        log_density = ours.log_prob(pixel(value)).double()
        torch.testing.assert_close(log_density, expected, rtol=0, atol=2e-6)


def test_the_continuous_bernoulli_is_smooth_where_its_series_end() -> None:
    """The derivative of the log normaliser is the mean: of log p at x = 0 it is minus the mean."""
    logits = torch.linspace(-1.5, 1.5, 3001).view(-1, 1, 1, 1).requires_grad_()
    ContinuousBernoulli(logits).log_prob(pixel(0.0)).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(-logits.grad, ContinuousBernoulli(logits).mean, rtol=0, atol=2e-6)


def test_the_gaussian_agrees_with_torch() -> None:
    images, output = torch.rand(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    theirs = Normal(torch.sigmoid(output), 0.2)
    ours = GaussianLikelihood(stddev=0.2)(output)
    expected = theirs.log_prob(images).flatten(1).sum(dim=1)
    torch.testing.assert_close(ours.log_prob(images), expected)
    torch.testing.assert_close(ours.mean, theirs.mean)


@pytest.mark.parametrize("log_scale", [-8.0, -5.0, -3.0, -1.0, 1.0])
@pytest.mark.parametrize("location", [-0.5, 0.0, 0.1234, 0.5, 1.2])
def test_the_logistic_mean_is_that_of_its_levels_to_half_a_level(
    location: float, log_scale: float
) -> None:
    logistic = DiscretisedLogistic(pixel(location), pixel(log_scale))
    expected = (logistic.log_prob(LEVELS).exp() * LEVELS.flatten()).sum().item()
    assert abs(logistic.mean.item() - expected) <= (0.5 / 255 + 1e-6 if log_scale < -4 else 2e-5)


def row_of(first: float, last: float) -> Tensor:
    """Five parameters, each for an image of 200x200 pixels."""
    return torch.linspace(first, last, 5).view(5, 1, 1, 1).expand(5, 1, 200, 200)


@pytest.mark.parametrize(
    ("distribution", "rounding"),
    [
        (ContinuousBernoulli(row_of(-30, 30)), 0.0),
        (DiscretisedLogistic(row_of(-0.1, 0.7), row_of(-7, -1)), 0.5 / 255),
        (Gaussian(row_of(0.3, 0.7), torch.tensor(0.01)), 0.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_samples_have_the_mean_and_stay_in_the_range(
    distribution: ContinuousBernoulli | DiscretisedLogistic | Gaussian, rounding: float
) -> None:
    torch.manual_seed(0)
    images = distribution.sample()
    assert images.shape == (5, 1, 200, 200) and images.min() >= 0 and images.max() <= 1
    pixels = images.flatten(1)
    error = (pixels.mean(dim=1) - distribution.mean[:, 0, 0, 0]).abs()
    assert (error < 4 * pixels.std(dim=1) / 200 + rounding + 1e-6).all()


def test_samples_of_levels_come_as_often_as_they_should() -> None:
    torch.manual_seed(0)
    masses = DiscretisedLogistic(pixel(0.1), pixel(-3.0)).log_prob(LEVELS).exp()
    location, log_scale = (pixel(value).expand(1, 1, 500, 500) for value in (0.1, -3.0))
    levels = (DiscretisedLogistic(location, log_scale).sample() * 255).round().long()
    shares = torch.bincount(levels.flatten(), minlength=256) / 250_000
    torch.testing.assert_close(shares, masses, rtol=0, atol=0.003)


def test_samples_of_the_continuous_bernoulli_follow_its_distribution_function() -> None:
    torch.manual_seed(0)
    samples = ContinuousBernoulli(pixel(3.0).expand(1, 1, 500, 500)).sample()
    cdf = torch.expm1(3.0 * samples.flatten().sort().values) / math.expm1(3.0)
    distance = (cdf - torch.linspace(0, 1, 250_000)).abs().max()
    assert distance < 0.004  # Kolmogorov & Smirnov: 0.0033 at 1 %


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("choice", CHOICES)
def test_extremes_are_finite(choice: str, dtype: torch.dtype) -> None:
    """Values, means and gradients, for any output of a decoder, at black, gray and white pixels."""
    torch.manual_seed(0)
    likelihood = build(choice)
    size, _, _ = likelihood.output_shape((1, 1, 1))
    values = torch.tensor([-1e4, -50.0, -1.0, 0.0, 1.0, 50.0, 1e4])
    combinations = values[torch.randint(len(values), (2000, size, 1, 1))]
    output = combinations.to(dtype).requires_grad_()
    for value in (0.0, 0.5, 1.0):
        distribution = likelihood(output)
        nats, mean = distribution.log_prob(pixel(value)), distribution.mean
        assert nats.dtype == torch.float32 and nats.isfinite().all()
        assert mean.min() >= 0 and mean.max() <= 1
        assert distribution.sample().isfinite().all()
        (nats.sum() + mean.sum()).backward()
        assert output.grad is not None and output.grad.isfinite().all()


@pytest.mark.parametrize("choice", CHOICES)
def test_sums_in_float32_and_broadcasts(choice: str) -> None:
    torch.manual_seed(0)
    likelihood = build(choice).eval()
    output = torch.randn(4, *likelihood.output_shape((3, 16, 16)))
    images = (255 * torch.rand(4, 3, 16, 16)).round() / 255
    nats = likelihood(output).log_prob(images)
    assert nats.shape == (4,)
    by_first_output = likelihood(output[:1]).log_prob(images)
    assert by_first_output.shape == (4,)
    torch.testing.assert_close(by_first_output[0], nats[0])
    torch.testing.assert_close(likelihood(output).log_prob(images[2:3])[2], nats[2])
    rounded = output.bfloat16()
    in_float32 = likelihood(rounded.float()).log_prob(images)
    torch.testing.assert_close(likelihood(rounded).log_prob(images), in_float32)


def test_the_optimal_variance_is_the_mean_squared_error() -> None:
    """Taken as a constant: the gradient is still that of the logarithm of the squared error."""
    torch.manual_seed(0)
    likelihood, images = OptimalGaussianLikelihood(), torch.rand(6, 1, 5, 5)
    output = torch.randn(6, 1, 5, 5, requires_grad=True)
    mean = torch.sigmoid(output)
    nats = likelihood(output).log_prob(images).mean()
    error = (images - mean).square().mean()
    assert likelihood.variance.item() == pytest.approx(error.item())
    expected = -12.5 * (torch.log(2 * math.pi * error) + 1)  # of 25 pixels
    assert nats.item() == pytest.approx(expected.item())
    for factor in (0.5, 2.0):  # no other variance is likelier
        assert Gaussian(mean, factor * error).log_prob(images).mean() < nats
    (gradient,) = torch.autograd.grad(nats, output, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, output)[0])


def test_evaluation_keeps_the_last_optimal_variance() -> None:
    torch.manual_seed(0)
    likelihood, output = OptimalGaussianLikelihood(), torch.randn(6, 1, 5, 5)
    likelihood(output).log_prob(torch.rand(6, 1, 5, 5))
    variance = likelihood.variance.clone()
    black = torch.zeros(6, 1, 5, 5)
    nats = likelihood.eval()(output).log_prob(black)
    assert torch.equal(likelihood.variance, variance)
    torch.testing.assert_close(nats, Gaussian(torch.sigmoid(output), variance).log_prob(black))


def test_no_variance_falls_below_its_floor() -> None:
    optimal, learned = OptimalGaussianLikelihood(), LearnedGaussianLikelihood()
    optimal(torch.zeros(2, 1, 3, 3)).log_prob(torch.full((2, 1, 3, 3), 0.5))
    learned.log_variance.data.fill_(-1000)
    assert optimal.variance.item() == learned.variance.item() == STDDEV_FLOOR**2


@pytest.mark.parametrize("stddev", [0.0, 0.003, math.inf])
def test_an_illegal_standard_deviation_is_refused(stddev: float) -> None:
    with pytest.raises(ValueError, match=r"stddev=.*: must be a finite number >= 0\.0039"):
        GaussianLikelihood(stddev=stddev)
