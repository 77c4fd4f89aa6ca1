"""Maps of the latent space: their numbers against numpy and scipy, and all figures of all data."""

import csv
import json
import shutil
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, train_in
from matplotlib.contour import QuadContourSet
from matplotlib.patches import Circle
from scipy import stats
from torch import Tensor

from genmodels.data.images import ImageSet, to_uint8
from genmodels.figures import latent_grid, latent_plane_plots
from genmodels.figures.latent_scatter import class_table
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult
from genmodels.figures.registry import FIGURES
from genmodels.figures.training_progress import stored_steps
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.metrics.aggregated_posterior import (
    LatentPlane,
    Posteriors,
    PriorDensity,
    posteriors,
)
from genmodels.models.mixtures import GaussianMixture
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import MLPVAE
from genmodels.registry import select
from genmodels.user_errors import UserError

CLASSES = ("a", "b", "c")


def vae(latent_dim: int, channels: int = 1, **options: object) -> MLPVAE:
    torch.manual_seed(0)
    model = MLPVAE(
        image_shape=(channels, 8, 8),
        latent_dim=latent_dim,
        widths=[16],
        likelihood=BernoulliLikelihood(),
        **options,
    )
    return model.eval().requires_grad_(False)


def split_of(channels: int = 1, classes: int = 3, count: int = 60) -> ImageSet:
    torch.manual_seed(1)
    labels = torch.arange(count) % classes if classes else torch.full((count,), -1)
    images = torch.randint(0, 256, (count, channels, 8, 8), dtype=torch.uint8)
    return ImageSet(images, labels, torch.arange(count))


def random_posteriors(count: int, latent_dim: int) -> Posteriors:
    noise = torch.Generator().manual_seed(3)
    scale = torch.linspace(3, 0.5, latent_dim, dtype=torch.float64)
    mean = torch.randn(count, latent_dim, generator=noise, dtype=torch.float64) * scale + 0.3
    stddev = torch.rand(count, latent_dim, generator=noise, dtype=torch.float64) + 0.1
    return Posteriors(mean, stddev, torch.zeros_like(mean), torch.arange(count) % 3)


def read_table(path: str) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("count", [1, 2, 20, 101])
def test_quantiles_cut_the_prior_into_equal_shares(count: int) -> None:
    values = latent_grid.quantiles(count).numpy()
    np.testing.assert_allclose(values, stats.norm.ppf((np.arange(count) + 0.5) / count), atol=1e-9)
    np.testing.assert_allclose(np.diff(stats.norm.cdf(values)), 1 / count, atol=1e-9)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_each_image_of_the_grid_is_decoded_from_its_row_of_the_table(latent_dim: int) -> None:
    model = vae(latent_dim)
    result = latent_grid.latent_grid(model, FigureOptions())
    get_z = itemgetter(*(f"z{index}" for index in range(latent_dim)))
    z = torch.tensor([get_z(row) for row in result.table]).view(-1, latent_dim)
    sheet = result.figure.axes[0].images[0].get_array()[..., 0]
    columns = sheet.shape[1] // 8
    images = to_uint8(model.generate(z))[:, 0].numpy()
    for index, image in enumerate(images):
        y, x = index // columns * 8, index % columns * 8
        cell = sheet[y:][:8, x:][:, :8]
        np.testing.assert_array_equal(cell, image)
    if latent_dim == 2:
        assert len(z) == latent_grid.GRID_SIDE**2
        assert z[0, 0] < z[1, 0] and z[0, 1] > z[-1, 1]  # larger values are right and up


def test_standard_deviations_along_the_directions_of_a_plane() -> None:
    posterior = random_posteriors(200, 6)
    plane = LatentPlane.of(posterior)
    z = torch.randn(100_000, 6, dtype=torch.float64) * posterior.stddev[0]
    stddev = plane.project_stddev(posterior.stddev[:1])[0]
    torch.testing.assert_close(stddev, plane.project(z).std(dim=0), rtol=0.02, atol=0)


def test_contours_hold_their_share_of_the_mass() -> None:
    """exp(-r^2 / 2) of the mass of N(0, I) in two dimensions lies outside of radius r."""
    axis = torch.linspace(-6, 6, 601, dtype=torch.float64)
    prior = PriorDensity(StandardNormal(2)).on_grid(LatentPlane.whole(2), [axis, axis])
    levels = latent_plane_plots.levels_of_mass(prior, [0.9, 0.5])
    expected = [(1 - share) / (2 * np.pi) for share in (0.9, 0.5)]
    assert levels == pytest.approx(expected, rel=0.01)
    for radius, share in latent_plane_plots.MASS_WITHIN.items():
        assert share == pytest.approx(1 - np.exp(-(radius**2) / 2), abs=5e-4)


