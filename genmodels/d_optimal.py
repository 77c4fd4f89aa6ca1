"""D-optimal designs: which settings to try where all combinations of them are too many."""

import itertools
from collections.abc import Sequence

import numpy as np

STARTS = 8  # searches, the best of which is kept
EXCHANGES = 3000  # that each search tries
RESOLUTIONS = (3, 4, 5)


def fractional_design(levels: Sequence[int], points: int, resolution: int = 3) -> np.ndarray:
    """Some points of a grid of factors, chosen so that effects are estimated well.

    Each level of a factor comes equally often, give or take one. Random exchanges within a column
    are kept where they raise the determinant of the effects' information matrix (D-optimality:
    Meyer & Nachtsheim 1995, "The coordinate-exchange algorithm"). Equal arguments give equal
    points.

    Arguments:
    levels: how many each of the F factors has.
    points: how many to choose, at least `least_points`.
    resolution: which effects the points tell apart (Box & Hunter 1961, "The 2^(k-p) fractional
        factorial designs"). 3: main effects from one another. 4: and from interactions of two
        factors, for factors with two levels: the second half of the points mirrors the first. 5:
        and interactions of two factors from one another.

    Returns (points, F): levels from 0. Raises ValueError where the search finds no such points.
    """
    if resolution == 4:
        half = _search(levels, points // 2, with_interactions=False)
        return np.concatenate([half, np.array(levels) - 1 - half])
    return _search(levels, points, with_interactions=resolution == 5)


def least_points(levels: Sequence[int], resolution: int) -> int:
    """How many points a design of this resolution needs, one for each effect and the mean."""
    main_effects = [count - 1 for count in levels]
    if resolution == 4:
        return 2 * (1 + sum(main_effects))
    effects = 1 + sum(main_effects)
    if resolution == 5:
        effects += sum(first * second for first, second in itertools.combinations(main_effects, 2))
    return effects


def contrasts(column: np.ndarray) -> np.ndarray:
    """Centred indicators (N, L - 1) of the levels 1 to L - 1 in a column (N,) of L levels."""
    indicators = (column[:, None] == np.arange(1, column.max() + 1)).astype(float)
    return indicators - indicators.mean(axis=0)


def interaction_contrasts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Centred products (N, (L - 1)(M - 1)) of the contrasts of two columns (N,)."""
    products = contrasts(first)[:, :, None] * contrasts(second)[:, None, :]
    flat = products.reshape(len(first), -1)
    return flat - flat.mean(axis=0)


def _search(levels: Sequence[int], points: int, *, with_interactions: bool) -> np.ndarray:
    random = np.random.default_rng(0)
    designs = []
    for _ in range(STARTS):
        columns = [random.permutation(np.arange(points) % count) for count in levels]
        design = np.stack(columns, axis=1)
        designs.append(_exchange(design, random, with_interactions))
    best = max(designs, key=lambda design: _log_information(design, with_interactions))
    effects = _effects(best, with_interactions)
    if np.linalg.matrix_rank(effects) < effects.shape[1]:
        raise ValueError(f"no {points} points were found that tell the effects apart")
    return best


def _exchange(
    points: np.ndarray, random: np.random.Generator, with_interactions: bool
) -> np.ndarray:
    """Improve a design by exchanging levels of two points."""
    best = _log_information(points, with_interactions)
    varied = np.flatnonzero(points.max(axis=0))
    for _ in range(EXCHANGES):
        column = random.choice(varied)
        pair = random.choice(len(points), 2, replace=False)
        if np.ptp(points[pair, column]) == 0:
            continue
        points[pair, column] = points[pair[::-1], column]
        information = _log_information(points, with_interactions)
        if information > best:
            best = information
        else:
            points[pair, column] = points[pair[::-1], column]
    return points


def _log_information(points: np.ndarray, with_interactions: bool) -> float:
    """The logarithm of the information matrix's determinant, -inf where effects are confounded."""
    effects = _effects(points, with_interactions)
    sign, logarithm = np.linalg.slogdet(effects.T @ effects)
    return float(logarithm) if sign > 0 else -np.inf


def _effects(points: np.ndarray, with_interactions: bool) -> np.ndarray:
    """The columns (N, E) of all main effects, and of all interactions of two factors."""
    columns = list(points.T)
    parts = [contrasts(column) for column in columns]
    if with_interactions:
        for first, second in itertools.combinations(columns, 2):
            parts.append(interaction_contrasts(first, second))
    return np.concatenate(parts, axis=1)
