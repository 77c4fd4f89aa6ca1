"""wandb as a mirror: offline it has everything, and whatever goes wrong with it, the run is as without it."""

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import wandb
from conftest import SMALL, rows, same, summary, weights

from genmodels import config
from genmodels.tracking import flatten

OPTIONS = [*SMALL, "max_steps=6", "evaluate_every=3"]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")


def test_offline_runs_are_kept_and_change_nothing(train_here: Callable) -> None:
    plain = train_here(*OPTIONS, folder="plain")
    tracked = train_here(*OPTIONS, "wandb.mode=offline", "wandb.tags=[a,b]", "wandb.group=g", folder="tracked")
    assert same(weights(plain), weights(tracked)) and rows(plain) == rows(tracked)
    assert "wandb" not in {path.name for path in plain.iterdir()}
    (offline,) = (tracked / "wandb").glob("offline-run-*")
    assert offline.name.endswith(summary(tracked)["wandb_id"])
    shown = subprocess.run([str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--summary", "--json",
                            str(offline)], capture_output=True, text=True, check=True).stdout
    for word in ("validation/elbo", "train/distortion", "metrics/test/elbo", "samples"):
        assert word in shown, shown


@pytest.mark.parametrize("fault", ["init", "log", "finish"])
def test_a_failing_wandb_costs_a_warning(fault: str, train_here: Callable, monkeypatch: pytest.MonkeyPatch,
                                         caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("wandb is broken")

    plain = train_here(*OPTIONS, folder="plain")
    monkeypatch.setattr(wandb if fault == "init" else wandb.Run, fault, broken)
    tracked = train_here(*OPTIONS, "wandb.mode=offline", folder="tracked")
    assert same(weights(plain), weights(tracked)) and rows(plain) == rows(tracked)
    assert summary(tracked)["status"] == "finished"
    assert caplog.text.count("wandb: mirroring ended (RuntimeError: wandb is broken)") == 1


def test_online_without_key_or_network_goes_offline(train_here: Callable, monkeypatch: pytest.MonkeyPatch,
                                                    caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")     # nobody listens there
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    start = time.perf_counter()
    folder = train_here(*OPTIONS, "wandb.mode=online", "wandb.timeout=3")
    assert time.perf_counter() - start < 30
    assert summary(folder)["status"] == "finished"
    assert "wandb:" in caplog.text


def test_a_hanging_wandb_is_left_behind(train_here: Callable, monkeypatch: pytest.MonkeyPatch,
                                        caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **_: release.wait(60))
    folder = train_here(*OPTIONS, "wandb.mode=offline", "wandb.timeout=0.5")
    release.set()
    assert summary(folder)["status"] == "finished" and "not done after 0.5 s" in caplog.text


def test_the_run_id_is_kept_for_resume(train_here: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from genmodels.trainers.vae import VAETrainer
    update = VAETrainer.update

    def failing(self: VAETrainer, batch: object, step: int, total: int) -> dict:
        if step == 4:
            raise RuntimeError
        return update(self, batch, step, total)     # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Exception, match="RuntimeError"):
        patch.setattr(VAETrainer, "update", failing)
        train_here(*OPTIONS, "wandb.mode=offline")
    first = summary(Path("run"))
    train_here(*OPTIONS, "wandb.mode=offline")
    assert summary(Path("run"))["wandb_id"] == first["wandb_id"]
    assert len(list(Path("run/wandb").glob(f"offline-run-*-{first['wandb_id']}"))) >= 1


@pytest.mark.parametrize(("setting", "variable", "expected"), [
    (None, None, None), (None, "offline", "offline"), (None, "disabled", None), ("online", "offline", "online"),
    ("disabled", "online", None)])
def test_mode(setting: str | None, variable: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    assert config.wandb_mode(setting) == expected


def test_flatten() -> None:
    assert flatten({"step": 1, "validation": {"elbo": -2.0}}) == {"step": 1, "validation/elbo": -2.0}


def test_rows_are_strict_json(tmp_path: Path) -> None:
    from genmodels.tracking import Run
    with Run(tmp_path) as run:
        run.row(1, {"train": {"loss": float("nan")}})
        logging.getLogger("genmodels").warning("hello")
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "train": {"loss": None}}
    assert "WARNING hello" in (tmp_path / "train.log").read_text()
