"""D-optimal designs: which settings to try where all combinations of them are too many."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

STARTS = 8  # searches, the best of which is kept
CHANGES = 3000  # that each search tries
RESOLUTIONS = (3, 4, 5)


def fractional_design(
    levels: Sequence[int], points: int, resolution: int = 3, interacting: Sequence[int] = ()
) -> np.ndarray:
    """Some points of a grid of factors, chosen so that effects are estimated well.

    Each level of a factor comes equally often, give or take one. Random changes of a column are
    kept where they raise the determinant of the effects' information matrix (D-optimality: Meyer &
    Nachtsheim 1995, "The coordinate-exchange algorithm"). Equal arguments give equal points.

    Arguments:
    levels: how many each of the F factors has.
    points: how many to choose, at least `least_points`.
    resolution: which effects the points tell apart (Box & Hunter 1961, "The 2^(k-p) fractional
        factorial designs"). 3: main effects from one another. 4: and from interactions of two
        factors, for factors with two levels: the second half of the points mirrors the first. 5:
        and interactions of two factors from one another.
    interacting: at resolution 4, the factors whose interactions with one another are told apart
        too; they are confounded with interactions of the other factors.

    Returns (points, F): levels from 0. Raises ValueError where the search finds no such points.
    """
    random = np.random.default_rng(0)
    if resolution == 4:
        design = _search_mirrored(levels, points, interacting, random)
        pairs = list(itertools.combinations(interacting, 2))
    else:
        pairs = list(itertools.combinations(range(len(levels)), 2)) if resolution == 5 else []
        design = _search(levels, points, pairs, random)
    effects = _effects(design, pairs)
    if np.linalg.matrix_rank(effects) < effects.shape[1]:
        raise ValueError(f"no {points} points were found that tell the effects apart")
    return design


def least_points(levels: Sequence[int], resolution: int, interacting: int = 0) -> int:
    """How many points a design of this resolution needs, at least one for each effect and the mean.

    Arguments:
    interacting: at resolution 4, how many factors have interactions that are told apart.
    """
    main_effects = [count - 1 for count in levels]
    if resolution == 4:  # half of the points for the main effects, as many for the others
        return 2 * max(sum(main_effects), 1 + math.comb(interacting, 2))
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


def _search(
    levels: Sequence[int],
    points: int,
    pairs: Sequence[tuple[int, int]],
    random: np.random.Generator,
) -> np.ndarray:
    """Exchange levels of two points, so that each level keeps its number of points."""
    varied = [column for column, count in enumerate(levels) if count > 1]

    def exchange(design: np.ndarray) -> None:
        column = random.choice(varied)
        pair = random.choice(points, 2, replace=False)
        design[pair, column] = design[pair[::-1], column]

    def information(design: np.ndarray) -> float:
        return _log_determinant(_effects(design, pairs))

    designs = []
    for _ in range(STARTS):
        columns = [random.permutation(np.arange(points) % count) for count in levels]
        designs.append(_climb(np.stack(columns, axis=1), exchange, information))
    return max(designs, key=information)


def _search_mirrored(
    levels: Sequence[int], points: int, interacting: Sequence[int], random: np.random.Generator
) -> np.ndarray:
    """Flip levels in one half of the points; in the other half each point is mirrored.

    In such points main effects are orthogonal to interactions of two factors, so that each kind
    has its own information matrix.
    """
    varied = np.flatnonzero(np.array(levels) > 1)
    pairs = list(itertools.combinations(interacting, 2))
    first, second = np.array(pairs, int).reshape(-1, 2).T
    half_size = points // 2
    mean = np.ones((half_size, 1))

    def flip(half: np.ndarray) -> None:
        half[random.integers(half_size), random.choice(varied)] ^= 1

    def information(half: np.ndarray) -> float:
        signs = 2.0 * half - 1
        products = np.concatenate([mean, signs[:, first] * signs[:, second]], axis=1)
        return _log_determinant(signs[:, varied]) + _log_determinant(products)

    halves = []
    for _ in range(STARTS):
        start = random.integers(levels, size=(half_size, len(levels)))
        halves.append(_climb(start, flip, information))
    best = max(halves, key=information)
    return np.concatenate([best, np.array(levels) - 1 - best])


def _climb(
    design: np.ndarray,
    change: Callable[[np.ndarray], None],
    information: Callable[[np.ndarray], float],
) -> np.ndarray:
    """Keep those changes of a design that bring information."""
    best = information(design)
    for _ in range(CHANGES):
        changed = design.copy()
        change(changed)
        of_changed = information(changed)
        if of_changed > best:
            design, best = changed, of_changed
    return design


def _log_determinant(effects: np.ndarray) -> float:
    """That of the information matrix of effects (N, E); -inf where they are confounded."""
    sign, logarithm = np.linalg.slogdet(effects.T @ effects)
    return float(logarithm) if sign > 0 else -np.inf


def _effects(points: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The columns (N, E) of all main effects, and of the interactions of pairs of factors."""
    parts = [contrasts(column) for column in points.T]
    for first, second in pairs:
        parts.append(interaction_contrasts(points[:, first], points[:, second]))
    return np.concatenate(parts, axis=1)
