"""Runs that score samples as they train and select by a score; checkpoints compared by metrics."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, rows, summary, train_in, write_pictures

from genmodels import safetensors_io
from genmodels.trainers.progress import BestEvaluation
from genmodels.user_errors import UserError

SMALL_GAN = ("model=gan", "model.generator_width=4", "model.discriminator_width=4")


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_in(tmp_path_factory.mktemp("vae") / "vae", cache, *SMALL, "max_steps=20")


def pictures(tmp_path: Path) -> list[str]:
    """Settings for a data set of forty pictures."""
    write_pictures(tmp_path / "pictures", count=40)
    root = f"dataset.root={tmp_path / 'pictures'}"
    return ["dataset=folder", root, "dataset.side=8", "batch_size=4"]


@pytest.mark.parametrize(
    ("name", "values", "best"), [("elbo", [-3, -1, -1, -2], 2), ("fd", [3.0, 1.0, 1.0, 2.0], 2)]
)
def test_the_best_evaluation_is_the_first_of_equals(
    name: str, values: list[float], best: int
) -> None:
    """Also of a run that went on, whose rows are known; what is no number is never the best."""
    rows = [{"step": step + 1, "validation": {name: value}} for step, value in enumerate(values)]
    evaluations = BestEvaluation(name, [])
    kept = [evaluations.add(row["step"], row["validation"]) for row in rows]
    assert kept == [True, True, False, False] and evaluations.step == best
    resumed = BestEvaluation(name, [{"step": 1, "train": {}}, *rows[:3]])
    assert not resumed.add(4, {name: values[3]}) and resumed.step == best
    assert not resumed.add(5, {name: float("nan")}) and not resumed.add(6, {name: None})
    assert not BestEvaluation(None, []).add(1, {})


def test_training_keeps_the_best_evaluation(train_here: Callable[..., Path]) -> None:
    """At a learning rate at which it goes up and down; final numbers are of the kept weights."""
    settings = (*SMALL, "max_steps=12", "evaluate_every=2", "lr=1", "features=pixels")
    last = train_here(*settings, folder="last")
    validation = {row["step"]: row["validation"] for row in rows(last) if "validation" in row}
    assert all({"elbo", "fd", "kid"} <= numbers.keys() for numbers in validation.values())
    test_elbos = {summary(last)["metrics"]["test"]["elbo"]}
    for name, best in (("fd", min), ("elbo", max)):
        run = train_here(*settings, f"select={name}", folder=name)
        step = best(validation, key=lambda step: validation[step][name])
        _, metadata = safetensors_io.load(run / "model.safetensors")
        assert metadata["about"]["step"] == step == summary(run)["selected"]["step"]
        metrics = summary(run)["metrics"]
        assert metrics["validation"]["elbo"] == validation[step]["elbo"]
        assert training_rows(run) == training_rows(last)
        test_elbos.add(metrics["test"]["elbo"])
    assert len(test_elbos) > 1


def training_rows(run: Path) -> list[dict]:
    return [row for row in rows(run) if "train" in row]


def test_selection_survives_a_stop(train_resumed: Callable[..., Path]) -> None:
    scores = ("features=pixels", "select=kid", "lr=0.3")
    run = train_resumed(*SMALL, "max_steps=10", "evaluate_every=3", *scores, stops=(4, 7))
    assert "selected" in summary(run)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model=gan", "select=elbo"], "select=elbo: must be one of fd, kid, null for a Generator"),
        (["model=classifier", "select=fd"], "select=fd: must be one of .*null for a Classifier"),
        (["model=classifier", "features=pixels"], "features=pixels: must be null for a Classifier"),
        (
            [*SMALL, "features=pixel"],
            "features=pixel: must be classifier, pixels or inception or null",
        ),
    ],
)
def test_what_cannot_be_selected_is_refused(
    settings: list[str], message: str, train_here: Callable[..., Path]
) -> None:
    with pytest.raises(UserError, match=message):
        train_here(*settings)


def test_too_few_validation_images_are_refused_before_the_first_step(
    train_here: Callable[..., Path], tmp_path: Path
) -> None:
    message = "features=pixels: must be left out with .* validation images, which are too few"
    with pytest.raises(UserError, match=message):
        train_here(*SMALL_GAN, *pictures(tmp_path), "features=pixels")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def read_metrics(name: str) -> dict:
    """Those that were measured last, whatever the options."""
    files = (Path("results") / name).glob("metrics*.json")
    newest = max(files, key=lambda path: path.stat().st_mtime_ns)
    return json.loads(newest.read_text())


def test_several_checkpoints_in_one_table(
    vae: Path,
    train_here: Callable[..., Path],
    infer_here: Callable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gan = train_here(*SMALL_GAN, "max_steps=2", folder="gan")
    metrics = "metrics=[fd,kid,prdc,memorisation]"
    command = ("figures=[]", "features=pixels", "samples=300", metrics)
    caplog.clear()
    infer_here(f"checkpoint=[{vae},{gan}]", *command)
    table = caplog.text.split("metric ")[-1]
    names = ("vae", "split", "test", "gan", "fd.fd", "kid.floor", "prdc.recall")
    for name in (*names, "memorisation.copies"):
        assert name in table
    assert len(list(Path("results").glob("comparison-*.csv"))) == 1
    beside_another = read_metrics("gan")
    assert beside_another["time"].keys() == {"fd", "kid", "prdc", "memorisation"}
    assert beside_another["seed"] == 0
    infer_here(f"checkpoint={gan}", *command)
    alone = read_metrics("gan")
    assert {**alone, "time": None} == {**beside_another, "time": None}  # of the same noise


def test_metrics_are_measured_on_the_split_that_was_asked_for(
    vae: Path, infer_here: Callable
) -> None:
    for split in ("validation", "test"):
        infer_here(f"checkpoint={vae}", "figures=[]", "metrics=[elbo]", f"split={split}")
        metrics = read_metrics("vae")
        assert metrics["split"] == split
        assert metrics["elbo"]["elbo"] == summary(vae)["metrics"][split]["elbo"]


def test_checkpoints_that_cannot_be_compared_are_refused(
    vae: Path, train_here: Callable[..., Path], infer_here: Callable, tmp_path: Path
) -> None:
    other = train_here(*SMALL_GAN, *pictures(tmp_path), "max_steps=1")
    with pytest.raises(UserError, match="was trained on other data than"):
        infer_here(f"checkpoint=[{vae},{other}]", "figures=[]", "metrics=all")
    with pytest.raises(UserError, match="two of them have the same name"):
        copied = shutil.copytree(vae, tmp_path / "copy")
        infer_here(f"checkpoint=[{vae},{copied}]", "figures=[]", "metrics=all")


def test_too_few_samples(vae: Path, infer_here: Callable, caplog: pytest.LogCaptureFixture) -> None:
    """A metric is refused if it was asked for by name, else skipped."""
    command = (f"checkpoint={vae}", "figures=[]", "features=pixels", "samples=20")
    message = "samples=20: must be more than 64, of real images too, for a Frechet"
    with pytest.raises(UserError, match=message):
        infer_here(*command, "metrics=[fd]")
    infer_here(*command)
    assert "skipped metrics fd: samples=20: must be more than 64" in caplog.text
    assert "kid" in read_metrics("vae")
