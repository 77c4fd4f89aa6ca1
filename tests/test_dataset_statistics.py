"""Statistics of a data set agree with numpy's, and their figure can be drawn of any data."""

import csv
from pathlib import Path

import pytest
import torch

from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.data.statistics import dataset_statistics
from genmodels.figures.dataset import draw_dataset


def data_of(
    pixels: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...], sizes: list[int]
) -> ImageData:
    """A data set of these pixels, whose splits have these sizes."""
    _, channels, height, width = pixels.shape
    splits = [ImageSet(pixels, labels, rows) for rows in torch.arange(len(pixels)).split(sizes)]
    return ImageData(ImageSpec("set", (channels, height, width), classes), *splits)  # type: ignore[arg-type]


def test_statistics_are_numpys() -> None:
    torch.manual_seed(0)
    pixels, labels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8), torch.arange(40) % 3
    pixels[labels == 1] //= 2
    pixels[39] = pixels[0]  # a test image that is a training image too
    pixels[38] = pixels[37]  # two test images that are the same
    statistics = dataset_statistics(data_of(pixels, labels, ("a", "b", "c"), [25, 5, 10]))
    chosen = {"a": labels == 0, "b": labels == 1, "c": labels == 2, "all": labels >= 0}
    assert [row["class"] for row in statistics.table()] == list(chosen)
    for row, mask in zip(statistics.table(), chosen.values(), strict=True):
        values = pixels[mask].double().numpy() / 255
        expected = {
            "mean": values.mean(),
            "stddev": values.std(),
            "min": values.min(),
            "max": values.max(),
            "black": (values == 0).mean(),
            "white": (values == 1).mean(),
        }
        assert {key: row[key] for key in expected} == pytest.approx(expected)
        sizes = [int(split.sum()) for split in mask.split([25, 5, 10])]
        assert [row[split] for split in ("train", "validation", "test")] == sizes
    assert (statistics.repeated, statistics.leaked) == (2, 1)
    text = statistics.describe()
    assert "40 images of shape (3, 8, 8): 25 train, 5 validation, 10 test" in text
    assert "3 classes: a 14, b 13, c 13" in text
    assert "2 images repeat an earlier one exactly; 1 of 10 test images" in text


@pytest.mark.parametrize(
    ("classes", "channels", "count"),
    [(0, 1, 40), (1, 3, 40), (2, 1, 12), (40, 3, 90), (102, 1, 210)],
)
def test_any_data_can_be_drawn(classes: int, channels: int, count: int, tmp_path: Path) -> None:
    labels = torch.arange(count) % classes if classes else torch.full((count,), -1)
    pixels = torch.randint(0, 256, (count, channels, 8, 8), dtype=torch.uint8)
    names = tuple(f"class $\\frac {number}" for number in range(classes))
    statistics = dataset_statistics(data_of(pixels, labels, names, [count - 8, 4, 4]))
    figure = draw_dataset(statistics, torch.rand(5, channels, 8, 8))
    path = figure.save(tmp_path, "data", "caption")
    assert path.stat().st_size > 20_000
    with open(path.with_suffix(".csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (classes + 1 if classes > 1 else 1)


def test_what_deserves_a_second_look_is_described() -> None:
    labels = torch.tensor([0] * 30 + [1] * 3)
    pixels = torch.full((33, 1, 4, 4), 7, dtype=torch.uint8)
    text = dataset_statistics(data_of(pixels, labels, ("many", "few"), [20, 3, 10])).describe()
    assert "uneven: 30 of many, 3 of few" in text and "all pixels are the same" in text
    unlabelled = data_of(pixels, torch.full_like(labels, -1), (), [20, 3, 10])
    assert "no labels" in dataset_statistics(unlabelled).describe()


def test_of_many_classes_the_first_are_described() -> None:
    pixels = torch.randint(0, 256, (60, 1, 4, 4), dtype=torch.uint8)
    names = tuple(f"class {number}" for number in range(15))
    data = data_of(pixels, torch.arange(60) % 15, names, [40, 5, 15])
    assert "15 classes: class 0 4, " in dataset_statistics(data).describe()
    assert "class 11 4 and 3 more" in dataset_statistics(data).describe()
