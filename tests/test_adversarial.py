"""Adversarial losses and gradient penalties against values known on paper."""

import math
from collections.abc import Callable

import pytest
import torch
from conftest import ROOT, composed
from hydra.utils import instantiate
from torch import Tensor

from genmodels.losses.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Penalty,
    RelativisticPairing,
    Wasserstein,
    interpolate,
    squared_gradient,
)

LOSSES = sorted(path.stem for path in (ROOT / "conf/adversarial_loss").glob("*.yaml"))
REAL = torch.tensor([0.0, 1.5, -2.0])
FAKE = torch.tensor([0.0, -0.5, 3.0])

Equation = Callable[[float, float], float]


def log_sigmoid(value: float) -> float:
    return -math.log(1 + math.exp(-value))


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator"),
    [
        (Minimax(), lambda r, f: -log_sigmoid(r) - log_sigmoid(-f), lambda f, r: log_sigmoid(-f)),
        (
            NonSaturating(),
            lambda r, f: -log_sigmoid(r) - log_sigmoid(-f),
            lambda f, r: -log_sigmoid(f),
        ),
        (
            NonSaturating(label_smoothing=0.1),
            lambda r, f: -0.9 * log_sigmoid(r) - 0.1 * log_sigmoid(-r) - log_sigmoid(-f),
            lambda f, r: -log_sigmoid(f),
        ),
        (
            LeastSquares(),
            lambda r, f: 0.5 * (r - 1) ** 2 + 0.5 * f**2,
            lambda f, r: 0.5 * (f - 1) ** 2,
        ),
        (
            LeastSquares(label_smoothing=0.2),
            lambda r, f: 0.5 * (r - 0.8) ** 2 + 0.5 * f**2,
            lambda f, r: 0.5 * (f - 1) ** 2,
        ),
        (Hinge(), lambda r, f: max(0, 1 - r) + max(0, 1 + f), lambda f, r: -f),
        (Wasserstein(), lambda r, f: f - r, lambda f, r: -f),
        (RelativisticPairing(), lambda r, f: -log_sigmoid(r - f), lambda f, r: -log_sigmoid(f - r)),
    ],
)
def test_losses_are_their_equations(
    loss: AdversarialLoss, discriminator: Equation, generator: Equation
) -> None:
    pairs = list(zip(REAL.tolist(), FAKE.tolist(), strict=True))
    by_discriminator = torch.tensor([discriminator(real, fake) for real, fake in pairs])
    by_generator = torch.tensor([generator(fake, real) for real, fake in pairs])
    torch.testing.assert_close(loss.discriminator(REAL, FAKE), by_discriminator)
    torch.testing.assert_close(loss.generator(FAKE, REAL), by_generator)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_saturates_where_it_is_bounded_below(name: str) -> None:
    """A D that is as sure as can be wins nothing more by it, unless the loss is Wasserstein's."""
    loss = instantiate(composed("train", "model=gan", f"adversarial_loss={name}").adversarial_loss)
    logits = torch.logspace(-2, 6, 100)
    lowest = loss.discriminator(logits, -logits).min().item()
    assert loss.saturates == (lowest > -1.0)


@pytest.mark.parametrize("name", LOSSES)
def test_players_pull_in_opposite_directions(name: str) -> None:
    """D raises real logits and lowers generated ones; G raises its own.

    Real logits matter to G only if the loss is `relative`.
    """
    loss = instantiate(composed("train", "model=gan", f"adversarial_loss={name}").adversarial_loss)
    real = torch.full((1,), 0.3, requires_grad=True)
    fake = torch.full((1,), 0.2, requires_grad=True)
    by_real, by_fake = torch.autograd.grad(loss.discriminator(real, fake).sum(), (real, fake))
    assert by_real < 0 < by_fake
    by_fake, by_real = torch.autograd.grad(
        loss.generator(fake, real).sum(), (fake, real), allow_unused=True
    )
    assert by_fake < 0
    assert (by_real is not None) == loss.relative


