"""The latent space dimension by dimension, the way of a run through rate and distortion, and densities fitted to codes:
the numbers against plain numpy and scipy on planted cases."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL
from matplotlib.collections import LineCollection
from scipy import stats

import genmodels
from genmodels import figures
from genmodels.data import datasets
from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.distributions import BernoulliLikelihood, DiagonalGaussian
from genmodels.figures import dimensions
from genmodels.figures.options import FigureOptions
from genmodels.figures.rate_distortion import rate_distortion
from genmodels.figures.registry import FIGURES
from genmodels.metrics import ex_post_density, likelihood
from genmodels.metrics.aggregated_posterior import Posteriors, posteriors
from genmodels.models.priors import GaussianMixture, StandardNormal
from genmodels.models.vae import MLPVAE
from genmodels.randomness import generator
from genmodels.validation import UserError


class Planted(MLPVAE):
    """A VAE whose posteriors are known: those of the image's label."""

    def __init__(self, mean: torch.Tensor, stddev: torch.Tensor, channels: int = 1) -> None:
        torch.manual_seed(0)
        super().__init__(
            image_shape=(channels, 8, 8),
            latent_dim=mean.shape[1],
            widths=[16],
            likelihood=BernoulliLikelihood(),
        )
        self.planted = (mean, stddev)
        self.eval().requires_grad_(False)

    def encode(self, images: torch.Tensor, labels: torch.Tensor | None = None) -> DiagonalGaussian:
        """The planted posteriors, images of no label being of the first."""
        assert labels is not None
        mean, stddev = (values[labels.clamp(min=0)] for values in self.planted)
        return DiagonalGaussian(mean, 2 * stddev.log())


def part_of(labels: torch.Tensor, channels: int = 1) -> ImageSet:
    noise = torch.Generator().manual_seed(1)
    images = torch.randint(
        0, 256, (len(labels), channels, 8, 8), dtype=torch.uint8, generator=noise
    )
    return ImageSet(images, labels, torch.arange(len(labels)))


def random_posteriors(
    kinds: int, dimensions_: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    scale = torch.linspace(2, 0, dimensions_)  # the last dimension carries nothing
    return torch.randn(kinds, dimensions_, generator=noise) * scale + 0.3, torch.rand(
        kinds, dimensions_, generator=noise
    ) * 0.5 + 0.4


def test_the_table_is_that_of_numpy() -> None:
    mean, stddev = random_posteriors(7, 5)
    labels = torch.arange(60) % 7
    picture = FIGURES["kl_per_dimension"].call(
        Planted(mean, stddev), FigureOptions(test=part_of(labels))
    )
    means, stddevs = mean.double().numpy()[labels], stddev.double().numpy()[labels]
    kl = (0.5 * (means**2 + stddevs**2 - 1 - np.log(stddevs**2))).mean(axis=0)
    assert [row["dimension"] for row in picture.table] == list(np.argsort(-kl))
    for row in picture.table:
        index = row["dimension"]
        assert row["kl_nats"] == pytest.approx(kl[index], rel=1e-5)
        assert row["mean"] == pytest.approx(means[:, index].mean(), rel=1e-5)
        assert row["variance_of_means"] == pytest.approx(means[:, index].var(), rel=1e-5, abs=1e-9)
        assert row["mean_variance"] == pytest.approx((stddevs[:, index] ** 2).mean(), rel=1e-5)
        assert row["total_variance"] == pytest.approx(
            row["variance_of_means"] + row["mean_variance"]
        )
        assert row["active"] == (means[:, index].var() > 0.01)
    axes = picture.figure.axes[0]
    heights = [bar.get_height() for bar in axes.containers[1]]
    np.testing.assert_allclose(heights, np.sort(kl)[::-1], rtol=1e-5)
    assert axes.get_title(loc="left") == f"Rate {kl.sum():.2f} nats per image, 4 of 5 units active"
    inactive = [row["dimension"] for row in picture.table].index(4)
    colours = {bar.get_facecolor() for bar in axes.containers[1]}
    assert (
        len(colours) == 2
        and axes.containers[1][inactive].get_facecolor() != axes.containers[1][0].get_facecolor()
    )


def test_the_rate_is_that_of_the_evaluation() -> None:
    """Over several batches of gray images, of which both see the same black and white ones."""
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(1, 8, 8), latent_dim=3, widths=[16], likelihood=BernoulliLikelihood()
    )
    part = part_of(torch.arange(1100) % 2)
    with torch.no_grad():
        rate = posteriors(model, part).kl.sum(dim=1).mean().item()
    assert rate == pytest.approx(likelihood.evaluate(model, part)["rate"], rel=1e-5)


