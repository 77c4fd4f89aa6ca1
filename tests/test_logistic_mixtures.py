"""Mixtures of discretised logistics against sums over all levels, at frequencies and extremes."""

import math

import pytest
import torch
from torch import Tensor

from genmodels.discretised_logistics import DiscretisedLogistic, DiscretisedLogisticMixture
from genmodels.likelihoods import DiscretisedLogisticMixtureLikelihood

LEVELS = torch.arange(256) / 255
GRAY = LEVELS.view(256, 1, 1, 1)  # images of one pixel, one of each level
TWO_CHANNELS = torch.cartesian_prod(LEVELS, LEVELS).view(-1, 2, 1, 1)  # one of each pair of levels


def mixture(output: Tensor, *, components: int) -> DiscretisedLogisticMixture:
    """What the likelihood reads from a decoder's output (B, P, H, W)."""
    return DiscretisedLogisticMixtureLikelihood(components=components)(output)


def random_output(channels: int, *, components: int, scale: float = 1.0) -> Tensor:
    """A decoder's output for one pixel, (1, P, 1, 1)."""
    likelihood = DiscretisedLogisticMixtureLikelihood(components=components)
    return scale * torch.randn(1, *likelihood.output_shape((channels, 1, 1)))


def one_pixel(
    weights: list[float], colours: list[list[float]], scale: float, coefficients: list[float]
) -> DiscretisedLogisticMixture:
    """Components of one scale and the same coefficients, of one pixel."""
    components, channels = len(colours), len(colours[0])
    shape = (1, components, channels, 1, 1)
    return DiscretisedLogisticMixture(
        torch.tensor(weights).log().view(1, components, 1, 1),
        torch.tensor(colours).view(shape),
        torch.full(shape, math.log(scale)),
        torch.tensor(coefficients).view(1, 1, -1, 1, 1).expand(1, components, -1, 1, 1),
    )


def repeated(distribution: DiscretisedLogisticMixture, side: int) -> DiscretisedLogisticMixture:
    """The distribution of one pixel, in each of side x side pixels."""
    parameters = (
        distribution.log_weights,
        distribution.location,
        distribution.scale.log(),
        distribution.coefficients,
    )
    return DiscretisedLogisticMixture(
        *(parameter.expand(*parameter.shape[:-2], side, side) for parameter in parameters)
    )


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("components", [1, 4])
def test_the_masses_of_all_gray_levels_sum_to_one(components: int, scale: float) -> None:
    torch.manual_seed(0)
    distribution = mixture(
        random_output(1, components=components, scale=scale), components=components
    )
    total = distribution.log_prob(GRAY).double().exp().sum().item()
    assert total == pytest.approx(1, abs=2e-5)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("components", [1, 3])
def test_the_masses_of_all_pairs_of_levels_sum_to_one(components: int, scale: float) -> None:
    torch.manual_seed(0)
    distribution = mixture(
        random_output(2, components=components, scale=scale), components=components
    )
    total = distribution.log_prob(TWO_CHANNELS).double().exp().sum().item()
    assert total == pytest.approx(1, abs=5e-5)


@pytest.mark.parametrize(("red", "green"), [(0, 0), (255, 17), (100, 140), (255, 255)])
def test_summed_over_blue_the_masses_are_those_of_red_and_green(red: int, green: int) -> None:
    """With the sums over pairs, all 256^3 colours have a mass of one in total."""
    torch.manual_seed(0)
    colour = mixture(random_output(3, components=3), components=3)
    two_channels = DiscretisedLogisticMixture(
        colour.log_weights,
        colour.location[:, :, :2],
        colour.scale[:, :, :2].log(),
        colour.coefficients[:, :, :1],
    )
    pair = torch.tensor([red, green]).view(1, 2, 1, 1) / 255
    images = torch.cat([pair.expand(256, -1, -1, -1), GRAY], dim=1)
    total = colour.log_prob(images).double().exp().sum().item()
    expected = two_channels.log_prob(pair).double().exp().item()
    assert total == pytest.approx(expected, rel=1e-4)


def test_one_component_without_coefficients_is_a_discretised_logistic() -> None:
    torch.manual_seed(0)
    location, log_scale = torch.rand(2, 3, 5, 5), torch.randn(2, 3, 5, 5) - 3
    images = (255 * torch.rand(2, 3, 5, 5)).round() / 255
    single = DiscretisedLogistic(location, log_scale)
    shape = (2, 1, 3, 5, 5)
    distribution = DiscretisedLogisticMixture(
        torch.randn(2, 1, 5, 5), location.view(shape), log_scale.view(shape), torch.zeros(shape)
    )
    torch.testing.assert_close(distribution.log_prob(images), single.log_prob(images))
    torch.testing.assert_close(distribution.mean, single.mean)


