"""Which jobs a sweep has; and sweeps by the real command, killed in the middle and repeated."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, SMALL

from genmodels.composition import compose_config
from genmodels.sweeps import SweepFolder, check_jobs  # finds the plugin

from hydra_plugins.genmodels import FractionSweeper, LeaveOneOutSweeper, PointsSweeper  # isort: skip
from genmodels.user_errors import UserError

SWEEP = [
    sys.executable,
    str(ROOT / "train.py"),
    "-m",
    *SMALL,
    "max_steps=60",
    "evaluate_every=10",
    "seed=0,1,2",
]


def command(folder: Path, cache: Path, *overrides: str) -> list[str]:
    return [*SWEEP, f"hydra.sweep.dir={folder}", f"dataset.cache={cache}", *overrides]


def table(folder: Path) -> list[dict[str, str]]:
    """report.csv without what the clock says."""
    with open(folder / "report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds", None)
    return rows


def jobs(
    arguments: Sequence[str], kind: type[PointsSweeper] = FractionSweeper, **options: object
) -> list[list[str]]:
    """What a sweeper launches."""
    launched: list[list[str]] = []

    def launch(overrides: list[list[str]], initial_job_idx: int) -> list:
        launched.extend(overrides)
        return [SimpleNamespace(return_value=None) for _ in overrides]

    sweeper = kind(**options)  # type: ignore[arg-type]
    sweeper.launcher = SimpleNamespace(launch=launch)
    sweeper.sweep(list(arguments))
    return launched


def test_the_fraction_sweeper_runs_each_point_with_every_seed() -> None:
    knobs = {"lr": "0.1,0.2", "model": "a,b", "model.widths": "[1,2],[3]"}
    found = jobs(["seed=0,1", "dataset=digits", "lr=0.3,0.4"], points=4, params=knobs)
    assert len(found) == 8 == len(set(map(tuple, found)))
    assert [job[-1] for job in found] == ["seed=0"] * 4 + ["seed=1"] * 4
    assert [job[:-1] for job in found[:4]] == [job[:-1] for job in found[4:]]
    assert all("dataset=digits" in job for job in found)
    for assignment in (
        "lr=0.3",
        "lr=0.4",
        "model=a",
        "model.widths=[1,2]",
    ):  # the command line's lr
        assert sum(assignment in job for job in found) == 4
    assert len(jobs(["lr=0.1,0.2", "model=a,b"], points=4)) == 4  # the whole grid
    with pytest.raises(UserError, match=r"hydra.sweeper.points=3: must be an integer >= 4"):
        jobs([], points=3, params=knobs)
    with pytest.raises(UserError, match=r"hydra.sweeper.points=many: must be an integer"):
        jobs([], points="many", params=knobs)


def test_fractions_of_higher_resolution() -> None:
    settings = [f"{name}=0,1" for name in ("a", "b", "c", "d", "e")]
    assert len(jobs(settings, points=16, resolution=5)) == 16
    mirrored = jobs([*settings, "seed=1"], points=12, resolution=4)
    assert len(mirrored) == 12 and mirrored[0][-1] == "seed=1"
    for setting in settings:
        assert sum(setting.replace("0,1", "0") in job for job in mirrored) == 6
    found = jobs([*settings, "x=1"], points=16, resolution=4, interacting=["b", "c", "e"])
    combinations = {(job[1], job[2], job[4]) for job in found}
    assert len(combinations) == 8  # all of the three settings


@pytest.mark.parametrize(
    ("points", "resolution", "levels", "message"),
    [
        (12, 6, "0,1", "resolution=6: must be 3, 4 or 5"),
        (12, "high", "0,1", "resolution=high: must be 3, 4 or 5"),
        (20, 4, "0,1,2", "resolution=4: must be 3 or 5 where a setting has over two values"),
        (13, 4, "0,1", "points=13: must be an even integer >= 8"),
        (10, 5, "0,1", "points=10: must be an integer >= 11"),
    ],
)
def test_fractions_that_cannot_be(
    points: int, resolution: object, levels: str, message: str
) -> None:
    settings = [f"{name}={levels}" for name in ("a", "b", "c", "d")]
    with pytest.raises(UserError) as caught:
        jobs(settings, points=points, resolution=resolution)
    assert str(caught.value).startswith(f"hydra.sweeper.{message}")


@pytest.mark.parametrize(
    ("resolution", "interacting", "message"),
    [
        (5, ["a"], r"interacting=\[a\]: needs hydra.sweeper.resolution=4"),
        (4, ["a", "f"], r"interacting=\[a,f\]: f is not among the settings: a, b, c, d"),
        (4, ["a", "b", "c", "d"], r"points=8: must be an even integer >= 14"),
    ],
)
def test_interactions_that_cannot_be(resolution: int, interacting: list[str], message: str) -> None:
    settings = [f"{name}=0,1" for name in ("a", "b", "c", "d")]
    with pytest.raises(UserError, match=f"^hydra.sweeper.{message}"):
        jobs(settings, points=8, resolution=resolution, interacting=interacting)


def test_each_change_is_left_out_in_turn() -> None:
    found = jobs(["a=0,1", "b=x", "c=u,v", "d=2,3", "seed=0,1"], LeaveOneOutSweeper)
    assert [job[-1] for job in found] == ["seed=0"] * 5 + ["seed=1"] * 5
    points = [" ".join(job[:-1]) for job in found[:5]]
    assert points == [
        "a=0 b=x c=u d=2",
        "a=1 b=x c=v d=3",
        "a=0 b=x c=v d=3",
        "a=1 b=x c=u d=3",
        "a=1 b=x c=v d=2",
    ]
    assert jobs(["a=0,1"], LeaveOneOutSweeper) == [["a=0"], ["a=1"]]
    with pytest.raises(UserError, match="a: must have two values, without and with the change"):
        jobs(["a=0,1,2"], LeaveOneOutSweeper)


def sweep_folder(*overrides: str) -> str:
    """Where a sweep by this command goes."""
    cfg = compose_config("train", [word.split(",")[0] for word in overrides])
    cfg.hydra.overrides.task = list(overrides)  # which compose itself refuses
    SweepFolder().on_multirun_start(cfg)
    assert cfg.hydra.overrides.hydra[-1] == f"hydra.sweep.dir={cfg.hydra.sweep.dir}"
    return str(cfg.hydra.sweep.dir)


def test_a_sweep_is_named_by_what_it_sweeps_and_what_not() -> None:
    name = sweep_folder("kl_weight=0,1", "seed=0,1")
    assert re.fullmatch(r"multirun/digits-vae-kl_weight-seed-[0-9a-f]{6}", name)
    assert name == sweep_folder("seed=0,1,2", "kl_weight=0,1,30", "device=cpu")
    assert name != sweep_folder("kl_weight=0,1", "seed=0,1", "lr=0.1")
    assert re.fullmatch(
        r"multirun/digits-kl_weight-model-[0-9a-f]{6}",
        sweep_folder("kl_weight=0,1", "model=vae,cvae"),
    )
    assert re.fullmatch(
        r"multirun/mnist-vae-study_vae_screening-seed-[0-9a-f]{6}",
        sweep_folder("experiment=study_vae_screening", "seed=0,1"),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "kl_weight=0,1,x"], "kl_weight=x: must be a number"),
        (["--multirun", "lr=0.1,0.2,-1", "seed=0,1"], "lr=-1: must be > 0"),
        (["-m", "model=vae_mlp,gan", "kl_weight=1"], "kl_weight: not a setting of model=gan"),
        (["-m", "model=vae,vea"], "model=vea: no such choice"),
        (["-m", "seed=range(0,3)", "model.latent_dim=0"], "model.latent_dim=0: must be"),
        (["-m", "lr=interval(-1,1)"], "lr=-1.0: must be > 0"),
        (
            ["-m", "trainer.binarise=false,true", "likelihood=bernoulli,gaussian"],
            "trainer.binarise=True: must be false for GaussianLikelihood",
        ),
        (["-m", "model.widths=[8],[0]", "model=vae_mlp"], "model.widths=[0]: must be"),
        (
            ["-m", "experiment=study_vae_screening", "model.norm=none,x"],
            "model.norm=x: must be one of none",
        ),
        (["-m", "hydra/sweeper=fraction", "hydra.sweeper.params={lr: '1,-1'}"], "lr=-1: must be"),
    ],
)
def test_a_sweep_is_checked_before_its_first_job(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_jobs(arguments)
    assert str(caught.value).startswith(message)


def test_what_a_sweep_may_hold_passes() -> None:
    check_jobs(["-m", *SMALL, "kl_weight=0,1", "seed=range(0,2)", "kl_schedule=linear,constant"])
    check_jobs(["-m", "experiment=study_vae_screening", "lr=0.1,0.2"])
    check_jobs(["kl_weight=x"])  # no sweep: the run says it


@pytest.mark.slow
def test_a_fraction_of_a_grid_by_the_real_command(tmp_path: Path, cache: Path) -> None:
    """Four of eight points, by the sweeper's own file; its report tells all three settings."""
    subprocess.run(
        [
            sys.executable,
            str(ROOT / "train.py"),
            "-m",
            *SMALL,
            "max_steps=6",
            "evaluate_every=6",
            "hydra/sweeper=fraction",
            "hydra.sweeper.points=4",
            "kl_schedule=constant,linear",
            "lr=0.001,0.004",
            "trainer.updater.ema_images=0,50000",
            f"hydra.sweep.dir={tmp_path / 'sweep'}",
            f"dataset.cache={cache}",
        ],
        check=True,
        capture_output=True,
    )
    runs = table(tmp_path / "sweep")
    assert len(runs) == 4
    assert {run["status"] for run in runs} == {"finished"}
    for name in ("kl_schedule", "lr", "trainer.updater.ema_images"):
        values = {run[name] for run in runs}
        assert len(values) == 2, name


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "killed_at"), [("basic", 3), ("joblib", 2)])  # checkpoints
def test_a_killed_sweep_ends_as_one_that_was_not(
    launcher: str, killed_at: int, tmp_path: Path, cache: Path
) -> None:
    """In its third job; side by side in its first two, which may outlive the sweep a while."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(
        command(whole, cache, f"hydra/launcher={launcher}"), check=True, capture_output=True
    )
    again = command(killed, cache, f"hydra/launcher={launcher}")
    with (
        open(tmp_path / "log", "w") as log,
        subprocess.Popen(again, stdout=log, stderr=log) as sweep,
    ):
        wait_for(
            lambda: len(list(killed.glob("*/checkpoint.pt"))) >= killed_at, sweep, tmp_path / "log"
        )
        sweep.kill()
    assert not (killed / "report.csv").exists()
    done = subprocess.run(again, check=True, capture_output=True, text=True)
    if launcher == "basic":
        assert done.stdout.count("is finished; overwrite=true starts over") >= 2
    assert table(killed) == table(whole) and len(table(whole)) == 3
    assert {row["status"] for row in table(killed)} == {"finished"}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pgrep") is None, reason="pgrep finds the job")
def test_a_preempted_job_is_queued_again_and_goes_on(tmp_path: Path, cache: Path) -> None:
    """By submitit's stand-in for Slurm: it saves, is queued again, and ends as if left alone."""
    whole, preempted = tmp_path / "whole", tmp_path / "preempted"
    options = ["hydra/launcher=submitit_local", "seed=0", "max_steps=400", "evaluate_every=200"]
    subprocess.run(command(whole, cache, *options), check=True, capture_output=True)
    with (
        open(tmp_path / "log", "w") as log,
        subprocess.Popen(command(preempted, cache, *options), stdout=log, stderr=log) as sweep,
    ):
        wait_for(lambda: list(preempted.glob("*/metrics.jsonl")), sweep, tmp_path / "log")
        for job in subprocess.run(
            ["pgrep", "-f", f"_submit {preempted}"], capture_output=True, text=True, check=True
        ).stdout.split():
            os.kill(int(job), signal.SIGUSR2)
        assert sweep.wait(120) == 0
    said = "".join(path.read_text() for path in preempted.glob(".submitit/*/*.out"))
    assert (
        "SIGUSR2: saving after this step" in said
        and "Requeued job" in said
        and "resuming at step" in said
    )
    assert table(preempted) == table(whole) and len(table(whole)) == 1


def wait_for(happened: Callable[[], object], sweep: subprocess.Popen, log: Path) -> None:
    """Until then the sweep must not end, nor take two minutes."""
    deadline = time.monotonic() + 120
    while not happened():
        assert sweep.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
