"""From a folder of pictures to a model: the preview, a run, its resumption, inference; and what is said on the way."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, same, weights, write_pictures
from PIL import Image

from genmodels.data.images import ImageData, ImageSet, ImageSpec
from genmodels.figures.dataset import draw_data, survey
from genmodels.trainers.vae import VAETrainer
from genmodels.validation import UserError

COMMAND = ["dataset=folder", "dataset.side=16", *SMALL, "batch_size=16", "max_steps=6"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(["apples", "pears", "plums"]):
        write_pictures(tmp_path / "fruit" / name, count=20 + 10 * number, seed=number)
    return tmp_path / "fruit"


def data_of(
    pixels: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...], sizes: list[int]
) -> ImageData:
    parts = [ImageSet(pixels, labels, rows) for rows in torch.arange(len(pixels)).split(sizes)]
    return ImageData(ImageSpec("set", tuple(pixels.shape[1:]), classes), *parts)  # type: ignore[arg-type]


def test_a_survey_counts_as_numpy_does() -> None:
    torch.manual_seed(0)
    pixels, labels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8), torch.arange(40) % 3
    pixels[labels == 1] //= 2
    pixels[39] = pixels[0]  # a test image that is a training image too
    pixels[38] = pixels[37]  # two test images that are the same
    found = survey(data_of(pixels, labels, ("a", "b", "c"), [25, 5, 10]))
    rows = {row["class"]: row for row in found.table()}
    for name, chosen in {
        "a": labels == 0,
        "b": labels == 1,
        "c": labels == 2,
        "all": labels >= 0,
    }.items():
        values = pixels[chosen].double().numpy() / 255
        expected = {
            "mean": values.mean(),
            "stddev": values.std(),
            "min": values.min(),
            "max": values.max(),
            "black": (values == 0).mean(),
            "white": (values == 1).mean(),
        }
        assert {key: rows[name][key] for key in expected} == pytest.approx(expected)
        parts = [chosen[:25], chosen[25:30], chosen[30:]]
        assert [rows[name][part] for part in ("train", "validation", "test")] == [
            int(part.sum()) for part in parts
        ]
    assert (found.repeated, found.leaked) == (2, 1)
    words = found.in_words()
    assert "40 images of shape (3, 8, 8): 25 train, 5 validation, 10 test" in words
    assert (
        "3 classes: a 14, b 13, c 13" in words
        and "2 images repeat an earlier one exactly; 1 of 10 test" in words
    )


@pytest.mark.parametrize(
    ("classes", "channels", "count"),
    [(0, 1, 40), (1, 3, 40), (2, 1, 12), (40, 3, 90), (102, 1, 210)],
)
def test_any_data_can_be_drawn(classes: int, channels: int, count: int, tmp_path: Path) -> None:
    labels = torch.arange(count) % classes if classes else torch.full((count,), -1)
    pixels = torch.randint(0, 256, (count, channels, 8, 8), dtype=torch.uint8)
    names = tuple(f"class $\\frac {number}" for number in range(classes))
    found = survey(data_of(pixels, labels, names, [count - 8, 4, 4]))
    path = draw_data(found, torch.rand(5, channels, 8, 8)).save(tmp_path, "data", "caption")
    assert path.stat().st_size > 20_000
    with open(path.with_suffix(".csv"), newline="") as file:
        assert len(list(csv.DictReader(file))) == (classes + (classes > 1) if classes else 1)


def test_what_is_worth_a_second_look_is_said() -> None:
    labels = torch.tensor([0] * 30 + [1] * 3)
    found = survey(
        data_of(
            torch.full((33, 1, 4, 4), 7, dtype=torch.uint8), labels, ("many", "few"), [20, 3, 10]
        )
    )
    assert (
        "uneven: 30 of many, 3 of few" in found.in_words()
        and "all pixels are the same" in found.in_words()
    )
    found = survey(
        data_of(torch.zeros(33, 1, 4, 4, dtype=torch.uint8), labels * 0 - 1, (), [20, 3, 10])
    )
    assert "no labels" in found.in_words()


def test_preview_shows_the_data_as_the_run_will_see_them(
    root: Path,
    train_here: Callable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = []
    inputs = VAETrainer.inputs
    monkeypatch.setattr(
        VAETrainer, "inputs", lambda self, batch: seen.append(inputs(self, batch)) or seen[-1]
    )
    augmented = ["augment.flip=true", "augment.crop=2"]
    gray = [*COMMAND, f"dataset.root={root}", "dataset.channels=1", *augmented]
    folder = train_here(*gray, "preview=true", folder="preview")
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "data.png",
        "data.csv",
        "preview.png",
        "preview.csv",
    }
    assert list(folder.iterdir()) == [folder / "figures"]
    assert (
        "fruit: 90 images of shape (1, 16, 16)" in caplog.text
        and "apples 20, pears 30, plums 40" in caplog.text
    )
    train_here(*gray)
    assert torch.equal(seen[0], seen[1]) and set(seen[0].unique().tolist()) == {0.0, 1.0}
    train_here(*COMMAND, f"dataset.root={root}", "max_steps=1", folder="coloured")
    assert len(seen[-1].unique()) > 100  # colours are not drawn black and white


def test_from_pictures_to_pictures(
    root: Path, train_here: Callable, infer_here: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    folder = train_here(*COMMAND, f"dataset.root={root}")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished" and len(summary["data"]) == 8
    infer_here(f"checkpoint={folder}", f"dataset.root={root}", "n=4")
    results = Path("results/run")
    assert Image.open(results / "reconstructions.png").size[0] > 500
    with open(results / "reconstructions.csv", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} <= {"apples", "pears", "plums"}
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["elbo"].items() <= summary["metrics"]["test"].items()
    assert "not the images" not in caplog.text

    write_pictures(root / "plums", count=1, seed=99)
    infer_here(f"checkpoint={folder}", f"dataset.root={root}", "figures=[samples]")
    assert "not the images that" in caplog.text
    for more, there in (["dataset.root=nowhere"], "nowhere"), ([], "data/pictures"):
        infer_here(f"checkpoint={folder}", "n=4", *more)
        assert (
            f"latent_grid, latent_scatter, latent_atlas: dataset.root={there}: no such"
            in caplog.text
        )


def test_other_pictures_under_a_run_are_refused(
    root: Path, train_here: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run goes on only with the images that it began with."""
    update = VAETrainer.update

    def stop(self: VAETrainer, batch: object, step: int, total: int) -> object:
        if step == 4:
            raise MemoryError
        return update(self, batch, step, total)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Exception, match="MemoryError"):
        patch.setattr(VAETrainer, "update", stop)
        train_here(*COMMAND, f"dataset.root={root}", "checkpoint_every=2")
    write_pictures(root / "plums", count=1, seed=99)
    with pytest.raises(UserError, match="began with other data"):
        train_here(*COMMAND, f"dataset.root={root}")
    write_pictures(root / "plums", count=1, seed=2)
    folder = train_here(*COMMAND, f"dataset.root={root}")
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"


def test_an_augmented_run_resumes_exactly_and_differs(
    root: Path, train_resumed: Callable, train_here: Callable
) -> None:
    command = [*COMMAND, f"dataset.root={root}"]
    moved = train_resumed(
        *command, "checkpoint_every=2", "augment.flip=true", "augment.crop=1", stops=[3]
    )
    assert not same(weights(moved), weights(train_here(*command, folder="plain")))
