"""Analysis of variance of planted effects, whose shares are known."""

import itertools

import numpy as np
import pytest

from genmodels.d_optimal import fractional_design
from genmodels.report.anova import Anova, Estimate, anova


def analyse(factors: dict[str, list], response: list[float]) -> Anova:
    """An analysis that there must be."""
    analysis = anova(factors, response)
    assert analysis is not None
    return analysis


def planted(noise: float, effects: dict[str, dict], *, seeds: int) -> Anova:
    """The analysis of a full grid: the response is the sum of its values' effects and of noise."""
    random = np.random.default_rng(0)
    grid = list(itertools.product(*effects.values(), range(seeds)))
    sums = []
    for point in grid:
        sums.append(
            sum(effect[level] for effect, level in zip(effects.values(), point, strict=False))
        )
    response = np.array(sums) + noise * random.standard_normal(len(grid))
    columns = list(zip(*grid, strict=True))[:-1]
    return analyse(dict(zip(effects, map(list, columns), strict=True)), response.tolist())


def is_within(value: float, estimate: Estimate, margin: float) -> bool:
    """Whether a number lies in the interval of an estimate, give or take a margin."""
    assert estimate.low is not None and estimate.high is not None
    return estimate.low - margin <= value <= estimate.high + margin


def values(analysis: Anova) -> dict[str, float]:
    """The shares of the factors, none of which may be confounded."""
    shares = {}
    for name, effect in analysis.main_effects.items():
        assert effect is not None
        shares[name] = effect.share.value
    return shares


def test_planted_main_effects() -> None:
    """Variances of the effects 4, 1, 0, and 0.25 of the noise: shares of 5.25."""
    effects = {
        "kl_weight": {0.1: -2.0, 1.0: 2.0},
        "kl_schedule": {"linear": 1.0, "cyclical": -1.0},
        "latent_dim": dict.fromkeys((2, 8, 32), 0.0),
    }
    analysis = planted(0.5, effects, seeds=20)
    expected = {"kl_weight": 4 / 5.25, "kl_schedule": 1 / 5.25, "latent_dim": 0.0}
    assert values(analysis) == pytest.approx(expected, abs=0.03)
    for name, effect in analysis.main_effects.items():
        assert effect is not None
        assert is_within(expected[name], effect.share, margin=0.02)
    differences = {"kl_weight": 4.0, "kl_schedule": 2.0}
    for name, difference in differences.items():
        effect = analysis.main_effects[name]
        assert effect is not None
        assert is_within(difference, effect.difference, margin=0.05)
        levels = effects[name]
        for level, mean in zip(sorted(levels, key=str), effect.means.values(), strict=True):
            assert is_within(levels[level], mean, margin=0.05)
    assert analysis.seed is not None
    assert analysis.seed.value == pytest.approx(0.25 / 5.25, abs=0.015)
    assert analysis.all_interactions.value < 0.01
    for interaction in analysis.interactions.values():
        assert interaction.share.value < 0.01
    assert analysis.repeats == 12 * 19 and not analysis.warnings
    assert list(analysis.sources) == [*effects, "interactions", "seed"]
    assert analysis.ranked_factors == ["kl_weight", "kl_schedule", "latent_dim"]


def test_noise_alone_is_the_share_of_the_seed() -> None:
    effects = {"a": dict.fromkeys("xyz", 0.0), "b": dict.fromkeys("uv", 0.0)}
    analysis = planted(1.0, effects, seeds=30)
    assert analysis.seed is not None and analysis.seed.value > 0.95
    assert max(values(analysis).values()) < 0.03


