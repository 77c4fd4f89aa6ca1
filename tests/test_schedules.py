"""Schedules at points known on paper, and the learning rate."""

from collections.abc import Callable
from functools import partial

import pytest

from genmodels.schedules import (
    Constant,
    Cosine,
    Cyclical,
    Linear,
    Schedule,
    Sigmoid,
    WarmupCosine,
    cosine_decay,
)


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Constant(), {0: 1, 0.5: 1, 1: 1}),
        (Linear(warmup=0.2), {0: 0, 0.1: 0.5, 0.2: 1, 1: 1}),
        (Cosine(warmup=0.2), {0: 0, 0.05: 0.5 - 0.5 * 2**-0.5, 0.1: 0.5, 0.2: 1, 1: 1}),
        (Sigmoid(midpoint=0.4, width=0.2), {0.3: 0.1, 0.4: 0.5, 0.5: 0.9}),
        (
            Cyclical(cycles=4, ramp=0.5),
            {0: 0, 0.0625: 0.5, 0.125: 1, 0.249: 1, 0.25: 0, 0.3125: 0.5, 0.75: 0, 1: 1},
        ),
        pytest.param(partial(cosine_decay, end=0.2), {0: 1, 0.5: 0.6, 1: 0.2}, id="cosine_decay"),
    ],
    ids=str,
)
def test_known_points(schedule: Schedule, points: dict[float, float]) -> None:
    for progress, expected in points.items():
        assert schedule(progress) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear(warmup=0), r"^warmup=0: must be a fraction of the run"),
        (lambda: Cosine(warmup=1.5), r"^warmup=1\.5: must be"),
        (lambda: Sigmoid(midpoint=0.5, width=0), "^width=0: must be"),
        (lambda: Sigmoid(midpoint=-1, width=0.1), "^midpoint=-1: must be"),
        (lambda: Cyclical(cycles=0, ramp=0.5), "^cycles=0: must be an integer >= 1"),
        (lambda: Cyclical(cycles=4, ramp=2), "^ramp=2: must be"),
        (lambda: WarmupCosine(warmup_steps=-1), "^warmup_steps=-1: must be an integer >= 0"),
        (lambda: WarmupCosine(warmup_steps=0, end=1.1), r"^end=1\.1: must be a number in"),
    ],
)
def test_illegal_parameters_are_refused_when_a_schedule_is_made(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    schedule = WarmupCosine(warmup_steps=50)
    rates = [schedule(step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(1 / 51, rel=1e-3)
    assert rates.index(max(rates)) == 50
    assert rates[500] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0)


def test_a_short_run_spends_a_tenth_on_the_warm_up() -> None:
    schedule = WarmupCosine(warmup_steps=200)
    assert schedule(0, 10) == 0.5
    assert schedule(0, 1) == 1.0
