"""The losses of the game, penalties and differentiable augmentation against values known on paper."""

import math

import pytest
import torch
from conftest import ROOT, composed
from hydra.utils import instantiate
from torch import Tensor

from genmodels.data import images as data_images
from genmodels.data.images import DiffAugment, blotted, recoloured, translated
from genmodels.losses.adversarial import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Penalty,
    RelativisticPairing,
    Wasserstein,
    between,
    squared_gradient,
)

LOSSES = sorted(path.stem for path in (ROOT / "conf/adversarial_loss").glob("*.yaml"))
REAL, FAKE = torch.tensor([0.0, 1.5, -2.0]), torch.tensor([0.0, -0.5, 3.0])


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
    ids=lambda value: type(value).__name__ if hasattr(value, "relative") else "",
)
def test_losses_are_their_equations(loss, discriminator, generator) -> None:
    pairs = list(zip(REAL.tolist(), FAKE.tolist(), strict=True))
    torch.testing.assert_close(
        loss.discriminator(REAL, FAKE), torch.tensor([discriminator(r, f) for r, f in pairs])
    )
    torch.testing.assert_close(
        loss.generator(FAKE, REAL), torch.tensor([generator(f, r) for r, f in pairs])
    )


@pytest.mark.parametrize("name", LOSSES)
def test_players_pull_in_opposite_directions(name: str) -> None:
    """D wants real logits up and generated ones down, G wants its own up; real ones matter to G only if `relative`."""
    loss = instantiate(composed("train", "model=gan", f"adversarial_loss={name}").adversarial_loss)
    real, fake = (
        torch.full((1,), 0.3, requires_grad=True),
        torch.full((1,), 0.2, requires_grad=True),
    )
    by_real, by_fake = torch.autograd.grad(loss.discriminator(real, fake).sum(), (real, fake))
    assert by_real < 0 < by_fake
    by_fake, by_real = torch.autograd.grad(
        loss.generator(fake, real).sum(), (fake, real), allow_unused=True
    )
    assert by_fake < 0 and (by_real is not None) == loss.relative


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
    found = squared_gradient((images * weights).flatten(1).sum(dim=1), images)
    torch.testing.assert_close(
        found, weights.square().sum().expand(5) / 4
    )  # per unit of [-1, 1], twice as long


def test_the_penalty_and_its_gradient_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
    ).double()
    images = torch.rand(3, 1, 2, 2, dtype=torch.float64)

    def penalty() -> Tensor:
        shown = images.clone().requires_grad_()
        return squared_gradient(network(shown).squeeze(1), shown).sum()

    step, slopes = 1e-6, torch.zeros(3, 4, dtype=torch.float64)
    for pixel in range(4):
        moved = torch.zeros(4, dtype=torch.float64)
        moved[pixel] = step
        moved = moved.view(1, 1, 2, 2)
        slopes[:, pixel] = (network(images + moved) - network(images - moved)).squeeze(
            1
        ).detach() / (2 * step)
    assert penalty().item() == pytest.approx(0.25 * slopes.square().sum().item(), rel=1e-6)

    weight = network[1].weight
    gradient = torch.autograd.grad(penalty(), weight)[0][0, 0].item()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * step
        values.append(penalty().item())
        with torch.no_grad():
            weight[0, 0] -= sign * step
    assert gradient == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_weights_of_the_penalty() -> None:
    assert Penalty(None, 2.0, 0.0, 8, 1.0).weights(784, 0.5) == pytest.approx((0.4704, 2.0))
    falling = Penalty(4.0, 0.0, 0.0, 1, 0.1)
    assert [falling.weights(1, progress)[0] for progress in (0.0, 0.5, 1.0)] == pytest.approx(
        [4, 2.2, 0.4]
    )
    assert [step for step in range(20) if Penalty(1.0, 0.0, 0.0, 8, 1.0).due(step)] == [0, 8, 16]
    assert not Penalty(0.0, 0.0, 0.0, 1, 1.0).due(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 0.0, 0.0, 1, 1.0), "r1=-1"),
        ((0.0, math.inf, 0.0, 1, 1.0), "r2=inf"),
        ((0.0, 0.0, -1.0, 1, 1.0), "gradient"),
        ((0.0, 0.0, 0.0, 0, 1.0), "every=0"),
        ((0.0, 0.0, 0.0, 1, 1.1), "end=1.1"),
    ],
)
def test_illegal_penalties_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Penalty(*arguments)


def test_between_lies_on_the_line() -> None:
    real, fake = torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2)
    found = between(real, fake)
    assert (
        (found == found[:, :, :1, :1]).all()
        and found.min() >= 0
        and found.max() < 1
        and found.std() > 0.2
    )


def test_translation_repeats_edges_and_lets_gradients_through() -> None:
    torch.manual_seed(0)
    images = torch.arange(16.0).view(1, 1, 4, 4).repeat(40, 1, 1, 1).requires_grad_()
    moved = translated(images, 0.25)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    windows = [padded[0, :, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
    found = {
        next(index for index, window in enumerate(windows) if torch.equal(image, window))
        for image in moved
    }
    assert found == set(range(9))
    moved.sum().backward()
    assert images.grad.sum() == 40 * 16  # each pixel shown is one of the image's


def test_cutout_is_a_square_of_gray() -> None:
    torch.manual_seed(0)
    blots = blotted(torch.ones(200, 3, 8, 8), 0.5) == 0.5
    assert (blots == blots[:, :1]).all()
    heights, widths = blots[:, 0].any(2).sum(1), blots[:, 0].any(1).sum(1)
    assert (blots[:, 0].sum((1, 2)) == heights * widths).all()
    assert heights.max() == widths.max() == 4 and heights.min() >= 1
    assert blots.any(0)[0].all()  # everywhere sometimes


def test_recolouring_keeps_what_its_name_says() -> None:
    torch.manual_seed(0)
    gray = torch.rand(30, 1, 4, 4).repeat(1, 3, 1, 1)
    again = recoloured(gray)
    torch.testing.assert_close(again[:, 0], again[:, 2])  # gray stays gray
    assert not torch.allclose(again, gray)
    shift = (again - gray).mean((1, 2, 3))
    assert (
        shift.abs().max() <= 0.25 + 1e-6 and shift.std() > 0.1
    )  # contrast and saturation leave the mean


def test_what_is_done_follows_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("recoloured", "translated", "blotted"):
        monkeypatch.setattr(
            data_images, name, lambda images, *_, name=name: (done.append(name), images)[1]
        )
    usual = DiffAugment(colour=False, translation=None, cutout=0.0)
    gray, coloured = torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8)
    assert usual(gray) is gray
    usual(coloured)
    assert done == ["translated"]
    assert DiffAugment(colour=False, translation=0.0, cutout=0.0)(coloured) is coloured
    DiffAugment(colour=True, translation=0.125, cutout=0.5)(gray)
    assert done[1:] == ["recoloured", "translated", "blotted"]
