"""Fractions of a grid of settings that estimate main effects well."""

import numpy as np
import pytest

from genmodels.d_optimal import contrasts, fractional_design


@pytest.mark.parametrize(
    ("levels", "points"), [([2] * 6, 12), ([2] * 7, 12), ([2, 3, 4], 12), ([2, 1, 3], 5)]
)
def test_a_fraction_is_balanced_and_identifies_main_effects(levels: list[int], points: int) -> None:
    design = fractional_design(levels, points)
    assert design.shape == (points, len(levels))
    for column, count in zip(design.T, levels, strict=True):
        assert np.ptp(np.bincount(column, minlength=count)) <= 1
    effects = np.concatenate([contrasts(column) for column in design.T], axis=1)
    assert np.linalg.matrix_rank(effects) == sum(levels) - len(levels)
    if points % 4 == 0 and set(levels) == {2}:  # nearly orthogonal
        assert np.abs(np.corrcoef(design.T) - np.eye(len(levels))).max() <= 1 / 3 + 1e-9


def test_equal_arguments_give_equal_designs() -> None:
    assert (fractional_design([2, 1, 3], 5) == fractional_design([2, 1, 3], 5)).all()
