"""Figures of any model that makes images from noise: temperatures, paths, nearest neighbours."""

from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from genmodels.data.images import ImageSet, to_float
from genmodels.figures import grids
from genmodels.figures.image_sheet import row_tops, tile
from genmodels.figures.interpolation import interpolation, lerp, slerp
from genmodels.figures.nearest_neighbours import nearest_neighbours
from genmodels.figures.options import FigureOptions
from genmodels.figures.plotting import FigureResult
from genmodels.figures.registry import FIGURES
from genmodels.metrics import neighbours as neighbours_module
from genmodels.metrics.neighbours import neighbours
from genmodels.models.generative import GenerativeModel
from genmodels.models.mixtures import GaussianMixture
from genmodels.registry import select

FRACTIONS = torch.linspace(0, 1, 9)


class GrayModel(GenerativeModel):
    """A model without encoder: gray images, brighter with the first number of z and the label."""

    def __init__(
        self, num_classes: int = 0, label_dropout: float = 0.0, latent_dim: int = 3
    ) -> None:
        super().__init__((1, 4, 4), latent_dim, num_classes, label_dropout)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, 1, 4, 4)."""
        gray = torch.sigmoid(self.weight * z[:, 0] + (0 if labels is None else labels))
        return gray.view(-1, 1, 1, 1).expand(-1, *self.image_shape)


class CopyingModel(GenerativeModel):
    """A model that returns the images of a split in turn."""

    def __init__(self, split: ImageSet) -> None:
        super().__init__(split.images.shape[1:], latent_dim=2)
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.split = split

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W)."""
        return self.split.batch(torch.arange(len(z)) % len(self.split)).images


every_kind = pytest.mark.parametrize("model", [GrayModel(), GrayModel(4), GrayModel(4, 0.1)])


def split_of(count: int, shape: tuple[int, ...] = (1, 5, 4), seed: int = 0) -> ImageSet:
    """Every other random image, in reverse: positions in the split are not rows of the tensor."""
    noise = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2 * count, *shape), dtype=torch.uint8, generator=noise)
    return ImageSet(images, torch.zeros(2 * count).long(), torch.arange(2 * count - 1, 0, -2))


def z_of(result: FigureResult, dimensions: int = 3) -> Tensor:
    get_z = itemgetter(*(f"z{index}" for index in range(dimensions)))
    return torch.tensor([get_z(row) for row in result.table]).view(-1, dimensions)


def title_of(result: FigureResult) -> str:
    return result.figure.axes[0].get_title(loc="left").replace("\n", " ")


def sheet_of(result: FigureResult) -> np.ndarray:
    return np.asarray(result.figure.axes[0].images[0].get_array())


def test_slerp_between_orthogonal_unit_vectors() -> None:
    start, end = torch.eye(5)[:2]
    angle = FRACTIONS * torch.pi / 2
    expected = angle.cos()[:, None] * start + angle.sin()[:, None] * end
    torch.testing.assert_close(slerp(start[None], end[None], FRACTIONS)[0], expected)


def test_slerp_keeps_norm_and_speed_between_unit_vectors() -> None:
    ends = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(1))
    start, end = torch.nn.functional.normalize(ends, dim=2)
    arc = slerp(start, end, FRACTIONS)
    assert arc.shape == (7, 9, 40)
    torch.testing.assert_close(arc.norm(dim=2), torch.ones(7, 9))
    step_angles = (arc[:, 1:] * arc[:, :-1]).sum(dim=2).acos()
    expected = (start * end).sum(dim=1).acos()[:, None].expand(7, 8) / 8
    torch.testing.assert_close(step_angles, expected, atol=1e-3, rtol=0)
    line = lerp(start, end, FRACTIONS)
    assert line.diff(n=2, dim=1).abs().max() < 1e-6
    assert line[:, 4].norm(dim=1).max() < 0.95


