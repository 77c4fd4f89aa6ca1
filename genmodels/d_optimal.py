"""Which settings to try, where all combinations of them are too many: fractions of a grid."""

from collections.abc import Sequence

import numpy as np

STARTS = 8  # of the search, the best of which is kept
EXCHANGES = 1500  # that each of them tries


def fraction(levels: Sequence[int], points: int) -> np.ndarray:
    """Some points (points, F) of the grid of F settings with so many levels each, chosen for their main effects.

    Each level of a setting comes equally often, give or take one. Random exchanges within a column are kept where they
    raise the determinant of the main effects' information matrix (D-optimality: Meyer & Nachtsheim 1995, "The
    coordinate-exchange algorithm"). Equal arguments give equal points.
    """
    random = np.random.default_rng(0)
    found = [
        _exchanged(
            np.stack([random.permutation(np.arange(points) % count) for count in levels], axis=1),
            random,
        )
        for _ in range(STARTS)
    ]
    return max(found, key=_information)


def contrasts(column: np.ndarray) -> np.ndarray:
    """Columns (N, L - 1) that tell the L levels in (N,) apart, centred."""
    indicators = (column[:, None] == np.arange(1, column.max() + 1)).astype(float)
    return indicators - indicators.mean(axis=0)


def _exchanged(points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    best, varied = _information(points), np.flatnonzero(points.max(axis=0))
    for _ in range(EXCHANGES):
        column, (a, b) = random.choice(varied), random.choice(len(points), 2, replace=False)
        if points[a, column] != points[b, column]:
            points[[a, b], column] = points[[b, a], column]
            if (now := _information(points)) > best:
                best = now
            else:
                points[[a, b], column] = points[[b, a], column]
    return points


def _information(points: np.ndarray) -> float:
    """The logarithm of the determinant, -inf where some effects cannot be told apart."""
    effects = np.concatenate([contrasts(column) for column in points.T], axis=1)
    sign, logarithm = np.linalg.slogdet(effects.T @ effects)
    return float(logarithm) if sign > 0 else -np.inf