def test_holes_of_one_dimension() -> None:
    """N(m, 1) is under a tenth of N(0, 1) where m x - m^2 / 2 < -log 10; the smoothing's variance is 0.01."""
    mean, stddev = torch.tensor([[0.0, 2.0]]), torch.full((1, 2), (1 - 0.1**2) ** 0.5)
    picture = FIGURES["aggregated_posterior"].call(
        Planted(mean, stddev), FigureOptions(test=part_of(torch.zeros(30).long()))
    )
    shifted, central = picture.table
    assert (shifted["dimension"], central["dimension"]) == (1, 0) and central["share_in_holes"] == 0
    share = stats.norm.cdf(-(np.log(10) - 2) / 2)
    assert shifted["share_in_holes"] == pytest.approx(share, abs=0.02)
    heading = picture.figure.subfigs[0].texts[0].get_text()
    words = re.fullmatch(
        r"z has variance 0\.99; prior samples in holes: (\d+)% in the plane, at most (\d+)% along one "
        "dimension",
        heading,
    )
    assert words and [int(number) / 100 for number in words.groups()] == pytest.approx(
        [share, share], abs=0.02
    )
    curve, prior = (line.get_xydata() for line in picture.figure.subfigs[1].axes[0].lines)
    np.testing.assert_allclose(curve[:, 1], stats.norm.pdf(curve[:, 0], 2, 1), atol=1e-4)
    np.testing.assert_allclose(prior[:, 1], stats.norm.pdf(prior[:, 0]), atol=1e-6)


@pytest.mark.parametrize(("latent_dim", "rows"), [(1, 1), (2, 1), (8, 2), (60, 3)])
def test_as_many_dimensions_as_there_are(latent_dim: int, rows: int, tmp_path: Path) -> None:
    channels = 3 if latent_dim == 8 else 1
    labels = torch.arange(40) % 3 if latent_dim != 2 else torch.full((40,), -1)
    model = Planted(*random_posteriors(3, latent_dim), channels)
    request = FigureOptions(test=part_of(labels, channels))
    assert len(FIGURES["aggregated_posterior"].call(model, request).figure.axes[0].lines) == 2
    model.density = mixture(latent_dim)
    for name in ("kl_per_dimension", "aggregated_posterior"):
        picture = FIGURES[name].call(model, request)
        assert len(picture.table) == latent_dim
        assert picture.save(tmp_path, name, "caption").stat().st_size > 10_000
    places = picture.figure.axes[:-1]
    assert len(picture.figure.subfigs) == rows + 2
    assert sum(axes.axison for axes in places) == min(latent_dim, dimensions.SHOWN)
    lines = {line.get_label(): line for line in places[0].lines}
    first = picture.table[0]["dimension"]
    x, y = lines["mixture of 3 Gaussians fitted to the training posteriors"].get_xydata()[300]
    np.testing.assert_allclose(y, pdf(mixture(latent_dim), x, first), rtol=1e-6)


def mixture(latent_dim: int) -> GaussianMixture:
    """Three components, correlated, far apart."""
    noise = torch.Generator().manual_seed(5)
    root = torch.randn(3, latent_dim, latent_dim, generator=noise, dtype=torch.float64) * 0.3
    covariances = root @ root.mT + 0.1 * torch.eye(latent_dim, dtype=torch.float64)
    means = torch.tensor([-6.0, 0.0, 6.0], dtype=torch.float64)[:, None].repeat(1, latent_dim)
    return GaussianMixture(torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), means, covariances)