@pytest.mark.parametrize("path", [lerp, slerp])
def test_paths_begin_and_end_at_vectors_of_any_norm(path: Callable) -> None:
    start, end = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(1))
    points = path(start, end, FRACTIONS)
    assert (points[:, 0] == start).all() and (points[:, -1] == end).all()


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ([1.0, 2, -1], [3.0, 6, -3]),
        ([1.0, 2, -1], [1.0, 2, -1]),
        ([1.0, 2, -1], [-2.0, -4, 2]),
        ([0.0, 0, 0], [1.0, 2, -1]),
        ([1.0, 2, -1], [0.0, 0, 0]),
        ([0.0, 0, 0], [0.0, 0, 0]),
        ([1.0, 2, -1], [1.004, 2, -1]),
    ],
    ids=["parallel", "same", "opposite", "from 0", "to 0", "0 to 0", "nearly parallel"],
)
def test_slerp_is_straight_where_no_arc_is_defined(start: list, end: list) -> None:
    ends = torch.tensor([start]), torch.tensor([end])
    expected = lerp(*ends, FRACTIONS)
    torch.testing.assert_close(slerp(*ends, FRACTIONS), expected, atol=1e-5, rtol=0)


@every_kind
def test_interpolation_shows_both_paths_between_the_same_ends(model: GrayModel) -> None:
    result = interpolation(model, FigureOptions(n=2, temperature=4))
    assert [row["kind"] for row in result.table] == (["linear"] * 11 + ["spherical"] * 11) * 2
    assert [row["pair"] for row in result.table] == [0] * 22 + [1] * 22
    fractions = [row["fraction"] for row in result.table]
    assert fractions == pytest.approx([index / 10 for index in range(11)] * 4)

    paths = z_of(result).view(2, 2, 11, 3)
    lines, arcs = paths[:, 0], paths[:, 1]
    assert (lines[:, [0, -1]] == arcs[:, [0, -1]]).all()
    assert lines.diff(n=2, dim=1).abs().max() < 1e-5 < arcs.diff(n=2, dim=1).abs().max()
    torch.testing.assert_close(arcs, slerp(lines[:, 0], lines[:, -1], torch.linspace(0, 1, 11)))

    end_norm = lines[:, [0, -1]].norm(dim=2).mean()
    linear, spherical = paths[:, :, 5].norm(dim=2).mean(dim=0)
    expected = (
        f"mean |z| {end_norm:.1f}, halfway {linear:.1f} (linear) or {spherical:.1f} (spherical)"
    )
    assert title_of(result).endswith(expected)

    label = -1 if model.label_dropout else 0
    expected_gray = torch.sigmoid(paths[..., 0] + label).flatten(0, 1)  # (4, 11)
    # rows of 4 x 4 pixels with gaps of 2, and a wider one between pairs
    gray = sheet_of(result)[[0, 6, 13, 19], ::6, 0]
    np.testing.assert_allclose(gray / 255, expected_gray.detach(), atol=0.003)


def test_interpolation_without_noise() -> None:
    result = interpolation(GrayModel(), FigureOptions(n=3, temperature=0))
    assert (z_of(result) == 0).all() and len(result.table) == 3 * 2 * 11


