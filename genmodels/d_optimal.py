"""D-optimal designs: which settings to try where all combinations of them are too many."""

from collections.abc import Sequence

import numpy as np

STARTS = 8  # searches, the best of which is kept
EXCHANGES = 1500  # that each search tries


def fractional_design(levels: Sequence[int], points: int) -> np.ndarray:
    """Some points of a grid of factors, chosen so that main effects are estimated well.

    Each level of a factor comes equally often, give or take one. Random exchanges within a column
    are kept where they raise the determinant of the main effects' information matrix
    (D-optimality: Meyer & Nachtsheim 1995, "The coordinate-exchange algorithm"). Equal arguments
    give equal points.

    Arguments:
    levels: how many each of the F factors has.
    points: how many to choose.

    Returns (points, F): levels from 0.
    """
    random = np.random.default_rng(0)
    designs = []
    for _ in range(STARTS):
        columns = [random.permutation(np.arange(points) % count) for count in levels]
        designs.append(_exchange(np.stack(columns, axis=1), random))
    return max(designs, key=_log_information)


def contrasts(column: np.ndarray) -> np.ndarray:
    """Centred indicators (N, L - 1) of the levels 1 to L - 1 in a column (N,) of L levels."""
    indicators = (column[:, None] == np.arange(1, column.max() + 1)).astype(float)
    return indicators - indicators.mean(axis=0)


def _exchange(points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Improve a design by exchanging levels of two points."""
    best = _log_information(points)
    varied = np.flatnonzero(points.max(axis=0))
    for _ in range(EXCHANGES):
        column = random.choice(varied)
        pair = random.choice(len(points), 2, replace=False)
        if np.ptp(points[pair, column]) == 0:
            continue
        points[pair, column] = points[pair[::-1], column]
        information = _log_information(points)
        if information > best:
            best = information
        else:
            points[pair, column] = points[pair[::-1], column]
    return points


def _log_information(points: np.ndarray) -> float:
    """The logarithm of the information matrix's determinant, -inf where effects are confounded."""
    effects = np.concatenate([contrasts(column) for column in points.T], axis=1)
    sign, logarithm = np.linalg.slogdet(effects.T @ effects)
    return float(logarithm) if sign > 0 else -np.inf
