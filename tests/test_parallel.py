"""Two processes that train one model, as torchrun starts them, end where one process does."""

import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from _pytest.mark import ParameterSet
from conftest import ROOT, SMALL, summary, train_in, trained_states, weights

from genmodels import hardware
from genmodels.data.cached_dataset import CachedDataset
from genmodels.data.images import Batch, ImageData
from genmodels.run_files import read_rows
from genmodels.sweeps import check_jobs
from genmodels.trainers.vae import VAETrainer
from genmodels.user_errors import UserError

Work = Callable[[int], object]
TrainShared = Callable[..., tuple[list[int], str]]

LENGTH = ["max_steps=6", "evaluate_every=3", "checkpoint_every=2", "precision=fp32"]
# Adam divides by the gradient's size: that of a bias before BatchNorm is rounding errors alone
SGD = ["optimizer=sgd", "lr=0.001"]


def in_processes(count: int, work: Work, log: Path) -> list[int]:
    """Do some work in so many processes, with torchrun's environment; returns exit statuses.

    They are forks of this one, which has imported everything. `work` is called with their rank.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1"}
    processes = []
    for rank in range(count):
        variables = world | {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port}
        processes.append(_fork(variables, lambda rank=rank: work(rank), log))
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def _fork(variables: dict[str, object], work: Callable[[], object], log: Path) -> int:
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        with open(log, "a", buffering=1) as file:
            sys.stdout = sys.stderr = file
            os.environ |= {key: str(value) for key, value in variables.items()}
            work()
            status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException as error:
        with open(log, "a") as file:
            print(f"{type(error).__name__}: {error}", file=file)
    finally:
        os._exit(status)


@pytest.fixture
def train_shared(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[list[int], str]]:
    """Train with two processes in the folder "shared"; returns exit statuses, and what they say.

    `before` is called in each of them with its rank.
    """
    monkeypatch.chdir(tmp_path)

    def call(*overrides: str, before: Work = lambda _: None) -> tuple[list[int], str]:
        def work(rank: int) -> None:
            before(rank)
            train_in(tmp_path / "shared", cache, *overrides)

        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        return in_processes(2, work, log), log.read_text()

    return call


@pytest.fixture
def both(
    tmp_path: Path, cache: Path, train_shared: Callable[..., tuple[list[int], str]]
) -> Callable[..., tuple[Path, Path]]:
    """Train alone, and with two processes; returns both run folders."""

    def call(*overrides: str) -> tuple[Path, Path]:
        train_in(tmp_path / "alone", cache, *overrides)
        statuses, said = train_shared(*overrides)
        assert statuses == [0, 0], said
        return tmp_path / "alone", tmp_path / "shared"

    return call


SMALL_GAN = ["model.generator_width=4", "model.discriminator_width=4", "batch_size=8", *SGD]
SLOW = ("hidden labels", "GAN with penalties", "several samples")
CASES = {
    "VAE": [*SMALL, "kl_weight=3"],
    "binarised and shifted, with BatchNorm": [
        "model=vae",
        "model.widths=[4,4]",
        "model.hidden=8",
        "model.norm=batch",
        "augment.crop=2",
        "batch_size=8",
        *SGD,
    ],
    "a limit to the KL": [*SMALL, "objective=free_bits", "objective.nats_per_dimension=0.3"],
    "a limit to the distortion": [*SMALL, "objective=geco"],
    "several samples": [*SMALL, "objective=iwae"],
    "the batch's error as variance": [*SMALL, "likelihood=gaussian_optimal"],
    "hidden labels": [*SMALL, "model=cvae_mlp", "model.label_dropout=0.3"],
    "GAN with penalties": ["model=gan", *SMALL_GAN, "diff_augment.translation=0.2"],
    "GAN with BatchNorm": [
        "model=cgan",
        *SMALL_GAN,
        "adversarial_loss=non_saturating",
        "penalty=none",
        "model.generator_norm=batch",
        "model.discriminator_norm=batch",
        "trainer.instance_noise=0.1",
        "diff_augment.cutout=0.3",
    ],
}


def quick_and_slow() -> list[ParameterSet]:
    """The cases; those that take longest are marked as slow."""
    cases = []
    for name, overrides in CASES.items():
        marks = [pytest.mark.slow] if name in SLOW else []
        cases.append(pytest.param(overrides, id=name, marks=marks))
    return cases


@pytest.mark.parametrize("overrides", quick_and_slow())
def test_two_processes_train_what_one_does(
    overrides: Sequence[str], both: Callable[..., tuple[Path, Path]]
) -> None:
    alone, shared = both(*overrides, *LENGTH)
    assert_nearly_same_run(alone, shared)
    assert summary(shared)["processes"] == 2


def assert_nearly_same_run(alone: Path, shared: Path) -> None:
    """Both came to the same, but for the order in which floating-point numbers are added."""
    torch.testing.assert_close(weights(shared), weights(alone), rtol=1e-3, atol=1e-5)
    for one, two in zip(read_rows(alone), read_rows(shared), strict=True):
        assert one["step"] == two["step"]
        for name, value in one.get("train", {}).items():
            assert two["train"][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    assert summary(alone)["status"] == summary(shared)["status"] == "finished"


def test_a_signal_to_one_process_saves_and_one_process_goes_on(
    tmp_path: Path, cache: Path, train_shared: TrainShared, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = VAETrainer.update

    def signalled(self: VAETrainer, batch: Batch, step: int, total: int) -> dict:
        if step == 2 and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, batch, step, total)

    with monkeypatch.context() as patch:
        patch.setattr(VAETrainer, "update", signalled)
        statuses, said = train_shared(*SMALL, *LENGTH)
    assert statuses == [128 + signal.SIGTERM] * 2, said
    assert summary(tmp_path / "shared")["status"] == "interrupted"
    assert trained_states(tmp_path / "shared")["step"] == 3
    train_in(tmp_path / "shared", cache, *SMALL, *LENGTH)
    train_in(tmp_path / "alone", cache, *SMALL, *LENGTH)
    assert_nearly_same_run(tmp_path / "alone", tmp_path / "shared")


def test_a_loss_that_is_not_finite_in_one_process_stops_both(
    tmp_path: Path, train_shared: TrainShared, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = VAETrainer.update

    def poisoned(self: VAETrainer, batch: Batch, step: int, total: int) -> dict:
        if step == 3 and os.environ["RANK"] == "1":
            batch.images[0, 0, 0, 0] = math.nan
        return update(self, batch, step, total)

    monkeypatch.setattr(VAETrainer, "update", poisoned)
    statuses, said = train_shared(*SMALL, *LENGTH, "trainer.binarise=false")
    assert statuses == [1, 1] and said.count("step 4: loss is not finite") == 2
    assert summary(tmp_path / "shared")["status"] == "failed"
    assert trained_states(tmp_path / "shared")["step"] == 2


def test_a_process_that_dies_ends_the_other_with_a_message(
    tmp_path: Path, train_shared: TrainShared, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = VAETrainer.update

    def dying(self: VAETrainer, batch: Batch, step: int, total: int) -> dict:
        if step == 3 and os.environ["RANK"] == "1":
            os._exit(9)
        return update(self, batch, step, total)

    monkeypatch.setattr(VAETrainer, "update", dying)
    statuses, said = train_shared(*SMALL, *LENGTH)
    assert statuses == [1, 9] and "another process of this run cannot be reached" in said
    assert summary(tmp_path / "shared")["status"] == "failed"
    assert trained_states(tmp_path / "shared")["step"] == 2


def test_what_the_first_process_refuses_all_refuse(
    tmp_path: Path, cache: Path, train_shared: TrainShared
) -> None:
    train_in(tmp_path / "shared", cache, *SMALL, "max_steps=1")
    statuses, said = train_shared(*SMALL, "max_steps=1", "lr=0.1")
    assert statuses == [1, 1] and said.count("holds a run with other settings: lr") == 2
    assert summary(tmp_path / "shared")["status"] == "finished"
    assert train_shared(*SMALL, "max_steps=1")[0] == [0, 0]  # shows that it is finished


def test_processes_with_other_data_are_refused(
    tmp_path: Path, train_shared: TrainShared, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = CachedDataset.load

    def others(self: CachedDataset) -> ImageData:
        return replace(load(self), checksum=os.environ["RANK"])

    monkeypatch.setattr(CachedDataset, "load", others)
    statuses, said = train_shared(*SMALL)
    assert statuses == [1, 1] and said.count("have read different data") == 2
    assert not (tmp_path / "shared/config.yaml").exists()


def test_processes_with_other_settings_are_refused(
    tmp_path: Path, train_shared: TrainShared, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_this_machine(*_: object) -> str:
        return ("fp32", "bf16")[int(os.environ["RANK"])]

    monkeypatch.setattr(hardware, "choose_precision", of_this_machine)
    statuses, said = train_shared(*SMALL)
    assert statuses == [1, 1] and said.count("have different settings") == 2
    assert not (tmp_path / "shared/config.yaml").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=33"], "batch_size=33: must be a multiple of 2, the number of processes"),
        (["preview=true"], "preview=true: must be asked of one process"),
        (["doctor=true"], "doctor=true: must be asked of one process"),
    ],
)
def test_what_processes_cannot_share_is_refused(
    overrides: list[str],
    message: str,
    train_here: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError) as refused:
        train_here(*SMALL, *overrides)
    assert str(refused.value).startswith(message)


def test_sweeps_and_inference_are_of_one_process(
    infer_here: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"^-m: torchrun trains one run"):
        check_jobs(["-m", "seed=0,1"])
    with pytest.raises(ValueError, match=r"^infer\.py works in one process"):
        infer_here("checkpoint=runs/NAME")


@pytest.mark.slow
def test_the_real_command(tmp_path: Path, cache: Path) -> None:
    """torchrun gets a SIGTERM, and then goes on to the end."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"),
        *("--local-addr", "127.0.0.1", str(ROOT / "train.py")),
        *(*SMALL, "max_steps=800", "evaluate_every=40", "figures=[]", f"dataset.cache={cache}"),
        f"hydra.run.dir={tmp_path}/run",
    ]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **output) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "step 80 of 800" in line:
                process.send_signal(signal.SIGTERM)
    printed = "".join(lines)
    assert process.returncode != 0, printed
    assert summary(tmp_path / "run")["status"] == "interrupted", printed
    stopped_at = trained_states(tmp_path / "run")["step"]
    assert 80 <= stopped_at < 800
    done = subprocess.run(command, cwd=tmp_path, check=False, **output)
    assert done.returncode == 0, done.stdout
    assert f"resuming at step {stopped_at}" in done.stdout
    assert summary(tmp_path / "run")["status"] == "finished"