def test_minimax_saturates_where_non_saturating_does_not() -> None:
    fake = torch.tensor([-20.0], requires_grad=True)
    gradients = [
        torch.autograd.grad(loss.generator(fake, fake).sum(), fake)[0].item()
        for loss in (Minimax(), NonSaturating())
    ]
    assert gradients == pytest.approx([-math.exp(-20), -1], rel=1e-4)


def test_the_squared_gradient_of_a_linear_map_is_that_of_its_weights() -> None:
    weights = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.rand(5, 1, 4, 4, requires_grad=True)
    logits = (images * weights).flatten(1).sum(dim=1)
    # a quarter: [-1, 1] is twice as long as [0, 1]
    expected = weights.square().sum().expand(5) / 4
    torch.testing.assert_close(squared_gradient(logits, images), expected)


def test_the_penalty_and_its_gradient_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 8)
    layers = (torch.nn.Flatten(), linear, torch.nn.Tanh(), torch.nn.Linear(8, 1))
    network = torch.nn.Sequential(*layers).double()
    images = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    step = 1e-6

    def penalty() -> Tensor:
        inputs = images.clone().requires_grad_()
        return squared_gradient(network(inputs).squeeze(1), inputs).sum()

    slopes = []
    for pixel in range(4):
        shift = step * torch.eye(4, dtype=torch.float64)[pixel].view(1, 1, 2, 2)
        slopes.append((network(images + shift) - network(images - shift)) / (2 * step))
    expected = 0.25 * torch.cat(slopes).square().sum().item()
    assert penalty().item() == pytest.approx(expected, rel=1e-6)

    weight = linear.weight
    gradient = torch.autograd.grad(penalty(), weight)[0][0, 0].item()
    start = weight[0, 0].item()
    values = []
    for shifted in (start + step, start - step):
        weight.data[0, 0] = shifted
        values.append(penalty().item())
    assert gradient == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_weights_of_the_penalty() -> None:
    assert Penalty(0.5, 2.0, 0.0, 8, 1.0).weights(0.5) == pytest.approx((0.5, 2.0))
    decaying = Penalty(4.0, 0.0, 0.0, 1, 0.1)
    weights = [decaying.weights(progress)[0] for progress in (0.0, 0.5, 1.0)]
    assert weights == pytest.approx([4, 2.2, 0.4])


@pytest.mark.parametrize(
    ("weights", "active"),
    [((1, 0, 0), True), ((0, 1, 0), True), ((0, 0, 1), True), ((0, 0, 0), False)],
)
def test_when_the_penalty_is_due(weights: tuple[float, float, float], active: bool) -> None:
    penalty = Penalty(*weights, every=8, end=1.0)
    assert penalty.active == active
    due = [step for step in range(20) if penalty.due(step)]
    assert due == ([0, 8, 16] if active else [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 0.0, 0.0, 1, 1.0), "^r1=-1"),
        ((0.0, math.inf, 0.0, 1, 1.0), "^r2=inf"),
        ((0.0, 0.0, -1.0, 1, 1.0), "^gradient=-1"),
        ((0.0, 0.0, 0.0, 0, 1.0), "^every=0"),
        ((0.0, 0.0, 0.0, 1, 1.1), r"^end=1\.1"),
    ],
)
def test_illegal_penalties_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Penalty(*arguments)


@pytest.mark.parametrize("loss", [Minimax, NonSaturating, LeastSquares])
def test_illegal_label_smoothing_is_refused(loss: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match=r"^label_smoothing=1: must be a number >= 0 and < 1"):
        loss(label_smoothing=1)


def test_interpolated_images_lie_on_the_line() -> None:
    real, fake = torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2)
    images = interpolate(real, fake)
    fractions = images[:, 0, 0, 0]
    assert (images == fractions.view(-1, 1, 1, 1)).all()
    assert fractions.min() >= 0 and fractions.max() < 1 and fractions.std() > 0.2
