"""Whatever a file or a command line holds: it is used, or refused in one message, soon and safely.

A few cases of each kind run with every test. `pytest -m soak` runs CASES of them, and tells of them
in docs/RELIABILITY.md.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import numpy as np
import pytest
import torch
import watch
import yaml
from conftest import composed, idx_bytes, summary, train_in
from hydra.errors import HydraException
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from mutations import ODD, SIMPLE, VALUES, changed_bytes, changed_tree
from omegaconf.errors import OmegaConfBaseException
from reliability import Campaign, keep
from watch import Hanging, Watch

from genmodels import checkpoint, inference, safetensors_io
from genmodels.command_line import check_arguments, explain
from genmodels.composition import compose_config, to_dict, without_hydra
from genmodels.data import datasets
from genmodels.job import Job
from genmodels.report.write import write
from genmodels.run_files import CONFIG, METRICS, SUMMARY
from genmodels.safetensors_io import DamagedFileError
from genmodels.training import check_settings
from genmodels.user_errors import UserError, flatten

# Of names that no font has: a report may say what it cannot draw
pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from font")

QUICK_CASES, CASES = 20, 1_000
TINY = ["model=vae_mlp", "model.widths=[8]", "model.latent_dim=2", "batch_size=16"]
TINY += ["max_steps=2", "checkpoint_every=1", "evaluate_every=2"]
GOOD, REFUSED = "used", "refused in one message"


class Kind(NamedTuple):
    """What is changed, and what is then done with it.

    Arguments:
    title: for docs/RELIABILITY.md.
    cases: what a file or a command line may hold.
    attempt: uses a case; returns GOOD or REFUSED, and raises for anything else.
    """

    title: str
    cases: SearchStrategy
    attempt: Callable[[Any], str]


@dataclasses.dataclass
class Bench:
    """A finished run, a folder to work in, and the cache of the data."""

    trained: Path
    folder: Path
    cache: Path

    def copy_of_the_run(self) -> Path:
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        return shutil.copytree(self.trained, run)


@pytest.fixture
def bench(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    trained = train_in(tmp_path / "trained", cache, *TINY)
    (tmp_path / "folder").mkdir()
    return Bench(trained, tmp_path / "folder", cache)


def judge(use: Callable[[], object], *names: str) -> str:
    """Whether something was used, or refused by one message that names one of these."""
    try:
        use()
    except (UserError, DamagedFileError) as error:
        message = str(error)
    except ValueError as error:  # the command line prints it in the same way
        message = str(error)
    else:
        return GOOD
    assert any(name in message for name in names), message
    return REFUSED


def metadata(bench: Bench) -> Kind:
    tensors, content = safetensors_io.load(bench.trained / "model.safetensors")
    content.pop("crc32")
    path = bench.folder / "changed.safetensors"
    cfg = composed(
        "infer",
        f"checkpoint='{path}'",
        "figures=[samples]",
        "n=4",
        f"out='{bench.folder}/results'",
        f"dataset.cache='{bench.cache}'",
    )

    def attempt(case: Any) -> str:
        safetensors_io.save(path, tensors, case)
        return judge(lambda: inference.infer(cfg, Job(bench.folder, {})), path.name)

    trees = changed_tree(content).filter(lambda tree: isinstance(tree, dict))
    return Kind("metadata of model.safetensors, with a right checksum -> infer.py", trees, attempt)


TENSORS = [
    lambda: torch.zeros(0),
    lambda: torch.zeros(1),
    lambda: torch.zeros(()),
    lambda: torch.full((8,), torch.nan),
    lambda: torch.zeros(1).expand(8, 784),
    lambda: torch.zeros(8, dtype=torch.long),
    lambda: torch.zeros(8, 784, dtype=torch.float64),
    lambda: torch.zeros(8).to_sparse(),
]


def states(bench: Bench) -> Kind:
    whole = checkpoint.latest(bench.trained)
    assert whole is not None
    content = {
        "format": checkpoint.FORMAT,
        "step": 1,
        "states": whole.states,
        "model": whole.model,
    }

    def attempt(case: Any) -> str:
        run = bench.copy_of_the_run()
        (run / "checkpoint.previous.pt").unlink()
        torch.save(case, run / "checkpoint.pt")
        interrupted = summary(run) | {"status": "interrupted"}
        (run / SUMMARY).write_text(json.dumps(interrupted))
        outcome = judge(lambda: train_in(run, bench.cache, *TINY), "checkpoint.pt")
        if outcome == GOOD:
            assert summary(run)["status"] == "finished"
        return outcome

    values = VALUES | st.sampled_from(TENSORS).map(lambda make: make())
    return Kind("states of checkpoint.pt -> train.py", changed_tree(content, values), attempt)


def idx_files(bench: Bench) -> Kind:
    rng = np.random.default_rng(0)
    contents = {}
    for split, size in (("train", 40), ("t10k", 10)):
        pixels = rng.integers(0, 256, (size, 28, 28))
        contents[f"{split}-images-idx3-ubyte"] = idx_bytes(pixels)
        contents[f"{split}-labels-idx1-ubyte"] = idx_bytes(np.arange(size) % 10)
    raw = bench.folder / "MNIST/raw"
    raw.mkdir(parents=True)
    cases = st.one_of(
        [st.tuples(st.just(name), changed_bytes(content)) for name, content in contents.items()]
    )

    def load() -> None:
        root, new_cache = str(bench.folder), str(bench.folder / "cache")
        data = datasets.mnist(root=root, download=False, keep_raw=False, cache=new_cache).load()
        images, labels = data.train.batch(slice(0, 8))
        assert images.shape[1:] == (1, 28, 28) and labels.min() >= 0 and labels.max() < 10

    def attempt(case: tuple[str, bytes]) -> str:
        shutil.rmtree(bench.folder / "cache", ignore_errors=True)
        for name, content in contents.items():
            (raw / name).write_bytes(content)
        changed, content = case
        (raw / changed).write_bytes(content)
        return judge(load, "mnist", str(raw))

    return Kind("bytes of MNIST's four files -> data set", cases, attempt)


def yaml_files(bench: Bench) -> Kind:
    text = (bench.trained / CONFIG).read_text()
    plain = changed_tree(yaml.safe_load(text)).map(yaml.safe_dump)
    raw = changed_bytes(text.encode())

    def attempt(case: str | bytes) -> str:
        run = bench.copy_of_the_run()
        (run / CONFIG).write_bytes(case if isinstance(case, bytes) else case.encode())
        return judge(lambda: train_in(run, bench.cache, *TINY), CONFIG, "other settings", "without")

    return Kind("config.yaml of a finished run -> train.py", plain | raw, attempt)


def report_files(bench: Bench) -> Kind:
    other = shutil.copytree(bench.trained, bench.folder / "sweep" / "a")
    run = shutil.copytree(bench.trained, bench.folder / "sweep" / "b")
    text = (other / METRICS).read_text()
    changed_rows = st.tuples(
        st.just(METRICS),
        changed_tree([json.loads(line) for line in text.splitlines()]).map(as_lines)
        | changed_bytes(text.encode()),
    )
    content = summary(other)
    changed_summary = st.tuples(
        st.just(SUMMARY),
        changed_tree(content).map(json.dumps) | changed_bytes(json.dumps(content).encode()),
    )

    def attempt(case: tuple[str, str | bytes]) -> str:
        for name in (METRICS, SUMMARY):
            shutil.copy(other / name, run / name)
        name, changed = case
        (run / name).write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        sweep = write([bench.folder / "sweep"])
        is_read = [record.status != "unreadable" for record in sweep.runs]
        return GOOD if all(is_read) else REFUSED

    return Kind(
        "rows and summary of one of two runs -> report", changed_rows | changed_summary, attempt
    )


def as_lines(tree: Any) -> str:
    entries = tree if isinstance(tree, list) else [tree]
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def settings(bench: Bench) -> Kind:
    cfg = without_hydra(compose_config("train", TINY))
    keys = [key for key, _ in flatten(to_dict(cfg, resolve=False))]
    groups = ["model", "dataset", "kl_schedule", "prior", "likelihood", "objective", "experiment"]
    nodes = sorted({key.rpartition(".")[0] for key in keys} - {""})
    names = st.sampled_from([*keys, *groups, *nodes]) | st.text("abc_.=+~-@/", max_size=8)
    odd = [value for value in ODD if len(str(value)) < 200]
    texts = (st.sampled_from(odd) | SIMPLE).map(as_argument)
    overrides = st.lists(st.builds("{}={}".format, names, texts), min_size=1, max_size=3)

    def check(arguments: list[str]) -> None:
        check_arguments("train", arguments)
        try:
            check_settings([*TINY, *arguments])
        except (HydraException, OmegaConfBaseException) as error:
            message = explain(error, "train", arguments)
            assert message and "\n" not in message, arguments
            raise UserError(f"{arguments}: {message}") from None

    return Kind(
        "settings of the command line -> train.py",
        overrides,
        lambda case: judge(lambda: check(case), ""),
    )


def as_argument(value: Any) -> str:
    """As it is typed on a command line."""
    if isinstance(value, str):
        return value
    return "null" if value is None else json.dumps(value).replace('"', "'")


KINDS = (metadata, states, idx_files, yaml_files, report_files, settings)


def write_outside() -> None:
    Path("../outside").touch()


def rename_to_outside() -> None:
    Path("inside").touch()
    Path("inside").rename("../moved")


def start_a_program() -> None:
    subprocess.run(["true"], check=True)


def hang() -> None:
    time.sleep(60)


@pytest.mark.parametrize(
    ("offend", "error"),
    [
        (write_outside, AssertionError),
        (rename_to_outside, AssertionError),
        (start_a_program, AssertionError),
        (lambda: os.system("true"), AssertionError),
        (hang, Hanging),
    ],
)
def test_the_watch_notices(
    offend: Callable, error: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr(watch, "SECONDS", 0.5)
    with pytest.raises(error), Watch(home).attempt():
        offend()
    with Watch(home).attempt():
        Path("inside").touch()
        Path("inside").rename("still_inside")
        shutil.rmtree(home / "nothing", ignore_errors=True)


def attack(kind: Kind, folder: Path, cases: int) -> Campaign:
    """Make so many attempts; raises for the first that ends as it must not."""
    guard = Watch(folder)
    outcomes: Counter[str] = Counter()

    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(kind.cases)
    def attempt(case: Any) -> None:
        with guard.attempt():
            outcomes[kind.attempt(case)] += 1

    attempt()
    return Campaign(kind.title, dict(outcomes), guard.slowest)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_it_holds(kind: Callable[[Bench], Kind], bench: Bench, tmp_path: Path) -> None:
    campaign = attack(kind(bench), tmp_path, QUICK_CASES)
    assert campaign.outcomes.get(REFUSED, 0) > 0


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_it_holds_a_thousand_times(
    kind: Callable[[Bench], Kind], bench: Bench, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    keep(request.config, kind.__name__, attack(kind(bench), tmp_path, CASES))
