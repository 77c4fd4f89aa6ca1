"""How a model uses its latent space, against what is known of a linear-Gaussian model."""

import math

import numpy as np
import pytest
import torch
from planted_models import (
    INFORMATION,
    PIXELS,
    PRECISION,
    SCALES,
    STDDEV,
    image_set,
    linear_gaussian,
    model_images,
)
from scipy import stats

from genmodels.data.images import ImageSet
from genmodels.metrics import collapse, likelihood
from genmodels.metrics.collapse import latent_usage, mutual_information


@pytest.fixture(scope="module")
def split() -> ImageSet:
    return model_images()


def test_an_exact_model(split: ImageSet) -> None:
    """KL, information, active units and moments of the exact posterior under its own data."""
    usage = latent_usage(linear_gaussian(unused=2), split)
    assert usage.bound["kl"] == pytest.approx(INFORMATION, rel=0.02)  # E KL(p(z|x) || p(z))
    kl = torch.cat([0.5 * PRECISION.log(), torch.zeros(2)])
    torch.testing.assert_close(usage.kl, kl, atol=0.06, rtol=0)
    assert usage.active.tolist() == [True, True, True, False, False]
    torch.testing.assert_close(usage.mean, torch.zeros(5).double(), atol=0.07, rtol=0)
    torch.testing.assert_close(usage.variance, torch.ones(5).double(), atol=0.1, rtol=0)
    assert usage.prior_gap is not None and 0 <= usage.prior_gap.sum() < 0.02
    assert usage.ceiling == math.log(2000)
    assert usage.mutual_information == pytest.approx(INFORMATION, abs=0.1)  # 3.8 of at most 7.6


def test_units_are_active_above_a_variance_of_a_hundredth() -> None:
    """Burda et al. 2015: Var_x(E[z_d|x]) > 0.01, of the means, not of z."""
    torch.manual_seed(0)
    split = image_set(torch.rand(4000, PIXELS))
    model = linear_gaussian()
    model.encoder[1].weight.zero_()
    for dimension, variance in enumerate((0.009, 0.011, 1.0)):
        slope = (12 * variance) ** 0.5  # uniform pixels have a variance of 1/12
        model.encoder[1].weight[dimension, dimension] = slope
    assert latent_usage(model, split).active.tolist() == [False, True, True]


@pytest.mark.parametrize("count", [50, 500])
def test_mutual_information_saturates_at_log_m(count: int) -> None:
    """Posteriors that do not overlap: the index of the image is all that z can say."""
    mean = torch.arange(count * 2).view(count, 2).double() / 10
    stddev = torch.full_like(mean, 0.001)
    torch.manual_seed(0)
    z = mean + stddev * torch.randn_like(mean)
    information = mutual_information(mean, stddev, z, chunk=7)
    assert information == pytest.approx(math.log(count), abs=1e-4)
    same = mutual_information(torch.zeros_like(mean), torch.ones_like(mean), z)
    assert same == pytest.approx(0, abs=1e-12)


def test_mutual_information_is_that_of_numpy() -> None:
    torch.manual_seed(1)
    mean = torch.randn(40, 3, dtype=torch.float64)
    stddev = torch.rand(40, 3, dtype=torch.float64) + 0.2
    z = mean + stddev * torch.randn(40, 3, dtype=torch.float64)
    log_densities = stats.norm.logpdf(z.numpy()[:, None], mean.numpy(), stddev.numpy())
    log_prob = log_densities.sum(axis=2)  # [i, j] log q(z_i|x_j)
    expected = np.mean(np.diag(log_prob) - np.log(np.exp(log_prob).mean(axis=1)))
    assert mutual_information(mean, stddev, z, chunk=9) == pytest.approx(expected, abs=1e-12)


def test_moments_bound_the_distance_from_the_prior(split: ImageSet) -> None:
    """Moved by 2 in each dimension: KL(N(2, 1) || N(0, 1)) = 2 each, since q(z) is Gaussian."""
    usage = latent_usage(linear_gaussian(shift=2.0), split)
    assert usage.prior_gap is not None
    torch.testing.assert_close(usage.prior_gap, torch.full((3,), 2.0).double(), atol=0.1, rtol=0)
    assert usage.aggregated_kl == pytest.approx(6, abs=0.5)
    assert usage.aggregated_kl > usage.prior_gap.sum()


def test_shuffled_z(split: ImageSet) -> None:
    """A decoder that ignores z loses nothing by it; the linear one |W (z - z')|^2 / 2 STDDEV^2.

    In expectation the sum of scale^2 / STDDEV^2, for independent z and z' of variance 1.
    """
    ignored = latent_usage(linear_gaussian(ignores_z=True), split)
    assert ignored.shuffled_z == 0 and ignored.bound["kl"] > 3 and ignored.active.all()
    exact = (SCALES.square() / STDDEV**2).sum().item()
    assert latent_usage(linear_gaussian(), split).shuffled_z == pytest.approx(exact, rel=0.05)


def test_quick_metrics_have_the_same_bound(split: ImageSet) -> None:
    """Measuring more must not change what is compared."""
    model = linear_gaussian(widen=1.2)
    quick, bound = collapse.quick_metrics(model, split), likelihood.evaluate(model, split)
    assert {name: quick[name] for name in bound} == bound
    kl = quick["latent"]["kl_per_dimension"]
    assert len(kl) == 3 and sum(kl) == pytest.approx(bound["kl"], abs=1e-5)