def test_interactions() -> None:
    """a * b, each -1 or 1: neither has a main effect, and the effect of a goes from -2 to 2."""
    factors = {"a": [-1, -1, 1, 1] * 2, "b": [-1, 1, -1, 1] * 2}
    products = np.prod(list(factors.values()), axis=0)
    analysis = analyse(factors, (products + 0.01 * np.arange(8)).tolist())
    assert analysis.all_interactions.value > 0.99 and max(values(analysis).values()) < 0.01
    assert analysis.ranked_interactions == [("a", "b")]
    interaction = analysis.interactions[("a", "b")]
    assert interaction.share.value == pytest.approx(analysis.all_interactions.value)
    assert is_within(4.0, interaction.change, margin=0.05)
    expected = {("-1", "-1"): 1, ("-1", "1"): -1, ("1", "-1"): -1, ("1", "1"): 1}
    assert interaction.means == pytest.approx(expected, abs=0.1)


def test_interactions_of_a_fraction() -> None:
    """16 of the 32 points of 2^5 tell ten interactions apart, of which two are there."""
    points = np.repeat(fractional_design([2] * 5, 16, resolution=5), 3, axis=0)
    signs = 2 * points - 1
    noise = np.random.default_rng(0).normal(0, 0.1, len(points))
    response = signs[:, 0] + 0.5 * signs[:, 0] * signs[:, 1] - 0.25 * signs[:, 2] * signs[:, 4]
    factors = {name: column.tolist() for name, column in zip("abcde", points.T, strict=True)}
    analysis = analyse(factors, (response + noise).tolist())
    assert analysis.ranked_factors[0] == "a"
    assert len(analysis.interactions) == 10
    assert analysis.ranked_interactions[:2] == [("a", "b"), ("c", "e")]
    sizes = {("a", "b"): 2.0, ("c", "e"): 1.0}
    for pair, interaction in analysis.interactions.items():
        if pair in sizes:
            assert is_within(sizes[pair], interaction.change, margin=0.03)
        else:
            assert interaction.change.value < 0.2
    assert "three and more settings" in analysis.warnings[0]


def test_interactions_of_the_strongest_factors() -> None:
    """16 of 256 points tell the interactions of four factors apart."""
    points = np.repeat(fractional_design([2] * 8, 16, 4, interacting=(0, 2, 4, 6)), 3, axis=0)
    signs = 2 * points - 1
    noise = np.random.default_rng(0).normal(0, 0.1, len(points))
    main = signs[:, [0, 2, 4, 6]] @ [1.0, 0.8, 0.6, 0.4] + 0.1 * signs[:, 1]
    response = main + 0.5 * signs[:, 0] * signs[:, 6] + noise
    factors = {name: column.tolist() for name, column in zip("abcdefgh", points.T, strict=True)}
    analysis = analyse(factors, response.tolist())
    assert set(analysis.interactions) == set(itertools.combinations("aceg", 2))
    assert analysis.ranked_interactions[0] == ("a", "g")
    change = analysis.interactions[("a", "g")].change
    assert is_within(2.0, change, margin=0.03)
    effect = analysis.main_effects["g"]
    assert effect is not None and is_within(0.8, effect.difference, margin=0.03)
    assert "only among a, c, e, g, if those with other settings are small" in analysis.warnings[0]


def test_interactions_of_factors_with_three_levels() -> None:
    """A grid of 3 x 3, twice: one cell stands out by 3."""
    grid = list(itertools.product(range(3), range(3))) * 2
    factors = {"a": [a for a, _ in grid], "b": [b for _, b in grid]}
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(grid))
    response = [3.0 * (point == (2, 1)) for point in grid] + noise
    interaction = analyse(factors, response.tolist()).interactions[("a", "b")]
    assert interaction.change.value == pytest.approx(3, abs=0.05)
    for (a, b), mean in interaction.means.items():
        assert mean == pytest.approx(3.0 * ((a, b) == ("2", "1")), abs=0.05)


def test_means_are_those_with_the_other_factors_at_their_means() -> None:
    """Also in a design that is not balanced, where plain means would mix effects."""
    a, b = [0, 0, 0, 1, 1, 1, 1], [10, 10, 2, 2, 2, 2, 10]
    response = 5.0 * np.array(a) + np.array(b)
    analysis = analyse({"a": a, "b": b}, response.tolist())
    means = {}
    for name, effect in analysis.main_effects.items():
        assert effect is not None
        means[name] = {level: mean.value for level, mean in effect.means.items()}
    assert list(means) == ["a", "b"]
    assert list(means["b"]) == ["2", "10"]  # sorted as numbers, not as text
    assert means["a"]["1"] - means["a"]["0"] == pytest.approx(5)
    assert means["b"]["10"] - means["b"]["2"] == pytest.approx(8)
    assert np.mean([means["a"][str(level)] for level in a]) == pytest.approx(response.mean())