def test_colours_have_the_masses_of_the_equations() -> None:
    """Salimans et al. 2017, eq. 1 to 3, in float64, for levels at no open edge."""
    red, green, blue = 0.2, 0.6, 0.4
    weights, scale, (to_green, red_to_blue, green_to_blue) = [0.3, 0.7], 0.05, (0.5, -0.25, 2.0)
    colours = [[0.25, 0.5, 0.3], [0.1, 0.7, 0.9]]
    total = 0.0
    for weight, (red_at, green_at, blue_at) in zip(weights, colours, strict=True):
        places = [
            red_at,
            green_at + to_green * (red - red_at),
            blue_at + red_to_blue * (red - red_at) + green_to_blue * (green - green_at),
        ]
        for value, place in zip((red, green, blue), places, strict=True):
            distances = torch.tensor([value + 0.5 / 255 - place, value - 0.5 / 255 - place])
            upper, lower = torch.sigmoid(distances.double() / scale)
            weight *= (upper - lower).item()
        total += weight
    distribution = one_pixel(weights, colours, scale, [to_green, red_to_blue, green_to_blue])
    image = torch.tensor([red, green, blue]).view(1, 3, 1, 1)
    assert distribution.log_prob(image).item() == pytest.approx(math.log(total), abs=1e-4)


def test_samples_come_as_often_as_they_should() -> None:
    """Cells of 32 levels of red by 32 of green: 64 shares of 250,000 pixels."""
    torch.manual_seed(0)
    distribution = one_pixel([0.3, 0.7], [[0.2, 0.8], [0.7, 0.3]], 0.06, [-0.8])
    masses = distribution.log_prob(TWO_CHANNELS).exp().view(8, 32, 8, 32).sum(dim=(1, 3))
    images = repeated(distribution, 500).sample()  # (1, 2, 500, 500)
    assert images.min() >= 0 and images.max() <= 1
    cells = (images * 255).round().long().flatten(2).squeeze(0) // 32  # (2, 250000)
    shares = torch.bincount(8 * cells[0] + cells[1], minlength=64).view(8, 8) / 250_000
    torch.testing.assert_close(shares, masses, rtol=0, atol=0.004)


def test_the_mean_is_that_of_all_levels() -> None:
    """Also at open edges; the second channel is placed by the mean of the first."""
    torch.manual_seed(0)
    gray = mixture(random_output(1, components=4), components=4)
    expected = (gray.log_prob(GRAY).exp() * LEVELS).sum().item()
    assert gray.mean.item() == pytest.approx(expected, abs=0.5 / 255)
    inside = one_pixel([0.2, 0.8], [[0.3, 0.6], [0.6, 0.4]], 0.03, [0.7])
    masses = inside.log_prob(TWO_CHANNELS).exp().view(-1, 1)
    expected_pair = (masses * TWO_CHANNELS.flatten(1)).sum(dim=0)
    torch.testing.assert_close(inside.mean.flatten(), expected_pair, rtol=0, atol=0.5 / 255)


def test_one_wrong_pixel_costs_the_logarithm_of_a_weight() -> None:
    """A single logistic as sharp would pay for its distance: over 2,000 nats."""
    black = [0.0, 0.0, 0.0]
    confident = [[1.0, 1.0, 1.0], black]
    distribution = one_pixel([1 - 1e-4, 1e-4], confident, math.exp(-8), [0.0] * 3)
    image = torch.zeros(1, 3, 1, 1)
    cost = -distribution.log_prob(image).item()
    assert math.log(1e4) <= cost < math.log(1e4) + 3
    single = DiscretisedLogistic(torch.ones(1, 3, 1, 1), torch.full((1, 3, 1, 1), -8.0))
    assert -single.log_prob(image).item() > 2000


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_gradients_are_finite_where_all_components_are_far_away(level: float) -> None:
    torch.manual_seed(0)
    output = random_output(3, components=5, scale=100.0).requires_grad_()
    nats = mixture(output, components=5).log_prob(torch.full((1, 3, 1, 1), level))
    nats.sum().backward()
    assert nats.isfinite().all()
    assert output.grad is not None and output.grad.isfinite().all()


def test_an_untrained_decoder_covers_the_range_evenly() -> None:
    components = mixture(torch.zeros(1, 40, 2, 2), components=4)
    expected = torch.tensor([0.125, 0.375, 0.625, 0.875]).view(1, 4, 1, 1, 1)
    assert torch.equal(components.location, expected.expand(1, 4, 3, 2, 2))
    torch.testing.assert_close(components.mean, torch.full((1, 3, 2, 2), 0.5))


@pytest.mark.parametrize("components", [0, -1])
def test_fewer_than_one_component_is_refused(components: int) -> None:
    with pytest.raises(ValueError, match=r"components=.*: must be an integer >= 1"):
        DiscretisedLogisticMixtureLikelihood(components=components)