def test_class_means_and_standard_deviations_are_those_of_numpy() -> None:
    model, split = vae(2), split_of(count=61)
    classes = (*CLASSES, "without images")
    result = FIGURES["latent_scatter"].call(model, FigureOptions(test=split, classes=classes))
    posterior = posteriors(model, split)
    labels = split.labels.numpy()
    assert [row["class"] for row in result.table] == [*CLASSES, "all"]
    for row in result.table:
        chosen = labels >= 0 if row["class"] == "all" else labels == CLASSES.index(row["class"])
        assert row["images"] == chosen.sum()
        for index in range(2):
            mean = posterior.mean.numpy()[chosen, index].mean()
            stddev = posterior.stddev.numpy()[chosen, index].mean()
            assert row[f"mean_z{index}"] == pytest.approx(mean, abs=1e-12)
            assert row[f"stddev_z{index}"] == pytest.approx(stddev, abs=1e-12)


def test_class_table_in_the_coordinates_of_the_plane() -> None:
    posterior = random_posteriors(30, 5)
    plane = LatentPlane.of(posterior)
    row = class_table(posterior, plane, CLASSES)[1]
    of_class = posterior.of_class(1)
    expected = plane.project(of_class.mean).mean(dim=0).tolist()
    assert [row["mean_pc1"], row["mean_pc2"]] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("latent_dim", "channels", "classes"),
    [(1, 1, 3), (2, 3, 0), (5, 3, 40), (2, 1, 1)],
)
def test_every_figure_of_every_kind_of_data(
    latent_dim: int, channels: int, classes: int, tmp_path: Path
) -> None:
    conditional = {"num_classes": classes, "label_dropout": 0.1} if classes > 3 else {}
    model, split = vae(latent_dim, channels, **conditional), split_of(channels, classes)
    names = tuple(f"class ${number}" for number in range(classes))
    options = FigureOptions(n=7, test=split, train=split, classes=names)
    for name, spec in select("figures", "all", FIGURES, model).items():
        if not spec.history:
            path = spec.call(model, options).save(tmp_path, name, "caption")
            assert path.stat().st_size > 5_000
            if path.suffix == ".png":
                assert path.with_suffix(".csv").stat().st_size > 10


@pytest.mark.parametrize(("shift", "percent"), [(0.0, 0), (30.0, 100)])
def test_maps_of_collapsed_and_of_far_posteriors(
    shift: float, percent: int, tmp_path: Path
) -> None:
    """All posterior means at one point, at 0 or far from it, as at KL weight 30 and 0."""
    model = vae(2)
    for weights in model.encoder.parameters():
        weights.zero_()
    model.encoder[-1].bias[:2] = shift
    options = FigureOptions(test=split_of(), classes=CLASSES)
    for name in ("latent_grid", "latent_scatter", "latent_atlas"):
        result = FIGURES[name].call(model, options)
        result.save(tmp_path, name, "")
    title = result.figure.axes[0].get_title(loc="left")
    assert f"{percent}% of the prior's samples come from holes" in title


def mixture_prior(latent_dim: int) -> GaussianMixture:
    """Two components far from 0."""
    means = torch.zeros(2, latent_dim, dtype=torch.float64)
    means[:, 0] = torch.tensor([-8.0, 8.0])
    covariances = torch.eye(latent_dim, dtype=torch.float64).repeat(2, 1, 1)
    return GaussianMixture.of(torch.tensor([0.5, 0.5], dtype=torch.float64), means, covariances)


def circle_radii(result: FigureResult) -> list[float]:
    patches = result.figure.axes[0].patches
    return [patch.radius for patch in patches if isinstance(patch, Circle)]


@pytest.mark.parametrize(
    ("name", "radii"), [("latent_scatter", [1, 2]), ("latent_atlas", [1, 2, 3])]
)
@pytest.mark.parametrize("latent_dim", [2, 5])
def test_circles_stand_for_a_standard_normal_prior_only(
    name: str, radii: list[float], latent_dim: int
) -> None:
    options = FigureOptions(test=split_of(), classes=CLASSES)
    standard = FIGURES[name].call(vae(latent_dim), options)
    assert circle_radii(standard) == radii
    other = FIGURES[name].call(vae(latent_dim, prior=mixture_prior(latent_dim)), options)
    assert circle_radii(other) == []
    legend = other.figure.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert any(label.startswith("39%") and label.endswith("of the prior") for label in labels)


def test_contours_of_another_prior_surround_its_components() -> None:
    options = FigureOptions(test=split_of(), classes=CLASSES)
    result = FIGURES["latent_scatter"].call(vae(2, prior=mixture_prior(2)), options)
    axes = result.figure.axes[0]
    contours = next(item for item in axes.collections if isinstance(item, QuadContourSet))
    outer, inner = contours.get_paths()
    for path, share in ((inner, 0.393), (outer, 0.865)):
        distances = np.linalg.norm(np.abs(path.vertices) - [8, 0], axis=1)
        radius = np.sqrt(-2 * np.log(1 - share))  # of each component, which are far apart
        np.testing.assert_allclose(distances, radius, rtol=0.1)
    assert axes.get_xlim()[1] > 9


