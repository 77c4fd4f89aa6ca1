"""Schedules at points known on paper, and the learning rate."""

import pytest

from genmodels import schedules


@pytest.mark.parametrize(
    ("name", "options", "points"),
    [
        ("constant", {}, {0: 1, 0.5: 1, 1: 1}),
        ("linear", {"warmup": 0.2}, {0: 0, 0.1: 0.5, 0.2: 1, 1: 1}),
        ("cosine", {"warmup": 0.2}, {0: 0, 0.05: 0.5 - 0.5 * 2**-0.5, 0.1: 0.5, 0.2: 1, 1: 1}),
        ("sigmoid", {"midpoint": 0.4, "width": 0.2}, {0.3: 0.1, 0.4: 0.5, 0.5: 0.9}),
        (
            "cyclical",
            {"cycles": 4, "ramp": 0.5},
            {0: 0, 0.0625: 0.5, 0.125: 1, 0.249: 1, 0.25: 0, 0.3125: 0.5, 0.75: 0, 1: 1},
        ),
    ],
)
def test_known_points(name: str, options: dict, points: dict[float, float]) -> None:
    for progress, expected in points.items():
        assert getattr(schedules, name)(progress, **options) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("linear", {"warmup": 0}),
        ("cosine", {"warmup": 1.5}),
        ("sigmoid", {"midpoint": 0.5, "width": 0}),
        ("sigmoid", {"midpoint": -1, "width": 0.1}),
        ("cyclical", {"cycles": 0, "ramp": 0.5}),
        ("cyclical", {"cycles": 4, "ramp": 2}),
    ],
)
def test_illegal_parameters_are_named(name: str, options: dict) -> None:
    with pytest.raises(ValueError, match=r"=.*must be"):
        getattr(schedules, name)(0.5, **options)


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    rate = [schedules.warmup_cosine(step, total=1000, warmup_steps=50) for step in range(1001)]
    assert (
        rate[0] == pytest.approx(1 / 51, rel=1e-3)
        and rate.index(max(rate)) == 50
        and rate[-1] == pytest.approx(0)
    )
    assert rate[500] == pytest.approx(0.5)


def test_a_short_run_spends_a_tenth_on_the_warm_up() -> None:
    assert schedules.warmup_cosine(0, total=10, warmup_steps=200) == 0.5
    assert schedules.warmup_cosine(0, total=1, warmup_steps=200) == 1.0