def pdf(density: GaussianMixture, x: float, dimension: int) -> float:
    """A marginal's density, by scipy."""
    return sum(
        float(weight)
        * stats.norm.pdf(x, float(mean[dimension]), float(covariance[dimension, dimension]) ** 0.5)
        for weight, mean, covariance in zip(
            density.weights, density.means, density.covariances, strict=True
        )
    )


def test_a_fit_recovers_a_planted_mixture_and_samples_it() -> None:
    planted = mixture(2)
    fitted = GaussianMixture.fit(
        planted.sample(20_000, generator=generator(0, "planted")), 3, seed=0
    )
    order = fitted.means[:, 0].argsort()
    torch.testing.assert_close(fitted.weights[order], planted.weights, atol=0.02, rtol=0)
    torch.testing.assert_close(fitted.means[order], planted.means, atol=0.05, rtol=0)
    torch.testing.assert_close(fitted.covariances[order], planted.covariances, atol=0.05, rtol=0.05)
    assert fitted.formula() == "mixture of 3 Gaussians fitted to the training posteriors"
    assert fitted.formula(0.5).endswith(", covariances times 0.5")


def test_the_density_of_a_mixture_is_that_of_scipy() -> None:
    planted, z = mixture(3), torch.randn(1500, 3, dtype=torch.float64) * 4
    components = zip(planted.weights, planted.means, planted.covariances, strict=True)
    expected = sum(
        float(weight) * stats.multivariate_normal(mean.numpy(), covariance.numpy()).pdf(z.numpy())
        for weight, mean, covariance in components
    )
    np.testing.assert_allclose(planted.log_prob(z).exp().numpy(), expected, rtol=1e-9, atol=1e-300)
    torch.testing.assert_close(
        StandardNormal(3).log_prob(z).numpy(), stats.norm.logpdf(z.numpy()).sum(axis=1)
    )


def test_temperature_and_determinism_of_a_mixture() -> None:
    """The same noise at another temperature, the same component: distances from its mean go with the root."""
    planted = mixture(2)
    draws = {
        temperature: planted.sample(5000, temperature, generator(3, "z")).double()
        for temperature in (0, 1, 4)
    }
    assert set(draws[0][:, 0].tolist()) == {-6.0, 0.0, 6.0} and draws[1].shape == (5000, 2)
    torch.testing.assert_close(draws[4] - draws[0], 2 * (draws[1] - draws[0]), atol=1e-5, rtol=1e-5)
    middle = draws[1][draws[0][:, 0] == 0]
    torch.testing.assert_close(middle.T.cov(), planted.covariances[1], atol=0.05, rtol=0.1)
    assert (planted.sample(5000, 1, generator(3, "z")) == draws[1]).all()
    assert (planted.sample(5000, 1, generator(4, "z")) != draws[1]).any()


def test_a_fitted_density_serves_all_that_draws_from_the_prior(tmp_path: Path) -> None:
    model = Planted(*random_posteriors(3, 2))
    region = FIGURES["region"].call(model, FigureOptions(n=5)).table
    model.density = mixture(2)
    z = model.prior.sample(6, 0.5, generator(2, "samples"))
    assert (z == mixture(2).sample(6, 0.5, generator(2, "samples"))).all()
    picture = FIGURES["samples"].call(model, FigureOptions(n=6, temperature=0.5, seed=2))
    assert [[row["z0"], row["z1"]] for row in picture.table] == z.tolist()
    title = "z ~ mixture of 3 Gaussians fitted to the training posteriors, covariances times 0.5"
    for name in ("samples", "interpolation"):
        picture = FIGURES[name].call(model, FigureOptions(n=6, temperature=0.5))
        assert title in picture.figure.axes[0].get_title(loc="left").replace("\n", " ")
    assert (
        FIGURES["region"].call(model, FigureOptions(n=5)).table == region
    )  # a place of one's own choice
    with pytest.raises(ValueError, match="temperature=-1: must be a number >= 0"):
        model.prior.sample(3, -1)


