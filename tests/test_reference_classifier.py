"""The classifier by which metrics recognise classes: trained once, in this process, found again."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL, summary, train_in

from genmodels import checkpoint, reference_classifier, run_files, safetensors_io
from genmodels.data import datasets
from genmodels.data.images import ImageData, ImageSpec
from genmodels.metrics.predictions import predict
from genmodels.reference_classifier import ReferenceClassifier

TINY = ("model=classifier", "model.widths=[8,16]", "model.hidden=32", "max_steps=1")


@pytest.fixture(scope="module")
def digits(cache: Path) -> ImageData:
    return datasets.digits(cache=str(cache)).load()


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_in(tmp_path_factory.mktemp("vae") / "vae", cache, *SMALL, "max_steps=1")


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_classifier, "RECIPE", TINY)


@pytest.mark.usefixtures("tiny_recipe")
def test_a_missing_classifier_is_trained_once_and_found_again(
    vae: Path,
    infer_here: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = tmp_path / "my cache"
    command = (f"checkpoint={vae}", "figures=[]", "samples=100", f"dataset.cache='{cache}'")
    infer_here(*command)
    reason = "no reference classifier of these data is trained yet; metrics=all trains one"
    assert f"skipped metrics class_shares: {reason}" in caplog.text
    assert f"skipped metrics fd, kid, prdc: {reason}" in caplog.text

    infer_here(*command, "metrics=[class_shares]")
    (folder,) = (path for path in (cache / "classifiers").iterdir() if path.is_dir())
    assert summary(folder)["status"] == "finished" and summary(folder)["data"] in folder.name
    first = json.loads(Path("results/vae/metrics-samples100.json").read_text())["class_shares"]

    monkeypatch.setattr(ReferenceClassifier, "_train", None)
    infer_here(*command)
    again = json.loads(Path("results/vae/metrics-samples100.json").read_text())["class_shares"]
    shares = [share["samples"] for share in first["classes"].values()]
    assert again == first and sum(shares) == pytest.approx(1)
    crc = safetensors_io.load(folder / run_files.INFERENCE)[1]["crc32"]
    assert first["reference_crc32"] == f"{crc:08x}"


@pytest.mark.usefixtures("tiny_recipe")
def test_two_at_once_train_one_classifier(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, trained = ReferenceClassifier._train, []

    def counted(self: ReferenceClassifier) -> None:
        trained.append(self.folder)
        train(self)

    monkeypatch.setattr(ReferenceClassifier, "_train", counted)
    references = [ReferenceClassifier(digits, tmp_path) for _ in range(2)]
    assert references[0].folder == references[1].folder
    models = []
    threads = [
        threading.Thread(target=lambda each=each: models.append(each.load())) for each in references
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1 and len(models) == 2
    weights = [next(model.parameters()) for model in models]
    assert torch.equal(weights[0], weights[1])


@pytest.mark.usefixtures("tiny_recipe")
def test_it_is_a_run_like_any_other(digits: ImageData, tmp_path: Path) -> None:
    reference = ReferenceClassifier(digits, tmp_path)
    assert not reference.is_trained and reference.load_if_trained() is None
    model = reference.load()
    assert reference.is_trained
    final = summary(reference.folder)["metrics"]["test"]
    assert predict(model, digits.test).numbers()["accuracy"] == final["accuracy"]
    _, about = checkpoint.open_run(reference.folder)
    assert about["choices"]["model"] == "classifier" and about["data"] == digits.checksum


@pytest.mark.usefixtures("tiny_recipe")
def test_its_recipe_learns_from_other_images(digits: ImageData, tmp_path: Path) -> None:
    reference = ReferenceClassifier(digits, tmp_path)
    few = digits.train.subset(400, torch.Generator().manual_seed(0))
    accuracy = predict(reference.train_on(few), digits.test).numbers()["accuracy"]
    assert accuracy > 0.5 and not reference.is_trained


def test_which_classifier(
    digits: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other data and another recipe have another one; data without labels have none."""
    name = ReferenceClassifier(digits, tmp_path).folder.name
    other_data = replace(digits, checksum="1234abcd")
    assert ReferenceClassifier(other_data, tmp_path).folder.name != name
    monkeypatch.setattr(reference_classifier, "RECIPE", TINY)
    assert ReferenceClassifier(digits, tmp_path).folder.name != name
    unlabelled = replace(digits, spec=ImageSpec("faces", (1, 28, 28)))
    with pytest.raises(ValueError, match="faces has no labels"):
        ReferenceClassifier(unlabelled, tmp_path)
