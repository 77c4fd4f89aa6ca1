"""From a folder of images to a model: preview, training, resumption, inference, and messages."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, same, summary, weights, write_pictures
from PIL import Image

from genmodels.trainers.vae import VAETrainer
from genmodels.user_errors import UserError

COMMAND = ["dataset=folder", "dataset.side=16", *SMALL, "batch_size=16", "max_steps=6"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(["apples", "pears", "plums"]):
        write_pictures(tmp_path / "fruit" / name, count=20 + 10 * number, seed=number)
    return tmp_path / "fruit"


def test_preview_shows_the_data_as_the_run_will_see_them(
    root: Path,
    train_here: Callable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = []
    inputs = VAETrainer.inputs

    def recorded_inputs(trainer: VAETrainer, batch: Any) -> torch.Tensor:
        seen.append(inputs(trainer, batch))
        return seen[-1]

    monkeypatch.setattr(VAETrainer, "inputs", recorded_inputs)
    augmented = ["augment.flip=true", "augment.crop=2"]
    gray = [*COMMAND, f"dataset.root={root}", "dataset.channels=1", *augmented]
    folder = train_here(*gray, "preview=true", folder="preview")
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert drawn == {"data.png", "data.csv", "preview.png", "preview.csv"}
    assert list(folder.iterdir()) == [folder / "figures"]
    assert "fruit: 90 images of shape (1, 16, 16)" in caplog.text
    assert "apples 20, pears 30, plums 40" in caplog.text
    train_here(*gray)
    assert torch.equal(seen[0], seen[1]) and set(seen[0].unique().tolist()) == {0.0, 1.0}
    train_here(*COMMAND, f"dataset.root={root}", "max_steps=1", folder="coloured")
    assert len(seen[-1].unique()) > 100  # colours are not binarised


def test_from_a_folder_to_figures(
    root: Path, train_here: Callable, infer_here: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    folder = train_here(*COMMAND, f"dataset.root={root}")
    trained = summary(folder)
    assert trained["status"] == "finished" and len(trained["data"]) == 8
    infer_here(f"checkpoint={folder}", f"dataset.root={root}", "n=4")
    results = Path("results/run")
    assert Image.open(results / "reconstructions.png").size[0] > 500
    with open(results / "reconstructions.csv", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} <= {"apples", "pears", "plums"}
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["elbo"].items() <= trained["metrics"]["test"].items()
    assert "not the images" not in caplog.text

    write_pictures(root / "plums", count=1, seed=99)
    infer_here(f"checkpoint={folder}", f"dataset.root={root}", "figures=[reconstructions]")
    assert "not the images that" in caplog.text


@pytest.mark.parametrize(
    ("options", "missing"), [(["dataset.root=nowhere"], "nowhere"), ([], "data/pictures")]
)
def test_without_the_folder_what_needs_it_is_skipped(
    options: list[str],
    missing: str,
    root: Path,
    train_here: Callable,
    infer_here: Callable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = train_here(*COMMAND, f"dataset.root={root}")
    infer_here(f"checkpoint={folder}", "n=4", *options)
    message = f"latent_grid, latent_scatter, latent_atlas: dataset.root={missing}: no such"
    assert message in caplog.text


def test_a_run_goes_on_only_with_the_images_that_it_began_with(
    root: Path, train_here: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = VAETrainer.update

    def stop(self: VAETrainer, batch: Any, step: int, total: int) -> object:
        if step == 4:
            raise MemoryError
        return update(self, batch, step, total)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(VAETrainer, "update", stop)
        train_here(*COMMAND, f"dataset.root={root}", "checkpoint_every=2")
    write_pictures(root / "plums", count=1, seed=99)
    with pytest.raises(UserError, match="began with other data"):
        train_here(*COMMAND, f"dataset.root={root}")
    write_pictures(root / "plums", count=1, seed=2)
    folder = train_here(*COMMAND, f"dataset.root={root}")
    assert summary(folder)["status"] == "finished"


def test_an_augmented_run_resumes_exactly_and_differs(
    root: Path, train_resumed: Callable, train_here: Callable
) -> None:
    command = [*COMMAND, f"dataset.root={root}"]
    augmented = ["augment.flip=true", "augment.crop=1"]
    moved = train_resumed(*command, "checkpoint_every=2", *augmented, stops=[3])
    assert not same(weights(moved), weights(train_here(*command, folder="plain")))