def test_codes_are_fitted_as_they_are_drawn() -> None:
    """Two kinds of images, far apart: the mixture is q(z), not the distribution of the means."""
    mean, stddev = torch.tensor([[-4.0], [4.0]]), torch.tensor([[0.5], [1.5]])
    part = part_of((torch.arange(4000) % 4 == 0).long())
    found = ex_post_density.gmm(
        Planted(mean, stddev), ImageData(ImageSpec("planted", (1, 8, 8)), part, part, part), 2
    )
    order = found.means[:, 0].argsort()
    torch.testing.assert_close(
        found.weights[order], torch.tensor([0.75, 0.25]).double(), atol=0.02, rtol=0
    )
    torch.testing.assert_close(found.means[order], mean.double(), atol=0.15, rtol=0)
    torch.testing.assert_close(
        found.covariances[order][:, 0], stddev.double().square(), atol=0, rtol=0.1
    )
    z = Posteriors(mean.double(), stddev.double(), torch.zeros(2)).sample(generator(0, "z"))
    noise = torch.randn(2, 1, generator=generator(0, "z"), dtype=torch.float64)
    torch.testing.assert_close(z, mean + stddev * noise)


@pytest.mark.parametrize(
    ("mean", "stddev", "components", "warned"), [(1.0, 0.3, 1, False), (0.0, 1.0, 8, True)]
)
def test_a_mixture_of_too_few_codes_is_warned_of(
    mean: float, stddev: float, components: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One Gaussian for codes that the prior does not describe; eight for sixty codes that it describes exactly."""
    planted = Planted(torch.full((1, 6), mean), torch.full((1, 6), stddev))
    few, others = part_of(torch.zeros(60).long()), part_of(torch.zeros(400).long())
    ex_post_density.gmm(
        planted, ImageData(ImageSpec("planted", (1, 8, 8)), few, few, others), components
    )
    assert (
        f"components={components}: new codes are less probable under the mixture" in caplog.text
    ) == warned


def samples_table() -> np.ndarray:
    with open("results/run/samples.csv", newline="") as file:
        return np.array(
            [[float(row[f"z{index}"]) for index in range(4)] for row in csv.DictReader(file)]
        )


def test_inference_with_a_fitted_density(
    train_here: Callable,
    infer_here: Callable,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(figures, "draw", lambda *_: [])  # not those of the run
        run = train_here(*SMALL, "max_steps=3")
    asked = (
        f"checkpoint={run}",
        "figures=[samples]",
        "density=gmm",
        "components=4",
        "n=20",
        "seed=1",
    )
    infer_here(*asked, "metrics=[elbo]")
    first = samples_table()
    assert (
        "z ~ mixture of 4 Gaussians fitted to the training posteriors: 1,295 images" in caplog.text
    )
    assert json.loads(Path("results/run/metrics.json").read_text())["density"].startswith(
        "mixture of 4 Gaussians"
    )
    infer_here(*asked, "metrics=[]")
    np.testing.assert_array_equal(samples_table(), first)
    model: MLPVAE = genmodels.load(run)  # type: ignore[assignment]
    model.density = ex_post_density.gmm(model, datasets.digits(cache=str(cache)).load(), 4)
    np.testing.assert_allclose(
        first, model.prior.sample(20, 1.0, generator(1, "samples")).numpy(), atol=1e-6
    )

    for overrides, message in [
        (["components=2000"], "^components=2000: must be an integer >= 1 and <= 1000"),
        (["density=gmn"], r"^density: gmn is none of prior, gmm\. Did you mean gmm\?"),
    ]:
        with pytest.raises(UserError, match=message):
            infer_here(*asked, *overrides)
    monkeypatch.setattr(
        datasets,
        "_decode_digits",
        lambda _: (_ for _ in ()).throw(ValueError("dataset.root=x: no")),
    )
    with pytest.raises(UserError, match=r"^density: gmm needs the data, but dataset\.root=x: no$"):
        infer_here(*asked, f"dataset.cache={tmp_path / 'empty'}")


def test_more_components_than_images_are_refused() -> None:
    part = part_of(torch.zeros(9).long())
    data = ImageData(ImageSpec("few", (1, 8, 8)), part, part, part)
    with pytest.raises(
        ValueError, match="components=10: must be at most 9, the number of training images"
    ):
        ex_post_density.gmm(Planted(*random_posteriors(1, 2)), data, 10)


def write_run(
    folder: Path, weights: list[float] | None, evaluations: int = 4
) -> list[tuple[int, float, float]]:
    """metrics.jsonl of a run with eight training rows and an evaluation after every second; returns the latter."""
    seen = [(20 * number, 5.0 + number, 150.0 - 3 * number) for number in range(1, evaluations + 1)]
    rows: list[dict] = [
        {
            "step": 10 * number,
            "train": {"kl": 4.5 + number / 2, "distortion": 152 - 1.5 * number}
            | ({"kl_weight": weights[number - 1]} if weights else {}),
        }
        for number in range(1, 9)
    ]
    rows += [
        {
            "step": step,
            "validation": {"rate": rate, "distortion": distortion, "elbo": -rate - distortion},
        }
        for step, rate, distortion in seen
    ]
    rows.append({"step": 80, "validation": {"rate": None, "distortion": None}})
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text(
        "\n".join(json.dumps(row) for row in sorted(rows, key=lambda r: r["step"]))
    )
    return seen


@pytest.mark.parametrize(
    ("weights", "colour"),
    [([0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0], "KL weight"), ([1.0] * 8, "step"), (None, "step")],
)
def test_rate_against_distortion(weights: list[float] | None, colour: str, tmp_path: Path) -> None:
    seen = write_run(tmp_path, weights)
    picture = rate_distortion(None, FigureOptions(run=tmp_path))  # type: ignore[arg-type]
    assert [(row["step"], row["rate"], row["distortion"]) for row in picture.table] == seen
    assert [row["elbo"] for row in picture.table] == [
        -rate - distortion for _, rate, distortion in seen
    ]
    assert [row.get("kl_weight") for row in picture.table] == (
        [weights[index] for index in (1, 3, 5, 7)] if weights else [None] * 4
    )
    axes, bar = picture.figure.axes
    assert bar.get_ylabel() == colour
    assert (
        axes.get_title(loc="left")
        == "Validation ELBO -147.0 nats; since step 20 distortion -9.0, rate +3.0"
    )
    way = next(line for line in axes.collections if type(line) is LineCollection)
    np.testing.assert_allclose(way.get_segments()[3], [[6.5, 146], [7, 144.5]])
    bounds = next(lines for lines in axes.collections if hasattr(lines, "levels"))
    for level, path in zip(
        bounds.levels, bounds.get_paths(), strict=True
    ):  # each a line of constant ELBO
        np.testing.assert_allclose(path.vertices.sum(axis=1), -level, atol=1e-6)
    assert picture.save(tmp_path, "rate_distortion", "caption").stat().st_size > 20_000


def test_rate_against_distortion_of_short_and_of_collapsed_runs(tmp_path: Path) -> None:
    write_run(tmp_path, None, evaluations=1)
    rate_distortion(None, FigureOptions(run=tmp_path)).save(tmp_path, "one", "")  # type: ignore[arg-type]
    rows = [{"step": step, "validation": {"rate": 1e-4, "distortion": 205.0}} for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))  # type: ignore[arg-type]
    picture = rate_distortion(None, FigureOptions(run=tmp_path))  # type: ignore[arg-type]
    low, high = picture.figure.axes[0].get_xlim()
    assert low <= 1e-4 and high - low > 0.2
    picture.save(tmp_path, "flat", "")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(
        ValueError, match="rate_distortion: must be drawn of a run with rate and distortion"
    ):
        rate_distortion(None, FigureOptions(run=tmp_path))  # type: ignore[arg-type]
