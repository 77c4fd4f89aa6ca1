"""Maps of the latent space: the numbers behind them against plain numpy, and every figure on every kind of data."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, train_in
from scipy import stats
from sklearn.decomposition import PCA

import genmodels
from genmodels.data import datasets
from genmodels.data.images import ImageSet, to_uint8
from genmodels.figures import (
    FIGURES,
    FigureOptions,
    latent_map_plots,
    latent_maps,
    training_progress,
)
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics.aggregated_posterior import (
    Plane,
    Posteriors,
    density,
    posteriors,
    prior_density,
    share_in_holes,
)
from genmodels.models.vae import MLPVAE
from genmodels.registry import select
from genmodels.validation import UserError


def vae(latent_dim: int, channels: int = 1, side: int = 8, **options: object) -> MLPVAE:
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(channels, side, side),
        latent_dim=latent_dim,
        widths=[16],
        likelihood=BernoulliLikelihood(),
        **options,
    )
    return model.eval().requires_grad_(False)


def part_of(channels: int = 1, classes: int = 3, count: int = 60) -> ImageSet:
    torch.manual_seed(1)
    labels = torch.arange(count) % classes if classes else torch.full((count,), -1)
    return ImageSet(
        torch.randint(0, 256, (count, channels, 8, 8), dtype=torch.uint8),
        labels,
        torch.arange(count),
    )


def spread_out(count: int, dimensions: int) -> Posteriors:
    generator = torch.Generator().manual_seed(3)
    scale = torch.linspace(3, 0.5, dimensions, dtype=torch.float64)
    return Posteriors(
        torch.randn(count, dimensions, generator=generator, dtype=torch.float64) * scale + 0.3,
        torch.rand(count, dimensions, generator=generator, dtype=torch.float64) + 0.1,
        torch.arange(count) % 3,
    )


@pytest.mark.parametrize("count", [1, 2, 20, 101])
def test_quantiles_cut_the_prior_into_equal_shares(count: int) -> None:
    values = latent_maps.quantiles(count).numpy()
    np.testing.assert_allclose(values, stats.norm.ppf((np.arange(count) + 0.5) / count), atol=1e-9)
    np.testing.assert_allclose(np.diff(stats.norm.cdf(values)), 1 / count, atol=1e-9)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_each_image_of_the_grid_lies_where_its_row_says(latent_dim: int) -> None:
    model = vae(latent_dim)
    picture = latent_maps.latent_grid(model, FigureOptions())
    z = torch.tensor([[row[f"z{index}"] for index in range(latent_dim)] for row in picture.table])
    sheet = picture.figure.axes[0].images[0].get_array()[..., 0]
    columns = sheet.shape[1] // 8
    images = to_uint8(model.generate(z))[:, 0].numpy()
    for index in range(len(z)):
        y, x = index // columns * 8, index % columns * 8
        np.testing.assert_array_equal(sheet[y : y + 8, x : x + 8], images[index])
    if latent_dim == 2:
        assert (
            len(z) == latent_maps.GRID**2 and z[0, 0] < z[1, 0] and z[0, 1] > z[-1, 1]
        )  # right is more, so is up


def test_principal_components_are_those_of_scikit_learn() -> None:
    found = spread_out(200, 6)
    plane, pca = Plane.of(found), PCA(2).fit(found.mean.numpy())
    np.testing.assert_allclose(
        np.abs(plane.directions.numpy() @ pca.components_.T), np.eye(2), atol=1e-9
    )
    assert f"{pca.explained_variance_ratio_[0]:.0%}" in plane.names[0]
    assert "principal component 1 of 6" in plane.names[0]
    points = torch.randn(9, 2, dtype=torch.float64)
    torch.testing.assert_close(plane.project(plane.embed(points)), points)
    middle = found.mean.mean(dim=0)
    torch.testing.assert_close(plane.embed(plane.project(middle[None]))[0], middle)
    z = torch.randn(100_000, 6, dtype=torch.float64) * found.stddev[0]
    torch.testing.assert_close(
        plane.spread(found.stddev[:1])[0], plane.project(z).std(dim=0), rtol=0.02, atol=0
    )


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_density_is_that_of_the_mixture(dimensions: int) -> None:
    found, plane = spread_out(50, dimensions), Plane.whole(dimensions)
    axes = [torch.linspace(-12, 12, 241, dtype=torch.float64)] * dimensions
    values = density(found, plane, axes, chunk=7)
    assert float(values.sum() * 0.1**dimensions) == pytest.approx(1, abs=1e-3)
    point = (131,) * dimensions
    expected = np.mean(
        [
            np.prod(stats.norm.pdf(axes[0][131], mean, np.sqrt(stddev**2 + 0.1**2)))
            for mean, stddev in zip(found.mean.numpy(), found.stddev.numpy(), strict=True)
        ]
    )
    assert float(values[point]) == pytest.approx(expected)
    assert float(prior_density(axes)[point]) == pytest.approx(
        stats.norm.pdf(axes[0][131]) ** dimensions
    )


def test_holes() -> None:
    def around(*mean: float) -> Posteriors:
        stddev = (1 - 0.1**2) ** 0.5  # with the smoothing, 1
        return Posteriors(
            torch.tensor([mean], dtype=torch.float64),
            torch.full((1, len(mean)), stddev).double(),
            torch.zeros(1),
        )

    plane = Plane.whole(2)
    assert share_in_holes(around(0.0, 0.0), plane) == 0
    assert share_in_holes(around(40.0, 0.0), plane) == pytest.approx(1)
    # N(m, 1) is under a tenth of N(0, 1) where m x - m^2 / 2 < log 0.1, which is x < -(log 10 - 2) / 2 for m = 2
    assert share_in_holes(around(2.0, 0.0), plane) == pytest.approx(
        stats.norm.cdf(-(np.log(10) - 2) / 2), abs=0.01
    )
    assert share_in_holes(around(2.0), Plane.whole(1)) == pytest.approx(
        stats.norm.cdf(-(np.log(10) - 2) / 2), abs=0.01
    )


def test_contours_hold_their_share_of_the_mass() -> None:
    axis = torch.linspace(-6, 6, 601, dtype=torch.float64)
    values = prior_density([axis, axis])
    levels = latent_map_plots.levels_of_mass(values, [0.9, 0.5])
    for level, share in zip(
        levels, [0.9, 0.5], strict=True
    ):  # of N(0, I) in two dimensions: exp(-r^2 / 2) outside
        assert level == pytest.approx((1 - share) / (2 * np.pi), rel=0.01)


def test_class_means_and_standard_deviations_are_those_of_numpy(
    train_here: Callable, infer_here: Callable, cache: Path
) -> None:
    run = train_here(*SMALL, "model.latent_dim=2", "max_steps=5")
    infer_here(f"checkpoint={run}", "figures=[latent_scatter]", "metrics=[]")
    with open("results/run/latent_scatter.csv", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    model, test = genmodels.load(run), datasets.digits(cache=str(cache)).load().test
    found = posteriors(model, test)  # type: ignore[arg-type]
    means, stddevs, labels = (
        found.mean.numpy(),
        found.stddev.numpy(),
        test.labels[test.rows].numpy(),
    )
    assert list(rows) == [*"0123456789", "all"]
    for name, row in rows.items():
        chosen = labels == int(name) if name != "all" else labels >= 0
        assert int(row["images"]) == chosen.sum()
        for index in range(2):
            assert float(row[f"mean_z{index}"]) == pytest.approx(
                means[chosen, index].mean(), abs=1e-12
            )
            assert float(row[f"stddev_z{index}"]) == pytest.approx(
                stddevs[chosen, index].mean(), abs=1e-12
            )


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
@pytest.mark.parametrize(("channels", "classes"), [(1, 3), (3, 0), (3, 40), (1, 1)])
def test_every_figure_of_every_kind_of_data(
    latent_dim: int, channels: int, classes: int, tmp_path: Path
) -> None:
    options = {"num_classes": classes, "label_dropout": 0.1} if classes > 3 else {}
    model, part = vae(latent_dim, channels, **options), part_of(channels, classes)
    request = FigureOptions(
        n=7, test=part, train=part, classes=tuple(f"class ${number}" for number in range(classes))
    )
    for name, entry in select("figures", "all", FIGURES, model).items():
        if not entry.history:
            path = entry.call(model, request).save(tmp_path, name, "caption")
            assert path.stat().st_size > 5_000 and path.with_suffix(".csv").stat().st_size > 10


@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_maps_of_collapsed_and_of_stray_posteriors(shift: float, tmp_path: Path) -> None:
    """All posterior means at one point, or far from the prior, as at KL weight 30 and 0."""
    model = vae(2)
    for weights in model.encoder.parameters():
        weights.zero_()
    model.encoder[-1].bias[:2] = shift
    for name in ("latent_grid", "latent_scatter", "latent_atlas"):
        FIGURES[name].call(model, FigureOptions(test=part_of(), classes=("a", "b", "c"))).save(
            tmp_path, name, ""
        )
    title = (
        FIGURES["latent_atlas"]
        .call(model, FigureOptions(test=part_of()))
        .figure.axes[0]
        .get_title(loc="left")
    )
    assert f"{0 if shift == 0 else 100}% of the prior's samples come from holes" in title


def test_a_region(run_with_history: Path, infer_here: Callable) -> None:
    infer_here(
        f"checkpoint={run_with_history}",
        "figures=[region]",
        "metrics=[]",
        "center=[1,-0.5]",
        "spread=0.3",
        "n=60",
        "seed=4",
    )
    with open("results/run/region.csv", newline="") as file:
        z = np.array([[float(row["z0"]), float(row["z1"])] for row in csv.DictReader(file)])
    assert z.shape == (60, 2)
    assert np.abs(z.mean(0) - [1, -0.5]).max() < 0.15 and np.abs(z.std(0) - 0.3).max() < 0.1
    infer_here(
        f"checkpoint={run_with_history}",
        "figures=[region]",
        "metrics=[]",
        "center=[1,2]",
        "spread=0",
    )
    with open("results/run/region.csv", newline="") as file:
        assert {(row["z0"], row["z1"]) for row in csv.DictReader(file)} == {("1.0", "2.0")}
    with pytest.raises(
        UserError, match=r"^center=\[1\.0\]: must be 2 numbers, one for each dimension"
    ):
        infer_here(f"checkpoint={run_with_history}", "figures=[region]", "center=[1]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_in(
        tmp_path_factory.mktemp("trained") / "run",
        cache,
        *SMALL,
        "model.latent_dim=2",
        "max_steps=12",
        "evaluate_every=4",
        "kl_schedule.warmup=0.9",
        figures=True,
    )


@pytest.fixture
def run_with_history(trained: Path, tmp_path: Path) -> Path:
    """One run, to each test its own copy."""
    return shutil.copytree(trained, tmp_path / "run")


def test_lineage_is_what_the_run_stored(
    run_with_history: Path, infer_here: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert (
        run_with_history / "figures/training_progress.png"
    ).exists() and training_progress.stored_steps(run_with_history) == [4, 8, 12]
    picture = FIGURES["training_progress"].call(None, FigureOptions(run=run_with_history))
    logged = {
        row["step"]: row["train"]
        for row in map(json.loads, (run_with_history / "metrics.jsonl").open())
        if "train" in row
    }
    assert [row["step"] for row in picture.table] == [4, 8, 12]
    for row in picture.table:
        for name in ("kl_weight", "kl", "distortion"):
            assert row[name] == pytest.approx(logged[row["step"]][name])
    noise, tests = (axes.images[0].get_array() for axes in picture.figure.axes[:2])
    assert noise.shape[:2] == (6 * 30 - 2, 3 * 30 - 2) and tests.shape[:2] == (
        3 * 30 - 2,
        3 * 30 - 2,
    )
    with np.load(run_with_history / "figures/samples-00000008.npz") as file:
        np.testing.assert_array_equal(noise[60:88, 30:58, 0], file["images"][2, 0])
    with np.load(run_with_history / "figures/reconstructions-00000012.npz") as file:
        np.testing.assert_array_equal(tests[30:58, 60:88, 0], file["images"][1, 0])

    (tmp_path / "alone").mkdir()
    shutil.copy(run_with_history / "model.safetensors", tmp_path / "alone")
    infer_here("checkpoint=alone", "figures=null")
    assert (
        "left out figures training_progress, rate_distortion: there is none at alone" in caplog.text
    )
    with pytest.raises(
        UserError, match="figures: training_progress needs what a run keeps in its folder"
    ):
        infer_here("checkpoint=alone", "figures=[training_progress]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("center=1", "center=1: must be a list of numbers"),
        ("center=[]", "center=[]: must be a list of numbers"),
        ("center=[a]", "center=['a']: must be a list"),
        ("center=[.nan]", "center="),
        ("spread=-1", "spread=-1: must be"),
    ],
)
def test_illegal_regions(override: str, message: str, infer_here: Callable) -> None:
    with pytest.raises(UserError) as caught:
        infer_here("checkpoint=x", override)
    assert str(caught.value).startswith(message)
