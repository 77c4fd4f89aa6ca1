"""The least-squares fits of a metric on the settings of the runs of a sweep."""

import itertools
import math
from collections.abc import Mapping

import numpy as np

from genmodels.d_optimal import contrasts, interaction_contrasts

MAX_FACTORS = 12  # whose interactions are fitted
BOOTSTRAP_DRAWS = 1000

Term = tuple[str, ...]  # the main effect of one factor, or the interaction of two


class Design:
    """Which of N runs have which levels, and what can be estimated from them.

    A cell is a combination of levels that was run. Responses are (N, R), all fitted at once.

    levels: factor -> level of each run, (N,) from 0.
    repeats: how many runs are not the first of their cell.
    widths: the fitted terms -> their columns. Interactions are among them where runs repeat and
        tell all interactions of two factors apart.
    freedom: term -> how many of its columns the other terms do not explain.
    """

    def __init__(self, levels: Mapping[str, np.ndarray], cells: np.ndarray) -> None:
        """Arguments:
        levels: factor -> level of each run, (N,) from 0.
        cells: what tells the cell of each run, (N,).
        """
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
        blocks |= self._told_apart(blocks)
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
    def interactions(self) -> list[tuple[str, str]]:
        """The interactions among the terms."""
        return [(term[0], term[1]) for term in self.widths if len(term) == 2]

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
        if self.interactions:
            return "so that interactions of three and more settings are not told from these effects"
        clear = True
        for first, second in itertools.combinations(self.levels.values(), 2):
            overlap = self._main_basis.T @ interaction_contrasts(first, second)
            clear = clear and bool(np.abs(overlap).max() < 1e-9)
        if clear:
            return (
                "so that main effects are told from interactions of two settings, and these not "
                "from one another"
            )
        return "so that main effects are partly aliased with interactions"

    def _told_apart(self, main_effects: Mapping[Term, np.ndarray]) -> dict[Term, np.ndarray]:
        """The columns of all interactions of two factors; {} where the runs do not tell them."""
        pairs = list(itertools.combinations(self.levels, 2))
        widths = {name: int(levels.max()) for name, levels in self.levels.items()}
        columns = sum(widths.values())
        columns += sum(widths[first] * widths[second] for first, second in pairs)
        if not self.repeats or len(self.levels) > MAX_FACTORS or columns > self.cells - 1:
            return {}
        blocks: dict[Term, np.ndarray] = {}
        for first, second in pairs:
            blocks[(first, second)] = interaction_contrasts(self.levels[first], self.levels[second])
        matrix = np.concatenate([*main_effects.values(), *blocks.values()], axis=1)
        return blocks if np.linalg.matrix_rank(matrix) == columns else {}

    def _coefficients(self, responses: np.ndarray) -> dict[Term, np.ndarray]:
        """Those of each term, (its columns, R)."""
        y = responses - responses.mean(axis=0)
        solution = np.linalg.lstsq(self._matrix, y, rcond=None)[0]
        return {term: solution[self._owners == index] for index, term in enumerate(self.widths)}


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