def test_a_random_search_over_many_numbers() -> None:
    random = np.random.default_rng(1)
    a, b = random.integers(0, 3, 200), random.integers(0, 2, 200)
    lr = 10 ** random.uniform(-4, -2, 200)
    response = 2.0 * b + 0.001 * a + np.log10(lr) + 0.01 * random.standard_normal(200)
    factors = {"a": a.tolist(), "b": b.tolist(), "lr": lr.tolist()}
    analysis = analyse(factors, response.tolist())
    shares = values(analysis)
    assert analysis.seed is None and shares["a"] < 0.01
    variances = {"b": 4 * b.var(), "lr": np.log10(lr).var()}
    for name, variance in variances.items():  # four levels of lr lose some of it
        assert shares[name] == pytest.approx(variance / response.var(), abs=0.05)
    effect = analysis.main_effects["b"]
    assert effect is not None and is_within(2.0, effect.difference, margin=0.02)
    assert analysis.all_interactions.low is None
    assert "No run was repeated" in analysis.warnings[0]
    assert list(analysis.sources) == [*factors, "residual"]


def test_a_fraction_of_a_grid() -> None:
    """12 of 128 points, two seeds: effects of 3, 1 and 0 have shares of 0.9, 0.1 and 0."""
    points = np.repeat(fractional_design([2] * 7, 12), 2, axis=0)
    noise = np.random.default_rng(0).normal(0, 0.05, len(points))
    factors = {f"factor{index}": column.tolist() for index, column in enumerate(points.T)}
    analysis = analyse(factors, (3 * points[:, 0] + points[:, 1] + noise).tolist())
    assert len(analysis.warnings) == 1
    assert analysis.warnings[0].startswith("12 of 128 combinations were run")
    strongest, second, *others = values(analysis).values()
    assert strongest == pytest.approx(0.9, abs=0.08) and second == pytest.approx(0.1, abs=0.05)
    assert max(others) < 0.01


def test_mirrored_points_tell_main_effects_from_interactions() -> None:
    """24 of 1,024 points: an interaction of two factors adds nothing to any main effect."""
    points = fractional_design([2] * 10, 24, resolution=4)
    signs = 2 * points - 1
    factors = {f"factor{index}": column.tolist() for index, column in enumerate(points.T)}
    analysis = analyse(factors, (signs[:, 0] + 2.0 * signs[:, 1] * signs[:, 2]).tolist())
    differences = []
    for effect in analysis.main_effects.values():
        assert effect is not None
        differences.append(effect.difference.value)
    assert differences == pytest.approx([2.0] + [0.0] * 9, abs=1e-9)
    assert "main effects are told from interactions of two settings" in analysis.warnings[1]


def test_confounded_factors_are_named() -> None:
    analysis = analyse({"a": [0, 0, 1, 1], "b": ["x", "x", "y", "y"]}, [0.0, 0.1, 1.0, 1.1])
    assert any("effect of a is confounded" in warning for warning in analysis.warnings)
    assert analysis.main_effects == {"a": None, "b": None}
    assert analysis.all_interactions.value < 0.05  # together they explain all


@pytest.mark.parametrize(
    "factors",
    [{"a": [0, 1, 2]}, {"a": [0, 0, 0]}, {"a": [0, 1, 2], "b": [5, 6, 5]}, {}],
    ids=["no more runs than levels", "no variation", "fewer runs than levels", "no factors"],
)
def test_too_few_runs_are_not_analysed(factors: dict[str, list]) -> None:
    assert anova(factors, [0.0, 1.0, 2.0]) is None
