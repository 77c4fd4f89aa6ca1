"""What can be drawn of anything that makes images from noise: temperatures, ways between draws, nearest neighbours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genmodels.data.images import ImageSet, to_float
from genmodels.figures import grids, latent, plotting
from genmodels.figures.latent import lerp, slerp
from genmodels.figures.nearest import nearest_neighbours
from genmodels.figures.options import FigureOptions
from genmodels.figures.registry import FIGURES
from genmodels.metrics import neighbours as metric
from genmodels.metrics.neighbours import neighbours
from genmodels.models.generative import GenerativeModel
from genmodels.models.priors import GaussianMixture
from genmodels.registry import select

FRACTIONS = torch.linspace(0, 1, 9)


class Painter(GenerativeModel):
    """Knows no encoder, as a GAN's generator: gray images, as bright as the first number of z says, and the label."""

    def __init__(
        self, num_classes: int = 0, label_dropout: float = 0.0, latent_dim: int = 3
    ) -> None:
        torch.manual_seed(0)
        super().__init__((1, 4, 4), latent_dim, num_classes, label_dropout)
        self.weight = torch.nn.Parameter(torch.ones(1))

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, 1, 4, 4)."""
        gray = torch.sigmoid(self.weight * z[:, 0] + (0 if labels is None else labels))
        return gray.view(-1, 1, 1, 1).expand(-1, *self.image_shape)


class Copier(GenerativeModel):
    """Knows one part of the data by heart, and hands out its images in turn."""

    def __init__(self, part: ImageSet) -> None:
        super().__init__(part.images.shape[1:], 2)
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.part = part

    def generate(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W)."""
        return self.part.batch(torch.arange(len(z)) % len(self.part)).images


def part_of(count: int, shape: tuple[int, ...] = (1, 5, 4), seed: int = 0) -> ImageSet:
    """Every other one of random images, backwards: positions in the part are not rows of the tensor."""
    noise = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (2 * count, *shape), dtype=torch.uint8, generator=noise)
    return ImageSet(images, torch.zeros(2 * count).long(), torch.arange(2 * count - 1, 0, -2))


def z_of(table: Any, dimensions: int = 3) -> Tensor:
    return torch.tensor([[row[f"z{index}"] for index in range(dimensions)] for row in table])


def sheet_of(picture: plotting.FigureResult) -> np.ndarray:
    return np.asarray(picture.figure.axes[0].images[0].get_array())


def columns_of(picture: plotting.FigureResult, count: int) -> list[np.ndarray]:
    """The gray value at each image of 4 x 4 pixels, column by column."""
    sheet = sheet_of(picture)
    assert sheet.shape[1] == 6 * count - 2
    return [sheet[::6, 6 * index, 0] for index in range(count)]


def test_an_arc_between_orthogonal_unit_vectors() -> None:
    first, second = torch.eye(5)[:2]
    way = slerp(first[None], second[None], FRACTIONS)[0]
    angle = FRACTIONS * torch.pi / 2
    torch.testing.assert_close(way, angle.cos()[:, None] * first + angle.sin()[:, None] * second)


def test_an_arc_keeps_norm_and_speed_and_its_ends() -> None:
    ends = torch.randn(2, 7, 40, generator=torch.Generator().manual_seed(1))
    first, second = torch.nn.functional.normalize(ends, dim=2)
    way = slerp(first, second, FRACTIONS)
    assert way.shape == (7, 9, 40)
    torch.testing.assert_close(way.norm(dim=2), torch.ones(7, 9))
    turned = (way[:, 1:] * way[:, :-1]).sum(dim=2).acos()  # from one image to the next
    torch.testing.assert_close(
        turned, ((first * second).sum(dim=1).acos() / 8)[:, None].expand(7, 8), atol=1e-3, rtol=0
    )
    for ways in (slerp(*ends, FRACTIONS), lerp(*ends, FRACTIONS)):  # of any norm
        assert (ways[:, 0] == ends[0]).all() and (ways[:, -1] == ends[1]).all()
    straight = lerp(first, second, FRACTIONS)
    assert straight.diff(n=2, dim=1).abs().max() < 1e-6 and straight[:, 4].norm(dim=1).max() < 0.95


