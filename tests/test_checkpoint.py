"""Checkpoints that are damaged, foreign or malicious, and files that are whole or not there."""

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

import genmodels
from genmodels import checkpoint, files
from genmodels.checkpoint import Checkpoint
from genmodels.files import DamagedFileError
from genmodels.likelihoods import BernoulliLikelihood
from genmodels.models.vae import MLPVAE

CONFIG = {
    "_target_": "genmodels.models.vae.MLPVAE",
    "image_shape": [1, 8, 8],
    "latent_dim": 2,
    "widths": [4],
    "likelihood": {"_target_": "genmodels.likelihoods.BernoulliLikelihood"},
}


def state(step: int) -> Checkpoint:
    return Checkpoint(step, {"trainer": {"weights": torch.full((1000,), float(step))}}, CONFIG)


def test_save_and_load(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path) is None
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, state(step))
        found = checkpoint.latest(tmp_path)
        assert (
            found is not None
            and found.step == step
            and found.states["trainer"]["weights"][0] == step
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
    ]


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "text", "other"])
def test_a_damaged_checkpoint_is_passed_over(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(tmp_path, state(1))
    checkpoint.save(tmp_path, state(2))
    path = tmp_path / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    middle = content.find(torch.full((4,), 2.0).numpy().tobytes()) + 1000
    content[middle] ^= 1
    torch.save({"other": 1}, tmp_path / "other")
    path.write_bytes(
        {
            "truncate": content[:-700],
            "flip": content,
            "empty": b"",
            "text": b"hello",
            "other": (tmp_path / "other").read_bytes(),
        }[damage]
    )
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    assert "checkpoint.pt" in caplog.text and "trying the one before it" in caplog.text
    (tmp_path / "checkpoint.previous.pt").write_bytes(b"")
    with pytest.raises(
        DamagedFileError, match=r"checkpoint\.pt: .*checkpoint\.previous\.pt: .*overwrite=true"
    ):
        checkpoint.latest(tmp_path)
    assert path.exists()


def test_killed_between_the_two_renames_of_a_save(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1))
    checkpoint.save(tmp_path, state(2))
    (tmp_path / "checkpoint.pt").rename(tmp_path / stray("checkpoint.pt"))
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    files.remove_strays.cache_clear()  # of another process it is empty
    checkpoint.save(tmp_path, state(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
    ]


def stray(name: str) -> str:
    """The name of what a process that has ended left of a file."""
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    return f".{name}.{files.HOST}-{int(ended.stdout)}-abcd1234.tmp"


def test_temporary_files_of_others_stay(tmp_path: Path) -> None:
    names = {
        f".x.json.{files.HOST}-{os.getpid()}-12345678.tmp",  # its writer lives
        ".x.json.00000000-1-12345678.tmp",  # of another machine
        ".mine.tmp",
    }
    for name in names:
        (tmp_path / name).touch()
    files.write_json(tmp_path / "x.json", {})
    assert {path.name for path in tmp_path.iterdir()} == names | {"x.json"}


def test_several_writers_of_one_file(tmp_path: Path) -> None:
    """Each ends well, and the file is that of one of them."""
    path = tmp_path / "x.txt"
    start = threading.Barrier(4)
    failures = []

    def write(letter: str) -> None:
        start.wait()
        for _ in range(50):
            try:
                files.write_text(path, letter * 100_000)
            except OSError as error:
                failures.append(error)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    text = path.read_text()
    assert not failures and text == text[0] * 100_000
    assert [each.name for each in tmp_path.iterdir()] == ["x.txt"]


def test_a_malicious_pickle_never_runs(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save(
        {"format": 1, "step": 1, "states": {"x": Evil()}, "model": {}}, tmp_path / "checkpoint.pt"
    )
    with pytest.raises(DamagedFileError):
        checkpoint.latest(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DamagedFileError):
        checkpoint.latest(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_a_failed_save_leaves_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path, state(1))

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "checkpoint.pt"))

    for broken in ("torch.save", "os.fsync"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
            patch.setattr(broken, no_space)
            checkpoint.save(tmp_path, state(2))
    monkeypatch.setattr(torch, "save", lambda content, path: Path(path).write_bytes(b"half"))
    with pytest.raises(DamagedFileError):  # what is written is read back before it takes its place
        checkpoint.save(tmp_path, state(2))
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_atomic_write_leaves_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.atomic_write(path) as temporary:
        temporary.write_text("new, but not whole")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and len(list(path.parent.iterdir())) == 1


def test_json_has_no_nan(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"a": [float("nan"), 1.5], "b": {"c": float("-inf")}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [None, 1.5], "b": {"c": None}}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    model = checkpoint.rebuild(CONFIG)
    assert isinstance(model, MLPVAE) and isinstance(model.likelihood, BernoulliLikelihood)
    checkpoint.export(tmp_path / "run" / "model.safetensors", model, CONFIG, {"name": "run"})
    return tmp_path / "run"


def test_a_run_is_loaded_by_folder_or_file(exported: Path) -> None:
    (exported / "checkpoint.pt").touch()
    for run in (
        exported,
        exported / "model.safetensors",
        str(exported),
        exported / "checkpoint.pt",
    ):
        model = genmodels.load(run)
        assert isinstance(model, nn.Module) and not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.sample(3).shape == (3, 1, 8, 8)


def test_what_is_no_run_is_refused(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"checkpoint=.*nowhere: no model\.safetensors there"):
        genmodels.load(tmp_path / "nowhere")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(DamagedFileError, match="not a whole safetensors file"):
        genmodels.load(tmp_path / "text.safetensors")
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(DamagedFileError, match="checksum"):
        genmodels.load(tmp_path / "foreign.safetensors")
    content = bytearray((exported / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (exported / "model.safetensors").write_bytes(content)
    with pytest.raises(DamagedFileError, match="damaged"):
        genmodels.load(exported)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    checkpoint.export(
        tmp_path / "model.safetensors", checkpoint.rebuild(CONFIG), CONFIG | {"latent_dim": 3}, {}
    )
    reason = r"decoder\.body\.0\.weight is float32 \(4, 2\), not float32 \(4, 3\)"
    with pytest.raises(DamagedFileError, match=f"its model cannot be loaded \\({reason}"):
        genmodels.load(tmp_path)


def test_a_wandb_artifact_is_downloaded(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    class Artifact:
        def download(self) -> str:
            return str(exported)

    class Api:
        def artifact(self, name: str) -> Artifact:
            if name != "me/genmodels/run:latest":
                raise RuntimeError("no such artifact")
            return Artifact()

    monkeypatch.setattr(wandb, "Api", Api)
    assert genmodels.load("wandb:me/genmodels/run:latest").latent_dim == 2
    with pytest.raises(
        ValueError, match=r"checkpoint=wandb:me/x/y:z: cannot be fetched \(no such artifact\)"
    ):
        genmodels.load("wandb:me/x/y:z")
