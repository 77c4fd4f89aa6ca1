"""What the machine is asked for: memory, threads beside other processes."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from conftest import SMALL

from genmodels import hardware
from genmodels.settings import read_settings
from genmodels.trainers.vae import VAETrainer


def test_the_memory_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "CGROUP_LIMIT", tmp_path / "memory.max")
    whole = hardware.memory()
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware.memory() == whole > 2**28
    (tmp_path / "memory.max").write_text("1000000\n")
    assert hardware.memory() == 1_000_000


@pytest.fixture
def own_threads() -> Iterator[None]:
    """Give torch the threads back that it had."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def four_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_threads: None
) -> Callable[..., None]:
    """Four cores, of which each is idle for its own share of the time."""
    times = tmp_path / "stat"
    monkeypatch.setattr(hardware, "PROCESSOR_TIMES", times)
    monkeypatch.setattr(hardware, "MOST_THREADS", 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def observe(*idle_shares: float) -> None:
        def write(shares: tuple[float, ...]) -> None:
            ticks = [round(share * 100 * hardware.OBSERVED_SECONDS) for share in shares]
            lines = [f"cpu{core} 9 0 9 {500 + idle} 7 0 0 0" for core, idle in enumerate(ticks)]
            times.write_text("\n".join(["cpu  36 0 36 2000 28 0 0 0", *lines, "intr 1 2"]))

        write((0.0,) * 4)
        monkeypatch.setattr("time.sleep", lambda _: write(idle_shares))

    return observe


@pytest.mark.parametrize(
    ("idle_shares", "threads"),
    [((1, 1, 1, 1), 4), ((1, 0.9, 0.6, 0.0), 3), ((0.1, 0.3, 1, 0), 1), ((0, 0, 0, 0), 1)],
)
def test_threads_are_chosen_by_the_idle_cores(
    idle_shares: tuple[float, ...], threads: int, four_cores: Callable[..., None]
) -> None:
    four_cores(*idle_shares)
    assert hardware.choose_threads(None) == threads


def test_a_wish_is_followed(
    four_cores: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    four_cores(0, 0, 0, 0)
    assert hardware.choose_threads(3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert hardware.choose_threads(None) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")  # of nested loops: OpenMP's own affair
    assert hardware.choose_threads(None) == 1


@pytest.mark.skipif(not hardware.PROCESSOR_TIMES.is_file(), reason="a file of Linux")
def test_this_machine_says_which_cores_are_idle() -> None:
    assert 0 <= hardware.busy_cores() <= hardware.cores()


def test_a_run_goes_on_with_the_threads_it_began_with(
    train_here: Callable[..., Path], own_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of threads may change the last bits."""
    options = [*SMALL, "max_steps=4"]
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(VAETrainer, "update", Mock(side_effect=MemoryError))
        train_here(*options, "threads=2")
    assert read_settings(train_here(*options))["threads"] == torch.get_num_threads() == 2
    assert read_settings(train_here(*options, "overwrite=true"))["threads"] == 1  # of these tests
