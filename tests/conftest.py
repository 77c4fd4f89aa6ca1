"""What the tests share: training and inference in this process on small data, and comparisons."""

import copy
import json
import os
import signal
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import reliability
import torch
from omegaconf import DictConfig
from PIL import Image
from safetensors.torch import load_file

import genmodels
from genmodels import checkpoint, inference
from genmodels.composition import (
    compose_config,
    group_choices,
    to_dict,
    without_hydra,
)
from genmodels.data.images import ImageSpec
from genmodels.job import Job
from genmodels.settings import ANY_SPEC, TrainSettings, resolve
from genmodels.trainers import loop
from genmodels.user_errors import as_user_error

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # one worker for each core
os.environ["OMP_NUM_THREADS"] = "1"  # also for the commands that tests run

# Trains in a second
SMALL = ["model=vae_mlp", "model.widths=[32]", "model.latent_dim=4", "batch_size=64"]


# Files whose tests fork their process, which autograd allows only before its first backward pass
FORKING_FILES = ("test_parallel", "test_kills")
# Files that take longest: they begin first, so that no worker waits for another in the end
LONG_FILES = ("test_training", "test_conf", "test_latent_maps", "test_models", "test_cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sizes = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[bool, bool, int]:
        name = item.path.stem
        return name not in FORKING_FILES, name not in LONG_FILES, -sizes[item.path]

    items.sort(key=place)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Of the session whose workers made the attempts, and found nothing wrong."""
    is_worker = hasattr(session.config, "workerinput")
    if session.config.option.markexpr == "soak" and exitstatus == 0 and not is_worker:
        reliability.write_page(session.config)


def composed(command: str, *overrides: str) -> DictConfig:
    """The configuration that a job of a command would get."""
    return without_hydra(with_hydra(command, *overrides))


def with_hydra(command: str, *overrides: str) -> DictConfig:
    """The same with Hydra's own node; composed once for equal overrides."""
    return copy.deepcopy(_composed_once(command, overrides))


@cache
def _composed_once(command: str, overrides: tuple[str, ...]) -> DictConfig:
    return compose_config(command, overrides)


def settings_of(*overrides: str, spec: ImageSpec = ANY_SPEC) -> TrainSettings:
    """The settings that train.py would resolve with data of this spec."""
    cfg = with_hydra("train", *overrides)
    choices = group_choices(cfg.hydra.runtime.choices)
    return resolve(without_hydra(cfg), choices, spec)


def idx_bytes(array: np.ndarray) -> bytes:
    """A file in MNIST's idx format: magic 0 0 8 (uint8) ndim, big-endian sizes, values."""
    return (
        struct.pack(">BBBB", 0, 0, 8, array.ndim)
        + struct.pack(f">{array.ndim}i", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


def write_pictures(folder: Path, count: int = 12, side: int = 16, seed: int = 0) -> None:
    """Coloured noise as png files."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")


def rows(folder: Path) -> list[dict]:
    """metrics.jsonl without what the wall clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("time", None)
    return lines


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def same(one: object, other: object) -> bool:
    """Bit-identical nested states."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(one[key], other[key]) for key in one)
        )
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return one == other


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def trained_states(folder: Path) -> dict:
    newest = checkpoint.latest(folder)
    assert newest is not None
    states = newest.states
    return {"step": newest.step, "trainer": states["trainer"], "means": states["means"]}


def assert_same_run(one: Path, other: Path) -> None:
    """Both left the same, bit for bit: states, weights for inference, rows, final metrics."""
    assert same(trained_states(one), trained_states(other)) and same(weights(one), weights(other))
    assert rows(one) == rows(other) and summary(one)["metrics"] == summary(other)["metrics"]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded data for the whole session."""
    return tmp_path_factory.mktemp("cache")


def train_in(folder: Path, cache: Path, *overrides: str, figures: bool = False) -> Path:
    """Train in this process, in this folder; returns it.

    figures: draw them at the end as every run does, which takes seconds, and on which no weight and
    no number depends; snapshots are drawn in any case.
    """
    here = [f"dataset.cache='{cache}'", f"hydra.run.dir='{folder}'"]
    if not figures:
        here.append("figures=[]")
    genmodels.train(*here, *overrides)
    return folder


@pytest.fixture
def train_here(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[..., Path]:
    """`train_in` a folder of `tmp_path`, from there."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")  # as Hydra's logging has it

    def call(*overrides: str, folder: str = "run", figures: bool = False) -> Path:
        return train_in(tmp_path / folder, cache, *overrides, figures=figures)

    return call


@pytest.fixture
def train_resumed(
    train_here: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """`train_here` without a stop, and with a SIGTERM in each of the steps `stops`, from 1.

    After each stop the same command runs again. Both must leave the same. Returns the folder of
    the run that was stopped.
    """
    reseed = loop.reseed

    def call(*overrides: str, stops: Sequence[int]) -> Path:
        whole = train_here(*overrides, folder="whole")
        for stop in stops:

            def interrupted(
                seed: int, stream: str, step: int, stop: int = stop
            ) -> None:  # as a step begins
                reseed(seed, stream, step)
                if step + 1 == stop:
                    os.kill(os.getpid(), signal.SIGTERM)

            with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
                patch.setattr(loop, "reseed", interrupted)
                train_here(*overrides, folder="halved")
            assert ended.value.code == 128 + signal.SIGTERM
            assert (
                trained_states(Path("halved"))["step"] == stop
                and summary(Path("halved"))["status"] == "interrupted"
            )
        halved = train_here(*overrides, folder="halved")
        assert_same_run(whole, halved)
        return halved

    return call


@pytest.fixture
def infer_here(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Callable[..., None]:
    """Infer in this process, with results/ in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO")

    def call(*overrides: str) -> None:
        cfg = composed("infer", f"dataset.cache='{cache}'", *overrides)
        try:
            inference.infer(cfg, Job(tmp_path, {}))
        except ValueError as error:
            raise as_user_error(error, to_dict(cfg)) from error

    return call


def figure_files(name: str) -> set[str]:
    """What a figure of this name is written to."""
    if name == "explorer":
        return {"explorer.html"}
    if name in ("training_movie", "traversal_movie", "latent_walk"):
        return {f"{name}.gif"}
    return {f"{name}.png", f"{name}.csv"}