def test_where_there_is_no_one_arc_the_way_is_straight() -> None:
    """Parallel, the same, opposite, from zero, to zero, zero to zero; and almost parallel, where both agree."""
    first = torch.tensor(
        [[1.0, 2, -1], [1, 2, -1], [1, 2, -1], [0, 0, 0], [1, 2, -1], [0, 0, 0], [1, 2, -1]]
    )
    second = torch.tensor(
        [[3.0, 6, -3], [1, 2, -1], [-2, -4, 2], [1, 2, -1], [0, 0, 0], [0, 0, 0], [1.004, 2, -1]]
    )
    torch.testing.assert_close(
        slerp(first, second, FRACTIONS), lerp(first, second, FRACTIONS), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("model", [Painter(), Painter(4), Painter(4, 0.1)])
def test_two_ways_between_the_same_ends(model: Painter) -> None:
    picture = latent.interpolation(model, FigureOptions(n=2, temperature=4))
    assert [row["kind"] for row in picture.table] == (["linear"] * 11 + ["spherical"] * 11) * 2
    assert [row["pair"] for row in picture.table] == [0] * 22 + [1] * 22
    assert [row["fraction"] for row in picture.table] == pytest.approx(
        [index / 10 for index in range(11)] * 4
    )
    ways = z_of(picture.table).view(2, 2, 11, 3)
    assert (ways[:, 0, [0, -1]] == ways[:, 1, [0, -1]]).all()
    assert ways[:, 0].diff(n=2, dim=1).abs().max() < 1e-5 < ways[:, 1].diff(n=2, dim=1).abs().max()
    torch.testing.assert_close(
        ways[:, 1], slerp(ways[:, 0, 0], ways[:, 0, -1], torch.linspace(0, 1, 11))
    )
    ends, halves = ways[:, 0, [0, -1]].norm(dim=2).mean(), ways[:, :, 5].norm(dim=2).mean(dim=0)
    title = picture.figure.axes[0].get_title(loc="left").replace("\n", " ")
    assert title.endswith(
        f"mean |z| {ends:.1f}, half way {halves[0]:.1f} (linear) or {halves[1]:.1f} (spherical)"
    )
    label = -1 if model.label_dropout else 0
    gray = torch.sigmoid(ways[..., 0] + label).flatten(0, 1).T  # (11, 4)
    shown = [
        sheet_of(picture)[[0, 6, 13, 19], 6 * index, 0] for index in range(11)
    ]  # pairs lie apart
    np.testing.assert_allclose(np.array(shown) / 255, gray.detach(), atol=0.003)


def test_between_draws_without_noise() -> None:
    picture = latent.interpolation(Painter(), FigureOptions(n=3, temperature=0))
    assert (z_of(picture.table) == 0).all() and len(picture.table) == 3 * 2 * 11


@pytest.mark.parametrize("model", [Painter(), Painter(4), Painter(4, 0.1)])
def test_one_noise_in_each_column_at_all_temperatures(model: Painter) -> None:
    asked = [2, 1] if model.num_classes else None
    picture = grids.temperature(model, FigureOptions(n=5, seed=3, temperature=9, labels=asked))
    temperatures = torch.tensor([row["temperature"] for row in picture.table]).view(-1, 5)
    assert (temperatures == temperatures[:, :1]).all() and len(temperatures) == len(
        grids.TEMPERATURES
    )
    z = z_of(picture.table).view(-1, 5, 3)
    whole = z[grids.TEMPERATURES.index(1.0)]
    torch.testing.assert_close(z, temperatures.sqrt()[..., None] * whole)  # a variance
    assert len(whole.unique(dim=0)) == 5
    names = [label.get_text() for label in picture.figure.axes[0].get_yticklabels()]
    assert names == [f"T = {value:g}" for value in grids.TEMPERATURES] and "T = 0.5" in names
    labels = torch.tensor([row.get("label", 0) for row in picture.table]).view(-1, 5)
    assert (
        labels[0].tolist() == ([2, 1, 2, 1, 2] if model.num_classes else [0] * 5)
        and (labels == labels[0]).all()
    )
    shown = np.array(columns_of(picture, 5)).T  # (temperatures, 5)
    np.testing.assert_allclose(shown / 255, torch.sigmoid(z[..., 0] + labels).detach(), atol=0.003)
    assert len(set(shown[0])) == len(set(labels[0].tolist()))  # T = 0: a class is one image
    assert "z ~ N(0, T I)" in picture.figure.axes[0].get_title(loc="left").replace("\n", " ")


def test_temperatures_of_a_fitted_density() -> None:
    """The same components and the same noise in all rows: only the distance from the component's mean grows."""
    model = Painter(latent_dim=1)
    model.density = GaussianMixture(
        torch.tensor([0.5, 0.5]).double(),
        torch.tensor([[-20.0], [20.0]]).double(),
        torch.tensor([[[1.0]], [[4.0]]]).double(),
    )
    picture = grids.temperature(model, FigureOptions(n=10))
    z = z_of(picture.table, 1).view(-1, 10)
    assert set(z[0].tolist()) == {-20.0, 20.0}
    spread = torch.tensor(grids.TEMPERATURES).sqrt()[:, None]
    torch.testing.assert_close(
        z - z[0], spread * (z[grids.TEMPERATURES.index(1.0)] - z[0]), atol=1e-5, rtol=1e-4
    )
    title = picture.figure.axes[0].get_title(loc="left").replace("\n", " ")
    assert title.endswith(
        "z ~ mixture of 2 Gaussians fitted to the training posteriors, covariances times T"
    )


@pytest.mark.parametrize("compared", [1, 70, 10**9])  # values at once: an image, a few, all
def test_neighbours_are_those_of_brute_force(
    compared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric, "COMPARED", compared)
    part, images = part_of(23), torch.rand(6, 1, 5, 4, generator=torch.Generator().manual_seed(5))
    found = neighbours(images, part, 4)
    given = part.images[part.rows].double() / 255
    expected = (images[:, None].double() - given).square().sum(dim=(2, 3, 4)).sort(dim=1)
    torch.testing.assert_close(found.distance, expected.values[:, :4], atol=1e-6, rtol=0)
    assert (found.index == expected.indices[:, :4]).all()


def test_neighbours_of_copies() -> None:
    """0, also where images are large and bright; of a smaller part all are given."""
    part = part_of(5, (3, 64, 64))
    part.images.clamp_(min=250)
    found = neighbours(part.batch(slice(0, 5)).images, part, 9)
    assert found.index.shape == (5, 5) and found.index[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert (found.distance[:, 0] == 0).all() and found.distance[:, 1].min() > 0.05
    values = to_float(part.images[part.rows]).double()
    expected = (values[0] - values[found.index[0, 4]]).square().sum().item()
    assert found.distance[0, 4].item() == pytest.approx(expected, abs=1e-6)


def test_who_copies_is_found_out() -> None:
    train, test = part_of(30, seed=1), part_of(12, seed=2)
    picture = nearest(Copier(train), FigureOptions(n=10, test=test, train=train))
    rows = {
        kind: [row for row in picture.table if row["kind"] == kind and row["rank"] == 1]
        for kind in ("sample", "test image")
    }
    assert (
        [row["train_image"] for row in rows["sample"]]
        == list(range(10))
        == [row["image"] for row in rows["sample"]]
    )
    assert {row["distance"] for row in rows["sample"]} == {0.0}
    assert min(row["distance"] for row in rows["test image"]) > 0.1
    assert len(picture.table) == 2 * 10 * 10 and [
        row["rank"] for row in picture.table[:10]
    ] == list(range(1, 11))
    median = torch.tensor([row["distance"] for row in rows["test image"]]).median()
    words = [text.get_text() for text in picture.figure.axes[2].get_legend().get_texts()]
    assert words[0] == "samples, medians 0 and 0%" and words[1].startswith(
        f"test images, medians {median:.3g} and "
    )
    sheet = sheet_of(picture)  # the samples, and below each the same image
    assert (sheet[:5, :22] == sheet[7:12, :22]).all() and (sheet[:5] != sheet[14:19]).any()


def test_who_does_not_copy_is_as_far_as_test_images() -> None:
    train, test, new = part_of(30, seed=1), part_of(10, seed=2), part_of(10, seed=3)
    table = nearest(Copier(new), FigureOptions(n=100, test=test, train=train)).table
    assert {row["image"] for row in table if row["kind"] == "sample"} == set(range(100))
    assert {row["image"] for row in table if row["kind"] == "test image"} == set(
        range(10)
    )  # there are no more
    distance = {
        kind: np.median(
            [row["distance"] for row in table if row["kind"] == kind and row["rank"] == 1]
        )
        for kind in ("sample", "test image")
    }
    assert distance["sample"] == pytest.approx(distance["test image"], rel=0.3)


@pytest.mark.parametrize(("images", "shape"), [(1, (1, 8, 8)), (3, (3, 6, 10)), (40, (1, 4, 4))])
def test_few_images_are_neighbours_too(images: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    train, test = part_of(images, shape, seed=1), part_of(1, shape, seed=2)
    picture = nearest(Copier(train), FigureOptions(n=2, test=test, train=train))
    assert len(picture.table) == 3 * min(images, 10)
    assert picture.save(tmp_path, "nearest", "").exists()


def test_the_neighbours_are_those_of_the_samples() -> None:
    """The same noise, labels and temperature: samples.csv says what z they are from."""
    model, seen = Painter(4), []
    request = FigureOptions(
        n=6,
        seed=2,
        temperature=0.5,
        labels=[3, 1],
        test=part_of(4, (1, 4, 4)),
        train=part_of(8, (1, 4, 4)),
    )
    generate: Callable = model.generate
    model.generate = lambda z, labels: seen.append((z, labels)) or generate(z, labels)  # type: ignore
    grids.samples(model, request)
    nearest_neighbours(model, request)
    assert (seen[0][0] == seen[1][0]).all() and (seen[0][1] == seen[1][1]).all()


def test_a_generator_alone_has_them_all() -> None:
    names = select("figures", None, FIGURES, Painter())
    assert {"samples", "temperature", "interpolation", "nearest"} <= names.keys()
    assert {"class_grid", "style_grid"} <= select("figures", None, FIGURES, Painter(4)).keys()
    assert not {"reconstructions", "traversals", "latent_grid"} & names.keys()


def test_groups_of_rows_lie_apart() -> None:
    images = torch.arange(5).view(5, 1, 1, 1).expand(5, 1, 8, 6) / 255
    sheet = plotting.tile(images, columns=1, group=2)
    assert sheet.shape == (5 * 8 + 4 * 2 + 2 * 2, 6, 1)
    assert [sheet[top, 0, 0] for top in plotting.row_tops(5, 8, 2, 2)] == [0, 1, 2, 3, 4]
    assert plotting.row_tops(5, 8, 2, 2) == [0, 10, 22, 32, 44] and (sheet[18:22] == 255).all()
