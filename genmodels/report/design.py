"""The least-squares fits of a metric on the settings of the runs of a sweep."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from genmodels.d_optimal import contrasts, interaction_contrasts

MAX_INTERACTING = 12  # factors whose interactions are fitted
ORTHOGONAL = 1e-9
BOOTSTRAP_DRAWS = 1000

Term = tuple[str, ...]  # the main effect of one factor, or the interaction of two


class Design:
    """Which of N runs have which levels, and what can be estimated from them.

    A cell is a combination of levels that was run. Responses are (N, R), all fitted at once.

    levels: factor -> level of each run, (N,) from 0.
    interactions: the pairs of factors whose interactions are among the terms.
    repeats: how many runs are not the first of their cell.
    widths: the fitted terms -> their columns.
    freedom: term -> how many of its columns the other terms do not explain.
    """

    def __init__(
        self,
        levels: Mapping[str, np.ndarray],
        cells: np.ndarray,
        interactions: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Arguments:
        levels: factor -> level of each run, (N,) from 0.
        cells: what tells the cell of each run, (N,).
        interactions: pairs of factors whose interactions are fitted besides the main effects.
        """
        self.interactions = interactions
        self.levels = levels
        self.cells = len(np.unique(cells))
        self.repeats = len(cells) - self.cells
        same_cell = cells[:, None] == cells
        self._cell_sizes = same_cell.sum(axis=0)  # (N,)
        self._averaging = same_cell / self._cell_sizes  # (N, N): responses -> means of their cells

        blocks: dict[Term, np.ndarray] = {}
        for name, of_runs in levels.items():
            blocks[(name,)] = contrasts(of_runs)
        self._main_basis = _basis(np.concatenate(list(blocks.values()), axis=1))
        for first, second in interactions:
            blocks[(first, second)] = interaction_contrasts(levels[first], levels[second])
        self._matrix = np.concatenate(list(blocks.values()), axis=1)
        self.widths = {term: block.shape[1] for term, block in blocks.items()}
        terms = list(range(len(blocks)))
        self._owners = np.repeat(terms, list(self.widths.values()))  # term of each column
        self._full_basis = _basis(self._matrix)
        self._bases = {}  # term -> basis of all other columns
        self.freedom = {}
        for index, term in enumerate(blocks):
            basis = _basis(self._matrix[:, self._owners != index])
            self._bases[term] = basis
            self.freedom[term] = self._full_basis.shape[1] - basis.shape[1]

    @property
    def tells_apart(self) -> bool:
        """Whether the cells determine all terms."""
        columns = sum(self.widths.values())
        return columns < self.cells and self._full_basis.shape[1] == columns

    @property
    def has_clear_main_effects(self) -> bool:
        """Whether the main effects are orthogonal to all interactions of two factors."""
        overlaps = []
        for first, second in itertools.combinations(self.levels.values(), 2):
            overlap = self._main_basis.T @ interaction_contrasts(first, second)
            overlaps.append(np.abs(overlap).max())
        return max(overlaps, default=0.0) < ORTHOGONAL

    @property
    def main_rank(self) -> int:
        """How many independent columns the main effects have."""
        return self._main_basis.shape[1]

    @property
    def confounded(self) -> list[str]:
        """Factors with levels that go together with levels of others."""
        return [name for name in self.levels if self.freedom[(name,)] < self.widths[(name,)]]

    def shares(
        self, responses: np.ndarray
    ) -> tuple[dict[Term, np.ndarray], np.ndarray, np.ndarray]:
        """The shares (R,) of each term, of all interactions together, and of the seed."""
        runs = len(responses)
        y = responses - responses.mean(axis=0)
        total = np.maximum(_squares(y), 1e-300)
        of_interactions = _residual_squares(self._main_basis, y)
        error = _squares(y - self._averaging @ y)
        if self.repeats:
            mean_error = error / self.repeats
            noise = error + (self.cells - 1 - self.main_rank) * mean_error
            of_interactions = np.maximum(of_interactions - noise, 0)
        else:
            mean_error = of_interactions / (runs - 1 - self.main_rank)
        residual = _residual_squares(self._full_basis, y)
        shares = {}
        for term, freedom in self.freedom.items():
            explained = _residual_squares(self._bases[term], y) - residual
            shares[term] = np.maximum(explained - freedom * mean_error, 0) / total
        seed = np.minimum(mean_error * (runs - 1) / total, 1)
        return shares, of_interactions / total, seed

    def means(self, responses: np.ndarray) -> dict[str, np.ndarray]:
        """Fitted means (L, R) at each factor's levels, with the other factors at their means.

        Without the factors that are confounded.
        """
        centre = responses.mean(axis=0)
        coefficients = self._coefficients(responses)
        means = {}
        for name, levels in self.levels.items():
            if name not in self.confounded:
                effects = _level_contrasts(levels) @ coefficients[(name,)]
                means[name] = centre + effects
        return means

    def interaction_effects(self, responses: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        """What two levels together add to the sum of their main effects, (L, M, R)."""
        coefficients = self._coefficients(responses)
        effects = {}
        for first, second in self.interactions:
            rows = _level_contrasts(self.levels[first])
            columns = _level_contrasts(self.levels[second])
            products = rows[:, None, :, None] * columns[None, :, None, :]  # (L, M, L - 1, M - 1)
            of_runs = products[self.levels[first], self.levels[second]]
            products = products - of_runs.mean(axis=0)
            flat = products.reshape(*products.shape[:2], -1)
            effects[(first, second)] = flat @ coefficients[(first, second)]
        return effects

    def bootstrap(self, y: np.ndarray) -> np.ndarray:
        """Responses (N, BOOTSTRAP_DRAWS): the cell means of y (N,) with redrawn errors.

        Deviations from a mean of n runs are inflated by sqrt(n / (n - 1)) to the errors' size.
        Without repeats it is the fitted values with redrawn residuals, inflated likewise.
        """
        if self.repeats:
            means = self._averaging @ y
            repeated = self._cell_sizes > 1
            sizes = self._cell_sizes[repeated]
            inflation = np.sqrt(sizes / (sizes - 1))
            errors = (y - means)[repeated] * inflation
        else:
            centred = y - y.mean()
            means = y.mean() + self._full_basis @ (self._full_basis.T @ centred)
            freedom = len(y) - 1 - self._full_basis.shape[1]
            errors = (y - means) * math.sqrt(len(y) / freedom)
        random = np.random.default_rng(0)
        drawn = random.choice(errors, (BOOTSTRAP_DRAWS, len(y)))
        return means[:, None] + drawn.T

    def warnings(self) -> list[str]:
        """Sentences on what these runs cannot tell."""
        sentences = []
        if not self.repeats:
            sentences.append(
                "No run was repeated with another seed (seed=0,1,2), so that the residual does not "
                "tell interactions from chance."
            )
        grid = math.prod(int(levels.max()) + 1 for levels in self.levels.values())
        if self.cells < grid:
            sentences.append(f"{self.cells} of {grid} combinations were run, {self._aliases()}.")
        for name in self.confounded:
            sentences.append(f"The effect of {name} is confounded with those of other settings.")
        return sentences

    def _aliases(self) -> str:
        """What a fraction of the grid confounds."""
        factors = len(self.levels)
        if len(self.interactions) == math.comb(factors, 2):
            return "so that interactions of three and more settings are not told from these effects"
        if not self.has_clear_main_effects:
            return "so that main effects are partly aliased with interactions"
        told = "so that main effects are told from interactions of two settings, and these "
        if not self.interactions:
            return told + "not from one another"
        names = sorted({name for pair in self.interactions for name in pair})
        return told + f"only among {', '.join(names)}, if those with other settings are small"

    def _coefficients(self, responses: np.ndarray) -> dict[Term, np.ndarray]:
        """Those of each term, (its columns, R)."""
        y = responses - responses.mean(axis=0)
        solution = np.linalg.lstsq(self._matrix, y, rcond=None)[0]
        return {term: solution[self._owners == index] for index, term in enumerate(self.widths)}


def strongest_interactions(
    levels: Mapping[str, np.ndarray], cells: np.ndarray, y: np.ndarray
) -> Design:
    """The design with the interactions of the factors with the largest main effects on y (N,).

    They are those of as many factors as the cells tell apart, of all where they can; factors with
    large main effects are likely to interact (Hamada & Wu 1992, "Analysis of designed experiments
    with complex aliasing", effect heredity). None where no run repeats, and none of a part of the
    factors where they would be mixed up with main effects.
    """
    design = Design(levels, cells)
    if not design.repeats:
        return design
    shares, *_ = design.shares(y[:, None])
    ranked = sorted(levels, key=lambda name: -shares[(name,)][0])
    fewest = 2 if design.has_clear_main_effects else len(ranked)
    for count in range(min(len(ranked), MAX_INTERACTING), fewest - 1, -1):
        interacting = [name for name in levels if name in ranked[:count]]
        pairs = list(itertools.combinations(interacting, 2))
        larger = Design(levels, cells, pairs)
        if larger.tells_apart:
            return larger
    return design


def _level_contrasts(levels: np.ndarray) -> np.ndarray:
    """The row of `contrasts` that each level has, (L, L - 1)."""
    rows = np.eye(levels.max() + 1)[:, 1:]
    return rows - rows[levels].mean(axis=0)


def _basis(columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns (N, rank) with the same span."""
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    tolerance = max(columns.shape) * np.finfo(float).eps
    return left[:, singular > tolerance * singular.max(initial=0)]


def _residual_squares(basis: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The sums of squares (R,) that a fit on an orthonormal basis leaves of centred y (N, R)."""
    return _squares(y - basis @ (basis.T @ y))


def _squares(y: np.ndarray) -> np.ndarray:
    """The sum of squares of each column."""
    return (y**2).sum(axis=0)
