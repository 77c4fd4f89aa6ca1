"""Objectives against values by hand, and controllers on a simulated plant."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import pytest
import torch

from genmodels.losses.importance_weighted import IWAE
from genmodels.losses.objectives import ELBO, GECO, Capacity, FreeBits, KLTarget, Objective

DISTORTION = torch.tensor([10.0, 20.0])  # (B,)
# (B, D): 4 and 7.2 nats; the dimensions' means are 1.5, 0.1 and 4
KL = torch.tensor([[1.0, 0.0, 3.0], [2.0, 0.2, 5.0]])

pi_controller = partial(KLTarget, proportional=0.01, integral=0.001, weight_limits=[0.0, 100.0])
geco = partial(
    GECO,
    distortion=None,
    share=0.5,
    reference_fraction=0.1,
    decay=0.0,
    step_size=0.1,
    weight_limits=[0.01, 100.0],
)


def weight_after(
    objective: Objective, distortion: float, kl: float, progress: float = 0.5
) -> float:
    """The KL weight after one step with these means."""
    objective.update_multipliers(torch.tensor(distortion), torch.tensor(kl), progress)
    return objective.multipliers()["kl_weight"].item()


def test_elbo_by_hand() -> None:
    assert ELBO()(DISTORTION, KL, 0.5, 0.0).tolist() == pytest.approx([12.0, 23.6])


@pytest.mark.parametrize(("weight", "extra"), [(1.0, 1.5 + 0.5 + 4.0), (2.0, 12.0), (0.0, 0.0)])
def test_free_bits_by_hand(weight: float, extra: float) -> None:
    """The second dimension has 0.1 nat on average, and pays for 0.5."""
    loss = FreeBits(nats_per_dimension=0.5)(DISTORTION, KL, weight, 0.0)
    assert loss.tolist() == pytest.approx([10 + extra, 20 + extra])


def test_free_bits_have_no_gradient_below_the_floor() -> None:
    kl = KL.clone().requires_grad_()
    FreeBits(nats_per_dimension=0.5)(DISTORTION, kl, 3.0, 0.0).mean().backward()
    assert kl.grad is not None
    assert torch.equal(kl.grad, torch.tensor([[1.5, 0.0, 1.5]] * 2))  # weight / B, or none


def test_no_free_bits_are_the_elbo() -> None:
    loss = FreeBits(0.0)(DISTORTION, KL, 2.0, 0.0)
    torch.testing.assert_close(loss.mean(), ELBO()(DISTORTION, KL, 2.0, 0.0).mean())


@pytest.mark.parametrize(
    ("progress", "capacity"), [(0.0, 0.0), (0.1, 2.0), (0.25, 5.0), (0.5, 10.0), (1.0, 10.0)]
)
def test_capacity_by_hand(progress: float, capacity: float) -> None:
    """C(t) rises over the first half; the batch's mean KL is 5.6."""
    objective = Capacity(capacity=10.0, rise=0.5)
    assert objective.plan(progress) == {"capacity": pytest.approx(capacity)}
    extra = 3 * abs(5.6 - capacity)
    loss = objective(DISTORTION, KL, 3.0, progress)
    assert loss.tolist() == pytest.approx([10 + extra, 20 + extra], rel=1e-5)


@pytest.mark.parametrize(("progress", "sign"), [(0.0, 1.0), (1.0, -1.0)])
def test_capacity_pushes_the_kl_towards_c_from_either_side(progress: float, sign: float) -> None:
    kl = KL.clone().requires_grad_()
    Capacity(capacity=10.0, rise=0.5)(DISTORTION, kl, 3.0, progress).mean().backward()
    assert kl.grad is not None and kl.grad.unique().tolist() == pytest.approx([sign * 1.5])


def test_kl_target_by_hand() -> None:
    """Eq. 8 with errors -10 and +5: 0.001 of their sum, and 0.01 / (1 + e^error)."""
    objective = pi_controller(target=20.0)
    at_lower_limit = objective(DISTORTION, KL, None, 0.0)  # 0
    torch.testing.assert_close(at_lower_limit, DISTORTION)
    first = weight_after(objective, 80.0, 30.0)
    assert first == pytest.approx(0.01 + 0.01 / (1 + math.exp(-10)), rel=1e-5)
    second = weight_after(objective, 80.0, 15.0)
    assert second == pytest.approx(0.005 + 0.01 / (1 + math.exp(5)), rel=1e-5)
    expected = ELBO()(DISTORTION, KL, second, 0.0)
    torch.testing.assert_close(objective(DISTORTION, KL, None, 0.0), expected)


def test_geco_by_hand() -> None:
    """The reference is 200 after a tenth of the run, the limit 100; at 120 log w falls by 0.01."""
    objective = geco()
    assert weight_after(objective, 500.0, 0.0, progress=0.0) == pytest.approx(
        100
    )  # no reference yet
    assert weight_after(objective, 200.0, 0.0, progress=0.1) == pytest.approx(1)
    assert weight_after(objective, 120.0, 0.0) == pytest.approx(math.exp(-0.01))
    expected = DISTORTION + math.exp(-0.01) * KL.sum(dim=1)
    torch.testing.assert_close(objective(DISTORTION, KL, None, 0.5), expected)


