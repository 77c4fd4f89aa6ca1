"""Two processes that train one model, as torchrun starts them, end where one process does."""

import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from conftest import SMALL, train_in
from safetensors.torch import load_file

from genmodels.run_files import INFERENCE, read_rows, read_summary

GAN = ["model=gan", "model.generator_width=4", "model.discriminator_width=4", "batch_size=16"]
LENGTH = ["max_steps=6", "evaluate_every=3", "checkpoint_every=2", "precision=fp32"]
Work = Callable[[int], object]


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
def both(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path, Path]]:
    """Train alone, and with two processes; returns both run folders."""
    monkeypatch.chdir(tmp_path)

    def call(*overrides: str) -> tuple[Path, Path]:
        alone, shared, log = tmp_path / "alone", tmp_path / "shared", tmp_path / "log"
        train_in(alone, cache, *overrides)
        statuses = in_processes(2, lambda _: train_in(shared, cache, *overrides), log)
        assert statuses == [0, 0], log.read_text()
        return alone, shared

    return call


CASES = {
    "vae": [*SMALL, "batch_size=32"],
    "convolutional vae": ["model=vae", "model.widths=[4,4]", "model.hidden=8", "batch_size=8"],
}


@pytest.mark.parametrize("overrides", CASES.values(), ids=CASES.keys())
def test_two_processes_train_what_one_does(
    overrides: Sequence[str], both: Callable[..., tuple[Path, Path]]
) -> None:
    alone, shared = both(*overrides, *LENGTH)
    expected, found = load_file(alone / INFERENCE), load_file(shared / INFERENCE)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    for one, two in zip(read_rows(alone), read_rows(shared), strict=True):
        assert one["step"] == two["step"]
        for name, value in one.get("train", {}).items():
            assert two["train"][name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    assert read_summary(shared)["processes"] == 2
    assert read_summary(shared)["status"] == "finished"
