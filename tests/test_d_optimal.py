"""Fractions of a grid of settings that estimate main effects well."""

import itertools

import numpy as np
import pytest

from genmodels.d_optimal import (
    contrasts,
    fractional_design,
    interaction_contrasts,
    least_points,
)


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


def effects(design: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The columns of all main effects and of all interactions of two factors."""
    main = [contrasts(column) for column in design.T]
    interactions = []
    for first, second in itertools.combinations(design.T, 2):
        interactions.append(interaction_contrasts(first, second))
    return np.concatenate(main, axis=1), np.concatenate(interactions, axis=1)


@pytest.mark.parametrize(("factors", "points"), [(7, 16), (10, 24), (12, 32)])
def test_resolution_4_tells_main_effects_from_interactions(factors: int, points: int) -> None:
    design = fractional_design([2] * factors, points, resolution=4)
    main, interactions = effects(design)
    assert len(np.unique(design, axis=0)) == points
    assert np.abs(np.corrcoef(design.T) - np.eye(factors)).max() < 1e-9  # orthogonal
    assert np.abs(main.T @ interactions).max() < 1e-9


@pytest.mark.parametrize(("factors", "points"), [(8, 16), (10, 24), (12, 32)])
def test_resolution_4_tells_some_interactions_apart(factors: int, points: int) -> None:
    """Those of four factors; the factor with one level takes no part."""
    interacting = (1, 2, 4, 7)
    design = fractional_design([1] + [2] * factors, points, 4, interacting)
    main, interactions = effects(design[:, 1:])
    assert np.abs(np.corrcoef(design[:, 1:].T) - np.eye(factors)).max() < 0.35
    assert np.abs(main.T @ interactions).max() < 1e-9
    _, told_apart = effects(design[:, interacting])
    assert np.linalg.matrix_rank(told_apart) == 6
    if points == 16:  # the regular fraction
        assert np.abs(np.corrcoef(told_apart.T) - np.eye(6)).max() < 1e-9


@pytest.mark.parametrize(
    ("levels", "points", "orthogonal"),
    [([2] * 5, 16, True), ([2] * 4, 12, False), ([2] * 6, 32, True), ([2, 3, 2], 12, False)],
)
def test_resolution_5_tells_all_interactions_apart(
    levels: list[int], points: int, orthogonal: bool
) -> None:
    columns = np.concatenate(effects(fractional_design(levels, points, resolution=5)), axis=1)
    assert np.linalg.matrix_rank(columns) == columns.shape[1] == least_points(levels, 5) - 1
    if orthogonal:  # the regular fraction, half of the grid
        information = columns.T @ columns
        assert np.abs(information - np.diag(np.diag(information))).max() < 1e-9


def test_points_that_confound_effects_are_refused() -> None:
    with pytest.raises(ValueError, match="no 6 points were found that tell the effects apart"):
        fractional_design([2] * 4, 6, resolution=5)