def test_geco_with_a_limit_in_nats_needs_no_reference() -> None:
    """Distortions of densities may be negative: -400 violates a limit of -500."""
    objective = geco(distortion=-500.0)
    weight = weight_after(objective, -400.0, 0.0, progress=0.0)
    assert weight == pytest.approx(math.exp(-0.1 * 100 / 500))


@pytest.mark.parametrize(("reference", "limit"), [(1000.0, 600.0), (-1000.0, -1400.0)])
def test_geco_with_a_share_controls_distortions_of_either_sign(
    reference: float, limit: float
) -> None:
    """At share 0.6: beyond the limit the KL weight falls, within it the weight rises."""

    def weight_at(distortion: float) -> float:
        objective = geco(share=0.6)
        weight_after(objective, reference, 0.0, progress=0.1)
        return weight_after(objective, distortion, 0.0)

    assert weight_at(limit) == pytest.approx(1.0, rel=1e-5)
    assert weight_at(limit + 200) == pytest.approx(math.exp(-0.1 * 0.2))
    assert weight_at(limit - 200) == pytest.approx(math.exp(0.1 * 0.2))


def test_geco_follows_the_moving_average() -> None:
    objective = geco(distortion=100.0, decay=0.75)
    weight_after(objective, 100.0, 0.0)
    assert weight_after(objective, 140.0, 0.0) == pytest.approx(math.exp(-0.1 * 10 / 100))


def test_geco_multiplier_rises_while_the_constraint_is_violated_and_falls_after() -> None:
    """lambda = 1 / w; both ends are limited."""
    objective = geco(distortion=100.0)
    violated = [1 / weight_after(objective, 130.0, 0.0) for _ in range(300)]
    assert all(after >= before for before, after in itertools.pairwise(violated))
    assert violated[1] > violated[0] and violated[-1] == pytest.approx(100)
    kept = [1 / weight_after(objective, 70.0, 0.0) for _ in range(600)]
    assert kept[0] < violated[-1] and kept[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("target", [6.0, 25.0])
def test_the_controller_brings_a_plant_to_its_set_point(target: float) -> None:
    """The KL of the plant comes to 12 / w nats, slowly, and stays between 0.1 and 300."""
    objective, kl, history = pi_controller(target=target), 0.0, []
    for _ in range(6000):
        weight = objective.multipliers()["kl_weight"].item()
        goal = min(300.0, max(0.1, 12 / max(weight, 1e-6)))
        kl += 0.02 * (goal - kl)
        objective.update_multipliers(torch.tensor(0.0), torch.tensor(kl), 0.5)
        history.append(kl)
    assert history[-1] == pytest.approx(target, rel=0.01)
    assert max(history[-500:]) - min(history[-500:]) < 0.05 * target


@pytest.mark.parametrize(("stuck", "freed", "limit"), [(0.0, 50.0, 0.0), (50.0, 0.0, 2.0)])
def test_the_controller_does_not_wind_up(stuck: float, freed: float, limit: float) -> None:
    """However long the weight was at a limit, it leaves it once the error changes its sign."""
    objective = pi_controller(target=20.0, proportional=0.0, weight_limits=[0.0, 2.0])
    for _ in range(10_000):
        weight = weight_after(objective, 0.0, stuck)
    assert weight == limit
    step = abs(weight_after(objective, 0.0, freed) - limit)
    assert step == pytest.approx(0.001 * abs(20 - freed), rel=1e-4)


@pytest.mark.parametrize("objective", [pi_controller(target=20.0), geco(distortion=100.0)])
def test_multipliers_that_were_logged_do_not_move_with_the_state(objective: Objective) -> None:
    logged = objective.multipliers()["kl_weight"]
    before = logged.item()
    assert weight_after(objective, 200.0, 80.0) != before == logged.item()


@pytest.mark.parametrize(
    ("objective", "price"),
    [
        (ELBO(), 3.0),
        (FreeBits(0.5), None),
        (Capacity(10.0, 0.5), None),
        (IWAE(5, 0.75), None),
        (pi_controller(target=1.0), None),
        (geco(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_the_elbo_has_a_constant_price_of_the_kl(
    objective: Objective, price: float | None
) -> None:
    assert objective.kl_price(None if objective.learns_weight else 3.0) == price


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FreeBits(-1.0), "nats_per_dimension=-1"),
        (lambda: FreeBits(math.inf), "nats_per_dimension=inf"),
        (lambda: Capacity(-1.0, 0.5), "capacity=-1"),
        (lambda: Capacity(25.0, 0.0), "rise=0"),
        (lambda: Capacity(25.0, 1.5), "rise=1.5"),
        (lambda: pi_controller(target=0.0), "target=0"),
        (lambda: pi_controller(target=1.0, integral=0.0), "integral=0"),
        (lambda: pi_controller(target=1.0, proportional=-1.0), "proportional=-1"),
        (
            lambda: pi_controller(target=1.0, weight_limits=[2.0, 1.0]),
            "weight_limits=.*two finite numbers",
        ),
        (lambda: pi_controller(target=1.0, weight_limits=[1.0]), "weight_limits="),
        (lambda: geco(weight_limits=[0.0, 1.0]), "weight_limits="),
        (lambda: geco(distortion=0.0), "distortion=0"),
        (lambda: geco(share=1.0), "share=1"),
        (lambda: geco(reference_fraction=0.0), "reference_fraction=0"),
        (lambda: geco(decay=1.0), "decay=1"),
        (lambda: geco(step_size=0.0), "step_size=0"),
    ],
)
def test_illegal_parameters_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