def test_the_atlas_marks_samples_of_the_models_prior() -> None:
    prior = mixture_prior(2)
    options = FigureOptions(test=split_of(), classes=CLASSES)
    result = FIGURES["latent_atlas"].call(vae(2, prior=prior), options)
    samples = np.concatenate(
        [item.get_offsets() for item in result.figure.axes[0].collections[-2:]]
    )
    assert len(samples) == 400 and np.abs(samples[:, 0]).min() > 3
    assert max(row["z0"] for row in result.table) > 9
    row = max(result.table, key=lambda row: row["prior"])
    expected = prior.log_prob(torch.tensor([[row["z0"], row["z1"]]])).exp().item()
    assert row["prior"] == pytest.approx(expected, rel=1e-4) and row["hole"]


@pytest.mark.parametrize("latent_dim", [1, 5])
@pytest.mark.parametrize("name", ["latent_grid", "latent_scatter", "latent_atlas", "region"])
def test_maps_of_another_prior_in_any_dimensions(
    name: str, latent_dim: int, tmp_path: Path
) -> None:
    model = vae(latent_dim, prior=mixture_prior(latent_dim))
    result = FIGURES[name].call(model, FigureOptions(n=7, test=split_of(), classes=CLASSES))
    assert result.save(tmp_path, name, "").exists()
    if name == "latent_grid":
        title = result.figure.axes[0].get_title(loc="left").replace("\n", " ")
        assert title.endswith("at equal steps of probability of N(0, 1)")


def region_z(**options: object) -> Tensor:
    result = FIGURES["region"].call(vae(2), FigureOptions(**options))  # type: ignore[arg-type]
    return torch.tensor([[row["z0"], row["z1"]] for row in result.table])


def test_samples_of_a_region() -> None:
    z = region_z(center=[1, -0.5], stddev=0.3, n=60, seed=4)
    assert z.shape == (60, 2)
    assert (z.mean(dim=0) - torch.tensor([1, -0.5])).abs().max() < 0.15
    assert (z.std(dim=0) - 0.3).abs().max() < 0.1
    assert region_z(center=[1, 2], stddev=0, n=3).tolist() == [[1, 2]] * 3


def test_a_region_from_the_command_line(run_with_history: Path, infer_here: Callable) -> None:
    command = (f"checkpoint={run_with_history}", "figures=[region]", "metrics=[]")
    infer_here(*command, "center=[1,2]", "stddev=0")
    rows = read_table("results/run/region-center1_2-stddev0.csv")
    assert {(row["z0"], row["z1"]) for row in rows} == {("1.0", "2.0")}
    message = r"^center=\[1\.0\]: must be 2 numbers, one for each dimension"
    with pytest.raises(UserError, match=message):
        infer_here(*command, "center=[1]")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("center=1", "center=1: must be a list"),
        ("center=[]", "center=[]: must be a list"),
        ("center=[a]", "center=[a]: must be a number"),
        ("center=[.nan]", "center="),
        ("stddev=-1", "stddev=-1: must be"),
    ],
)
def test_illegal_regions_are_refused(override: str, message: str, infer_here: Callable) -> None:
    with pytest.raises(UserError) as refusal:
        infer_here("checkpoint=x", override)
    assert str(refusal.value).startswith(message)


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
    )


@pytest.fixture
def run_with_history(trained: Path, tmp_path: Path) -> Path:
    """A trained run, copied for each test."""
    return shutil.copytree(trained, tmp_path / "run")


def test_training_progress_shows_what_the_run_stored(run_with_history: Path) -> None:
    figures = run_with_history / "figures"
    assert stored_steps(run_with_history) == [4, 8, 12]
    result = FIGURES["training_progress"].call(None, FigureOptions(run=run_with_history))
    logged = {}
    for line in (run_with_history / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if "train" in row:
            logged[row["step"]] = row["train"]
    assert [row["step"] for row in result.table] == [4, 8, 12]
    for row in result.table:
        for name in ("kl_weight", "kl", "distortion"):
            assert row[name] == pytest.approx(logged[row["step"]][name])

    samples, reconstructions = (axes.images[0].get_array() for axes in result.figure.axes[:2])
    assert samples.shape[:2] == (6 * 30 - 2, 3 * 30 - 2)
    assert reconstructions.shape[:2] == (3 * 30 - 2, 3 * 30 - 2)
    with np.load(figures / "history/samples-00000008.npz") as file:
        np.testing.assert_array_equal(samples[60:88, 30:58, 0], file["images"][2, 0])
    with np.load(figures / "history/reconstructions-00000012.npz") as file:
        np.testing.assert_array_equal(reconstructions[30:58, 60:88, 0], file["images"][1, 0])
    titles = [axes.get_title(loc="left") for axes in result.figure.axes[2:]]
    assert titles == ["KL weight", "KL (nats per image)", "distortion (nats per image)"]


def test_figures_of_training_need_the_run_folder(
    run_with_history: Path, infer_here: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copy(run_with_history / "model.safetensors", tmp_path / "alone")
    infer_here("checkpoint=alone", "figures=null", "metrics=[]")
    skipped = "skipped figures training_progress, rate_distortion: there is none at alone"
    assert skipped in caplog.text
    message = "figures: training_progress needs what a run keeps in its folder"
    with pytest.raises(UserError, match=message):
        infer_here("checkpoint=alone", "figures=[training_progress]")