@every_kind
def test_a_column_is_one_noise_at_all_temperatures(model: GrayModel) -> None:
    requested = [2, 1] if model.num_classes else None
    result = grids.temperature(model, FigureOptions(n=5, seed=3, temperature=9, labels=requested))
    temperatures = torch.tensor([row["temperature"] for row in result.table]).view(-1, 5)
    expected_temperatures = torch.tensor(grids.TEMPERATURES)[:, None].expand(-1, 5)
    assert torch.equal(temperatures, expected_temperatures)
    z = z_of(result).view(-1, 5, 3)
    z_at_1 = z[grids.TEMPERATURES.index(1.0)]
    assert len(z_at_1.unique(dim=0)) == 5
    torch.testing.assert_close(z, temperatures.sqrt()[..., None] * z_at_1)

    names = [label.get_text() for label in result.figure.axes[0].get_yticklabels()]
    assert names == [f"T = {value:g}" for value in grids.TEMPERATURES] and "T = 0.5" in names
    labels = torch.tensor([row.get("label", 0) for row in result.table]).view(-1, 5)
    assert labels[0].tolist() == ([2, 1, 2, 1, 2] if model.num_classes else [0] * 5)
    assert (labels == labels[0]).all()
    gray = sheet_of(result)[::6, ::6, 0]  # (temperatures, 5)
    np.testing.assert_allclose(gray / 255, torch.sigmoid(z[..., 0] + labels).detach(), atol=0.003)
    assert len(set(gray[0])) == len(set(labels[0].tolist()))  # T = 0: a class is one image
    assert "z ~ N(0, T I)" in title_of(result)


def test_temperatures_of_a_fitted_density() -> None:
    """All rows have the same components and noise: only distances from component means grow."""
    density = GaussianMixture.of(
        torch.tensor([0.5, 0.5]).double(),
        torch.tensor([[-20.0], [20.0]]).double(),
        torch.tensor([[[1.0]], [[4.0]]]).double(),
    )
    model = GrayModel(latent_dim=1).with_prior(density)
    result = grids.temperature(model, FigureOptions(n=10))
    z = z_of(result, 1).view(-1, 10)
    assert set(z[0].tolist()) == {-20.0, 20.0}
    scale = torch.tensor(grids.TEMPERATURES).sqrt()[:, None]
    expected = scale * (z[grids.TEMPERATURES.index(1.0)] - z[0])
    torch.testing.assert_close(z - z[0], expected, atol=1e-5, rtol=1e-4)
    assert title_of(result).endswith("z ~ mixture of 2 Gaussians, covariances times T")


@pytest.mark.parametrize("held_values", [1, 70, 10**9], ids=["one image", "some", "all"])
def test_neighbours_are_those_of_brute_force(
    held_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours_module, "HELD_VALUES", held_values)
    split = split_of(23)
    images = torch.rand(6, 1, 5, 4, generator=torch.Generator().manual_seed(5))
    nearest = neighbours(images, split, 4)
    split_images = split.images[split.rows].double() / 255
    squares = (images[:, None].double() - split_images).square()
    expected = squares.sum(dim=(2, 3, 4)).sort(dim=1)
    torch.testing.assert_close(nearest.distance, expected.values[:, :4], atol=1e-6, rtol=0)
    assert (nearest.index == expected.indices[:, :4]).all()


