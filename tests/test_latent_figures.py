"""Figures of latent dimensions, rate and distortion: their numbers against numpy and scipy."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.contour import QuadContourSet
from planted_models import PlantedPosteriors, noise_images
from scipy import stats
from torch import Tensor

from genmodels.figures.aggregated_posterior import MAX_MARGINALS
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult
from genmodels.figures.registry import FIGURES
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics import likelihood
from genmodels.metrics.aggregated_posterior import posteriors
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.vae import MLPVAE

PLANTED_LABELS = torch.arange(60) % 7


def random_posteriors(kinds: int, latent_dim: int) -> tuple[Tensor, Tensor]:
    """Means and standard deviations (kinds, latent_dim); the last dimension carries nothing."""
    noise = torch.Generator().manual_seed(0)
    scale = torch.linspace(2, 0, latent_dim)
    mean = torch.randn(kinds, latent_dim, generator=noise) * scale + 0.3
    return mean, torch.rand(kinds, latent_dim, generator=noise) * 0.5 + 0.4


def mixture(latent_dim: int) -> GaussianMixture:
    """Three components, correlated, far apart."""
    noise = torch.Generator().manual_seed(5)
    root = torch.randn(3, latent_dim, latent_dim, generator=noise, dtype=torch.float64) * 0.3
    covariances = root @ root.mT + 0.1 * torch.eye(latent_dim, dtype=torch.float64)
    means = torch.tensor([-6.0, 0.0, 6.0], dtype=torch.float64)[:, None].repeat(1, latent_dim)
    return GaussianMixture.of(
        torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), means, covariances
    )


def marginal_pdf(density: GaussianMixture, x: float, dimension: int) -> float:
    """The density of one dimension, by scipy."""
    variances = density.covariances[:, dimension, dimension]
    components = stats.norm.pdf(x, density.means[:, dimension], variances.sqrt())
    return float((density.weights.numpy() * components).sum())


def planted_kl(mean: Tensor, stddev: Tensor) -> np.ndarray:
    """KL(q(z_d|x) || N(0, 1)) in nats of PLANTED_LABELS, (N, D)."""
    means, variances = mean.double().numpy(), stddev.double().numpy() ** 2
    return (0.5 * (means**2 + variances - 1 - np.log(variances)))[PLANTED_LABELS]


def test_the_table_of_dimensions_is_that_of_numpy() -> None:
    mean, stddev = random_posteriors(7, 5)
    options = FigureOptions(test=noise_images(PLANTED_LABELS))
    result = FIGURES["kl_per_dimension"].call(PlantedPosteriors(mean, stddev), options)
    means = mean.double().numpy()[PLANTED_LABELS]
    variances = stddev.double().numpy()[PLANTED_LABELS] ** 2
    kl = planted_kl(mean, stddev).mean(axis=0)
    assert [row["dimension"] for row in result.table] == list(np.argsort(-kl))
    for row in result.table:
        index = row["dimension"]
        assert row["kl_nats"] == pytest.approx(kl[index], rel=1e-5)
        assert row["mean"] == pytest.approx(means[:, index].mean(), rel=1e-5)
        assert row["variance_of_means"] == pytest.approx(means[:, index].var(), rel=1e-5, abs=1e-9)
        assert row["mean_variance"] == pytest.approx(variances[:, index].mean(), rel=1e-5)
        total = row["variance_of_means"] + row["mean_variance"]
        assert row["total_variance"] == pytest.approx(total)
        assert row["active"] == (means[:, index].var() > 0.01)


def test_bars_of_active_and_inactive_dimensions() -> None:
    mean, stddev = random_posteriors(7, 5)
    options = FigureOptions(test=noise_images(PLANTED_LABELS))
    result = FIGURES["kl_per_dimension"].call(PlantedPosteriors(mean, stddev), options)
    kl = planted_kl(mean, stddev).mean(axis=0)
    axes = result.figure.axes[0]
    bars = axes.containers[0].patches
    np.testing.assert_allclose([bar.get_height() for bar in bars], np.sort(kl)[::-1], rtol=1e-5)
    assert axes.get_title(loc="left") == f"Rate {kl.sum():.2f} nats per image, 4 of 5 units active"
    colours = [bar.get_facecolor() for bar in bars]
    inactive = [row["dimension"] for row in result.table].index(4)
    assert len(set(colours)) == 2 and colours.count(colours[inactive]) == 1


def test_the_rate_is_the_kl_of_the_evaluation() -> None:
    """Over several batches of gray images, which both binarise in the same way."""
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(1, 8, 8), latent_dim=3, widths=[16], likelihood=BernoulliLikelihood()
    )
    split = noise_images(torch.arange(1100) % 2)
    rate = posteriors(model, split).kl.sum(dim=1).mean().item()
    assert rate == pytest.approx(likelihood.evaluate(model, split)["kl"], rel=1e-5)


def test_holes_of_one_dimension() -> None:
    """N(m, 1) is under a tenth of N(0, 1) where m x - m^2 / 2 < -log 10.

    The variance of the smoothing is 0.01.
    """
    mean, stddev = torch.tensor([[0.0, 2.0]]), torch.full((1, 2), (1 - 0.1**2) ** 0.5)
    options = FigureOptions(test=noise_images(torch.zeros(30).long()))
    result = FIGURES["aggregated_posterior"].call(PlantedPosteriors(mean, stddev), options)
    shifted, central = result.table
    assert (shifted["dimension"], central["dimension"]) == (1, 0)
    assert central["share_in_holes"] == 0
    share = stats.norm.cdf(-(np.log(10) - 2) / 2)
    assert shifted["share_in_holes"] == pytest.approx(share, abs=0.02)
    title = result.figure.subfigs[0].texts[0].get_text()
    words = re.fullmatch(
        r"z has variance 0\.99; prior samples in holes: (\d+)% in the plane, "
        r"at most (\d+)% along one dimension",
        title,
    )
    assert words is not None
    percents = [int(number) for number in words.groups()]
    assert percents == pytest.approx([100 * share] * 2, abs=2)
    q, p = (line.get_xydata() for line in result.figure.subfigs[1].axes[0].lines)
    np.testing.assert_allclose(q[:, 1], stats.norm.pdf(q[:, 0], 2, 1), atol=1e-4)
    np.testing.assert_allclose(p[:, 1], stats.norm.pdf(p[:, 0]), atol=1e-6)


@pytest.mark.parametrize(("latent_dim", "rows"), [(1, 1), (2, 1), (8, 2), (60, 3)])
def test_any_number_of_dimensions(latent_dim: int, rows: int, tmp_path: Path) -> None:
    labels = torch.arange(40) % 3 if latent_dim != 2 else torch.full((40,), -1)
    model = PlantedPosteriors(*random_posteriors(3, latent_dim))
    options = FigureOptions(test=noise_images(labels))
    for name in ("kl_per_dimension", "aggregated_posterior"):
        result = FIGURES[name].call(model, options)
        assert len(result.table) == latent_dim
        assert result.save(tmp_path, name, "caption").stat().st_size > 10_000
    *marginals, _ = result.figure.axes
    assert len(marginals[0].lines) == 2
    assert len(result.figure.subfigs) == rows + 2
    assert sum(axes.axison for axes in marginals) == min(latent_dim, MAX_MARGINALS)


@pytest.mark.parametrize("latent_dim", [1, 8])
def test_a_fitted_density_is_drawn_as_the_prior(latent_dim: int) -> None:
    density = mixture(latent_dim)
    model = PlantedPosteriors(*random_posteriors(3, latent_dim)).with_prior(density)
    options = FigureOptions(test=noise_images(torch.arange(40) % 3))
    result = FIGURES["aggregated_posterior"].call(model, options)
    _, p = result.figure.axes[0].lines
    x, y = p.get_xydata()[300]
    expected = marginal_pdf(density, x, result.table[0]["dimension"])
    # of more dimensions it is the smoothed density of 20,000 draws, 4 % off on average
    np.testing.assert_allclose(y, expected, rtol=1e-3 if latent_dim == 1 else 0.15)


def test_another_prior_is_drawn_with_its_own_density() -> None:
    """And the variance, which is not 1 under that prior, has no line at 1."""
    prior = mixture(1)
    model = PlantedPosteriors(*random_posteriors(3, 1), prior=prior)
    options = FigureOptions(test=noise_images(torch.arange(40) % 3))
    result = FIGURES["aggregated_posterior"].call(model, options)
    marginal, variances = result.figure.axes
    _, p = (line.get_xydata() for line in marginal.lines)
    assert p[0, 0] < -6.5 and p[-1, 0] > 6.5
    expected = [marginal_pdf(prior, x, 0) for x in p[:, 0]]
    np.testing.assert_allclose(p[:, 1], expected, rtol=1e-4, atol=1e-6)
    assert not variances.lines


def test_regions_do_not_depend_on_a_fitted_density() -> None:
    model = PlantedPosteriors(*random_posteriors(3, 2))
    of_prior = FIGURES["region"].call(model, FigureOptions(n=5))
    fitted = model.with_prior(mixture(2))
    of_density = FIGURES["region"].call(fitted, FigureOptions(n=5))
    assert of_prior.table == of_density.table


def rate_distortion(run: Path) -> FigureResult:
    return FIGURES["rate_distortion"].call(None, FigureOptions(run=run))


def write_rows(run: Path, rows: list[dict]) -> None:
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))


def run_rows(weights: list[float] | None, evaluations: int = 4) -> list[dict]:
    """Rows of a run: eight of training, and an evaluation after every second."""
    rows: list[dict] = []
    for number in range(1, 9):
        terms = {"kl": 4.5 + number / 2, "distortion": 152 - 1.5 * number}
        if weights:
            terms["kl_weight"] = weights[number - 1]
        rows.append({"step": 10 * number, "train": terms})
    for number in range(1, evaluations + 1):
        terms = {"kl": 5.0 + number, "distortion": 150.0 - 3 * number}
        rows.append({"step": 20 * number, "validation": terms})
    rows.sort(key=lambda row: row["step"])
    return [*rows, {"step": 80, "validation": {"kl": None, "distortion": None}}]


@pytest.mark.parametrize(
    ("weights", "colour_label"),
    [([0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0], "KL weight"), ([1.0] * 8, "step"), (None, "step")],
)
def test_rate_against_distortion(
    weights: list[float] | None, colour_label: str, tmp_path: Path
) -> None:
    write_rows(tmp_path, run_rows(weights))
    result = rate_distortion(tmp_path)
    for number, row in enumerate(result.table, start=1):
        rate, distortion = 5.0 + number, 150.0 - 3 * number
        expected = {"step": 20 * number, "rate": rate, "distortion": distortion}
        expected["elbo"] = -rate - distortion
        if weights:
            expected["kl_weight"] = weights[2 * number - 1]
        assert row == expected
    assert len(result.table) == 4
    axes, bar = result.figure.axes
    assert bar.get_ylabel() == colour_label
    title = "Validation ELBO -147.0 nats; since step 20 distortion -9.0, rate +3.0"
    assert axes.get_title(loc="left") == title
    path = next(item for item in axes.collections if type(item) is LineCollection)
    np.testing.assert_allclose(path.get_segments()[3], [[6.5, 146], [7, 144.5]])
    lines = next(item for item in axes.collections if isinstance(item, QuadContourSet))
    for elbo, line in zip(lines.levels, lines.get_paths(), strict=True):
        np.testing.assert_allclose(line.vertices.sum(axis=1), -elbo, atol=1e-6)
    assert result.save(tmp_path, "rate_distortion", "caption").stat().st_size > 20_000


def test_rate_against_distortion_of_one_evaluation(tmp_path: Path) -> None:
    write_rows(tmp_path, run_rows(None, evaluations=1))
    result = rate_distortion(tmp_path)
    title = "Validation ELBO -153.0 nats: distortion 147.0, rate 6.0"
    assert result.figure.axes[0].get_title(loc="left") == title
    result.save(tmp_path, "one", "")


def test_rate_against_distortion_of_a_collapsed_run(tmp_path: Path) -> None:
    terms = {"kl": 1e-4, "distortion": 205.0}
    write_rows(tmp_path, [{"step": step, "validation": terms} for step in (1, 2)])
    result = rate_distortion(tmp_path)
    low, high = result.figure.axes[0].get_xlim()
    assert low <= 1e-4 and high - low > 0.2
    result.save(tmp_path, "flat", "")


def test_a_run_without_evaluations_has_no_rate_and_distortion(tmp_path: Path) -> None:
    write_rows(tmp_path, [])
    message = "rate_distortion: must be drawn of a run with KL and distortion"
    with pytest.raises(ValueError, match=message):
        rate_distortion(tmp_path)
