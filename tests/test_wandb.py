"""wandb as a mirror: offline it has everything, and its faults do not touch the run."""

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

from genmodels.run_folder import Run
from genmodels.trainers.vae import VAETrainer
from genmodels.wandb_mirror import choose_mode, choose_run_id, flatten

OPTIONS = [*SMALL, "max_steps=6", "evaluate_every=3"]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")


def records(offline: Path) -> dict[str, list[dict]]:
    """What a run left for wandb, by kind of record."""
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(offline)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    kept: dict[str, list[dict]] = {}
    for line in map(json.loads, shown.splitlines()):
        kept.setdefault(line["type"], []).append(line.get(line["type"], {}))
    return kept


def test_offline_runs_are_kept_and_change_nothing(train_here: Callable) -> None:
    plain = train_here(*OPTIONS, folder="plain")
    tracked = train_here(
        *OPTIONS,
        "wandb.mode=offline",
        "wandb.tags=[a,b]",
        "wandb.group=g",
        "wandb.notes=why",
        folder="tracked",
    )
    assert same(weights(plain), weights(tracked)) and rows(plain) == rows(tracked)
    assert "wandb" not in {path.name for path in plain.iterdir()}
    (offline,) = (tracked / "wandb").glob("offline-run-*")
    assert offline.name.endswith(summary(tracked)["wandb_id"])
    kept = records(offline)
    (run,) = kept["run"]
    assert (run["run_group"], run["tags"], run["job_type"], run["notes"]) == (
        "g",
        ["a", "b"],
        "train",
        "why",
    )
    assert (
        run["config"]["update"]["model"] == "vae_mlp"
        and run["config"]["update"]["model.latent_dim"] == 4
    )
    assert [(metric["glob_name"], metric["step_metric"]) for metric in kept["metric"]] == [
        ("*", "step")
    ]
    assert [end["exit_code"] for end in kept["exit"]] == [0]
    rows_of = [entry["item"] for entry in kept["history"]]
    assert [row["step"] for row in rows_of if "validation/elbo" in row] == [3, 6]
    assert [row["samples.caption"] for row in rows_of if "samples.caption" in row] == [
        "samples at step 3",
        "samples at step 6",
    ]
    final = {key: value for entry in kept["summary"] for key, value in entry["update"].items()}
    assert final["metrics/test/elbo"] == summary(tracked)["metrics"]["test"]["elbo"]
    assert (
        final["verdict/label"] == summary(tracked)["verdict"]["label"]
        and final["status"] == "finished"
    )


def test_a_finished_run_is_sent_to_wandb_once(train_here: Callable) -> None:
    """Also one of an agent's, whose id is new: or its sweep would be without that run."""
    folder = train_here(*OPTIONS)
    before = rows(folder)
    train_here(*OPTIONS, "wandb.mode=offline")
    train_here(*OPTIONS, "wandb.mode=offline")
    (offline,) = (folder / "wandb").glob("offline-run-*")
    assert rows(folder) == before and summary(folder)["wandb_id"] == offline.name.rpartition("-")[2]
    kept = records(offline)
    items = [entry["item"] for entry in kept["history"]]
    assert [item["step"] for item in items if "samples.caption" in item] == [3, 6]
    assert [item["validation/elbo"] for item in items if "validation/elbo" in item] == [
        row["validation"]["elbo"] for row in before if "validation" in row
    ]
    assert [end["exit_code"] for end in kept["exit"]] == [0] and kept["artifact"]


def test_under_an_agent_the_id_is_its_own(
    train_here: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    assert choose_run_id("before") == "before"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    assert choose_run_id("before") == choose_run_id(None) == "abc"


@pytest.mark.parametrize("fault", ["init", "log", "finish"])
def test_a_failing_wandb_costs_a_warning(
    fault: str,
    train_here: Callable,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("wandb is broken")

    plain = train_here(*OPTIONS, folder="plain")
    monkeypatch.setattr(wandb if fault == "init" else wandb.Run, fault, broken)
    tracked = train_here(*OPTIONS, "wandb.mode=offline", folder="tracked")
    assert same(weights(plain), weights(tracked)) and rows(plain) == rows(tracked)
    assert summary(tracked)["status"] == "finished"
    assert caplog.text.count("wandb: mirroring ended (RuntimeError: wandb is broken)") == 1


def test_online_without_key_or_network_goes_offline(
    train_here: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    start = time.perf_counter()
    folder = train_here(*OPTIONS, "wandb.mode=online", "wandb.timeout=3")
    assert time.perf_counter() - start < 30
    assert summary(folder)["status"] == "finished"
    assert "wandb:" in caplog.text


def test_a_hanging_wandb_is_left_behind(
    train_here: Callable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **_: release.wait(60))
    folder = train_here(*OPTIONS, "wandb.mode=offline", "wandb.timeout=0.5")
    release.set()
    assert summary(folder)["status"] == "finished" and "not done after 0.5 s" in caplog.text


def test_the_run_id_is_kept_for_resume(
    train_here: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = VAETrainer.update

    def failing(self: VAETrainer, batch: object, step: int, total: int) -> dict:
        if step == 4:
            raise RuntimeError
        return update(self, batch, step, total)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(VAETrainer, "update", failing)
        train_here(*OPTIONS, "wandb.mode=offline")
    first = summary(Path("run"))
    (offline,) = Path("run/wandb").glob("offline-run-*")
    assert [end["exit_code"] for end in records(offline)["exit"]] == [
        1
    ]  # which wandb shows as failed
    train_here(*OPTIONS, "wandb.mode=offline")
    assert summary(Path("run"))["wandb_id"] == first["wandb_id"]
    assert len(list(Path("run/wandb").glob(f"offline-run-*-{first['wandb_id']}"))) >= 1


@pytest.mark.parametrize(
    ("setting", "variable", "expected"),
    [
        (None, None, "disabled"),
        (None, "offline", "offline"),
        (None, "disabled", "disabled"),
        ("online", "offline", "online"),
        ("disabled", "online", "disabled"),
    ],
)
def test_mode(
    setting: str | None, variable: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    assert choose_mode(setting) == expected


def test_flatten() -> None:
    assert flatten({"step": 1, "validation": {"elbo": -2.0}}) == {
        "step": 1,
        "validation/elbo": -2.0,
    }


def test_rows_are_strict_json(tmp_path: Path) -> None:
    with Run(tmp_path) as run:
        run.log_row(1, {"train": {"loss": float("nan")}})
        logging.getLogger("genmodels").warning("hello")
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "train": {"loss": None},
    }
    assert "WARNING hello" in (tmp_path / "train.log").read_text()