def test_copies_have_distance_0() -> None:
    """Also where images are large and bright. All images of a small split are neighbours."""
    split = split_of(5, (3, 64, 64))
    split.images.clamp_(min=250)
    nearest = neighbours(split.batch(slice(0, 5)).images, split, 9)
    assert nearest.index.shape == (5, 5) and nearest.index[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert (nearest.distance[:, 0] == 0).all() and nearest.distance[:, 1].min() > 0.05
    values = to_float(split.images[split.rows]).double()
    expected = (values[0] - values[nearest.index[0, 4]]).square().sum().item()
    assert nearest.distance[0, 4].item() == pytest.approx(expected, abs=1e-6)


def nearest_rows(result: FigureResult, kind: str) -> list[dict]:
    return [dict(row) for row in result.table if row["kind"] == kind and row["rank"] == 1]


def test_a_model_that_copies_is_recognised() -> None:
    train, test = split_of(30, seed=1), split_of(12, seed=2)
    result = nearest_neighbours(CopyingModel(train), FigureOptions(n=10, test=test, train=train))
    of_samples, of_test = nearest_rows(result, "sample"), nearest_rows(result, "test image")
    assert [row["image"] for row in of_samples] == list(range(10))
    assert [row["train_image"] for row in of_samples] == list(range(10))
    assert {row["distance"] for row in of_samples} == {0.0}
    test_distances = [row["distance"] for row in of_test]
    assert min(test_distances) > 0.1
    assert len(result.table) == 2 * 10 * 10
    assert [row["rank"] for row in result.table[:10]] == list(range(1, 11))

    legend = result.figure.axes[2].get_legend()
    assert legend is not None
    samples_label, test_label = [text.get_text() for text in legend.get_texts()]
    assert samples_label == "samples, medians 0 and 0%"
    median = torch.tensor(test_distances).median()
    assert test_label.startswith(f"test images, medians {median:.3g} and ")
    # the second row of images is the same as the first, the third is not
    sheet = sheet_of(result)
    assert (sheet[:5, :22] == sheet[7:12, :22]).all() and (sheet[:5] != sheet[14:19]).any()


def test_a_model_that_does_not_copy_is_as_far_as_test_images() -> None:
    train, test, new = split_of(30, seed=1), split_of(10, seed=2), split_of(10, seed=3)
    result = nearest_neighbours(CopyingModel(new), FigureOptions(n=100, test=test, train=train))
    of_samples, of_test = nearest_rows(result, "sample"), nearest_rows(result, "test image")
    assert {row["image"] for row in of_samples} == set(range(100))
    assert {row["image"] for row in of_test} == set(range(10))  # there are no more
    sample_median = np.median([row["distance"] for row in of_samples])
    test_median = np.median([row["distance"] for row in of_test])
    assert sample_median == pytest.approx(test_median, rel=0.3)


@pytest.mark.parametrize(("images", "shape"), [(1, (1, 8, 8)), (3, (3, 6, 10)), (40, (1, 4, 4))])
def test_few_images_are_neighbours_too(images: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    train, test = split_of(images, shape, seed=1), split_of(1, shape, seed=2)
    options = FigureOptions(n=2, test=test, train=train)
    result = nearest_neighbours(CopyingModel(train), options)
    assert len(result.table) == 3 * min(images, 10)
    assert result.save(tmp_path, "nearest_neighbours", "").exists()


def test_nearest_neighbours_are_those_of_the_samples() -> None:
    """The same noise, labels and temperature, so that samples.csv tells their z."""
    calls = []

    class RecordingModel(GrayModel):
        def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
            calls.append((z, labels))
            return super().generate(z, labels)

    options = FigureOptions(
        n=6,
        seed=2,
        temperature=0.5,
        labels=[3, 1],
        test=split_of(4, (1, 4, 4)),
        train=split_of(8, (1, 4, 4)),
    )
    model = RecordingModel(4)
    grids.samples(model, options)
    nearest_neighbours(model, options)
    (samples_z, samples_labels), (z, labels) = calls
    assert torch.equal(samples_z, z) and torch.equal(samples_labels, labels)


def test_figures_of_a_generator_alone() -> None:
    names = select("figures", None, FIGURES, GrayModel()).keys()
    assert {"samples", "temperature", "interpolation", "nearest_neighbours"} <= names
    needs_encoder = {"reconstructions", "traversals", "latent_grid", "rate_distortion"}
    assert not needs_encoder & names
    assert {"class_grid", "style_grid"} <= select("figures", None, FIGURES, GrayModel(4)).keys()


def test_groups_of_rows_lie_apart() -> None:
    images = torch.arange(5).view(5, 1, 1, 1).expand(5, 1, 8, 6) / 255
    sheet = tile(images, columns=1, group=2)
    tops = row_tops(5, height=8, gap=2, group=2)
    assert tops == [0, 10, 22, 32, 44]
    assert sheet.shape == (5 * 8 + 4 * 2 + 2 * 2, 6, 1)
    assert [sheet[top, 0, 0] for top in tops] == [0, 1, 2, 3, 4]
    assert (sheet[18:22] == 255).all()
