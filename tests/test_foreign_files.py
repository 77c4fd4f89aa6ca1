"""Files of strangers, and damaged ones: one message that names the file, whatever they hold."""

import copy
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_same_run, composed, train_in
from torch import nn

from genmodels import checkpoint, files, inference, safetensors_io
from genmodels.checkpoint import Checkpoint
from genmodels.composition import to_dict
from genmodels.files import DamagedFileError
from genmodels.run_files import read_summary
from genmodels.settings import InferSettings
from genmodels.trainers.updater import Updater
from genmodels.user_errors import UserError
from genmodels.validation import validate

SMALL = ["model=vae_mlp", "model.widths=[8]", "model.latent_dim=2", "batch_size=16"]
SMALL += ["max_steps=2", "checkpoint_every=1"]
NESTED: Any = {}
for _ in range(400):
    NESTED = [NESTED]


def updater() -> Updater:
    torch.manual_seed(0)
    return Updater(
        nn.Linear(300, 200),
        optimizer=partial(torch.optim.AdamW, betas=[0.9, 0.99]),
        lr=0.01,
        lr_schedule=lambda step, total: 1.0,
        clip_norm=None,
        ema_images=1,
        batch_size=1,
        precision="fp32",
    )


def step(owner: Updater) -> None:
    owner.update(owner.model(torch.ones(1, 300)).square().sum(), {}, 0, 2)


def moments(change: Callable[[torch.Tensor], object]) -> Callable[[dict], None]:
    """Puts something else in the place of a moment of the first parameter."""

    def apply(state: dict) -> None:
        first = state["optimizer"]["state"][0]
        first["exp_avg"] = change(first["exp_avg"])

    return apply


def infinite(tensor: torch.Tensor) -> torch.Tensor:
    return tensor * float("inf")


FOREIGN_STATES = {
    "one element": moments(lambda _: torch.zeros(1)),
    "no element": moments(lambda _: torch.zeros(0)),
    "another shape": moments(lambda tensor: tensor.T),
    "another type": moments(lambda tensor: tensor.double()),
    "whole numbers": moments(lambda tensor: tensor.long()),
    "sparse": moments(lambda tensor: tensor.to_sparse()),
    "not finite": moments(infinite),
    "a text": moments(lambda _: "x"),
    "no moment": lambda state: state["optimizer"]["state"][0].pop("exp_avg"),
    "a moment more": lambda state: state["optimizer"]["state"][0].update(x=torch.zeros(1)),
    "a parameter more": lambda state: state["optimizer"]["state"].update({7: {}}),
    "other groups": lambda state: state["optimizer"]["param_groups"].pop(),
    "weights of another shape": lambda state: state["model"].update(bias=torch.zeros(1)),
    "weights not finite": lambda state: state["average"].update(bias=torch.full((200,), torch.nan)),
    "no weights": lambda state: state["model"].clear(),
}


@pytest.mark.parametrize("name", FOREIGN_STATES)
def test_states_of_another_form_are_refused(name: str) -> None:
    """torch's fused kernels would write beyond a smaller moment's memory."""
    owner = updater()
    step(owner)
    state = copy.deepcopy(owner.state_dict())
    FOREIGN_STATES[name](state)
    with pytest.raises((ValueError, TypeError)):
        updater().load_state_dict(state)


def test_restored_moments_have_memory_of_their_own() -> None:
    """An expanded tensor has the right shape, and the memory of one number."""
    owner = updater()
    step(owner)
    state = copy.deepcopy(owner.state_dict())
    state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(1, 1).expand(200, 300)
    other = updater()
    other.load_state_dict(state)
    restored = other.optimizer.state_dict()["state"][0]["exp_avg"]
    assert restored.untyped_storage().nbytes() == 200 * 300 * 4
    step(other)


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.SGD, momentum=0.9),
        torch.optim.SGD,
        torch.optim.Adafactor,
        torch.optim.NAdam,
        torch.optim.RMSprop,
    ],
)
def test_every_optimizer_goes_on_as_it_was(optimizer: Callable) -> None:
    def one() -> Updater:
        owner = updater()
        owner.optimizer = optimizer(owner.model.parameters(), lr=0.01)
        return owner

    owner, other = one(), one()
    step(owner)
    other.load_state_dict(copy.deepcopy(owner.state_dict()))
    step(owner)
    step(other)
    assert torch.equal(owner.model.weight, other.model.weight)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_in(tmp_path_factory.mktemp("foreign") / "run", cache, *SMALL)


def crafted(step: Any = 2, **changes: Any) -> Callable[[Checkpoint], dict]:
    """The content of a checkpoint.pt with another step, and with other states."""

    def content(whole: Checkpoint) -> dict:
        states = {**whole.states, **changes}
        states = {name: state for name, state in states.items() if state is not None}
        return {
            "format": checkpoint.FORMAT,
            "step": step,
            "states": states,
            "model": whole.model,
        }

    return content


CRAFTED = {
    "a step beyond the run": crafted(step=10**9),
    "a negative step": crafted(step=-5),
    "a step that is a text": crafted(step="2"),
    "no trainer": crafted(trainer=None),
    "a list for the trainer": crafted(trainer=[1]),
    "an empty trainer": crafted(trainer={}),
    "sums without counts": crafted(means={"sums": {"loss": torch.zeros(())}, "counts": {}}),
    "sums of another shape": crafted(
        means={"sums": {"loss": torch.zeros(3)}, "counts": {"loss": 1}}
    ),
    "counts of nothing": crafted(means={"sums": {"loss": torch.zeros(())}, "counts": {"loss": 0}}),
    "a text for a time": crafted(clock={"seconds": "x"}),
    "no time at all": crafted(clock={"seconds": float("nan")}),
    "nothing": lambda _: {},
    "a list": lambda _: [1, 2],
    "a tensor": lambda _: torch.zeros(3),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_checkpoint_is_passed_over(
    name: str, trained: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on from the checkpoint before it, to the same end."""
    folder = shutil.copytree(trained, trained.parent / name.replace(" ", "_"))
    whole = checkpoint.latest(trained)
    assert whole is not None and whole.step == 2
    torch.save(CRAFTED[name](whole), folder / "checkpoint.pt")
    files.write_json(folder / "summary.json", read_summary(folder) | {"status": "interrupted"})
    caplog.set_level("INFO")
    train_in(folder, cache, *SMALL)
    assert "trying the one before it" in caplog.text and "resuming at step 1" in caplog.text
    assert_same_run(folder, trained)


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [30_000, 30_000]},
        {"widths": [100_000, 100_000]},
        {"latent_dim": 10**8},
        {"image_shape": [1, 20_000, 20_000]},
        {"latent_dim": -1},
        {"latent_dim": "x"},
        {"widths": NESTED},
        {"nothing": 1},
    ],
)
def test_a_small_file_cannot_ask_for_much(change: dict, trained: Path, tmp_path: Path) -> None:
    tensors, metadata = safetensors_io.load(trained / "model.safetensors")
    path = tmp_path / "model.safetensors"
    before, start = peak_memory(), time.perf_counter()
    safetensors_io.save(path, tensors, metadata | {"model": metadata["model"] | change})
    with pytest.raises(DamagedFileError, match=r"model\.safetensors: its model cannot be loaded"):
        checkpoint.open_run(path)
    assert peak_memory() - before < 200_000_000 and time.perf_counter() - start < 10


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_every_bit_of_a_file_counts(trained: Path, tmp_path: Path) -> None:
    content = (trained / "model.safetensors").read_bytes()
    header = int.from_bytes(content[:8], "little")
    path = tmp_path / "model.safetensors"
    bits = [*range(0, 8 * (8 + header), 17), *range(8 * (8 + header), 8 * len(content), 4001)]
    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(DamagedFileError, match=r"model\.safetensors"):
            safetensors_io.load(path)


WRONG = (None, 3, -1, 2.5, "x" * 100_000, [], [1], {}, {"a": 1}, NESTED, True)


def wrong_metadata(metadata: dict) -> list[dict]:
    """Metadata with one value of another kind, or without it."""
    changed = []
    for key in ("model", "about"):
        changed.append({name: metadata[name] for name in metadata if name != key})
        changed += [metadata | {key: value} for value in WRONG]
    for part in ("model", "about"):
        for key in metadata[part]:
            values = [metadata[part] | {key: value} for value in WRONG]
            values.append({name: metadata[part][name] for name in metadata[part] if name != key})
            changed += [metadata | {part: value} for value in values]
    for key in ("seed", "kl_weight", "model.image_shape", "model.latent_dim", "dataset._target_"):
        about = metadata["about"]
        for value in WRONG:
            settings = about["settings"] | {key: value}
            changed.append(metadata | {"about": about | {"settings": settings}})
    return changed


def test_whatever_a_file_says_there_is_one_message(
    trained: Path, tmp_path: Path, cache: Path
) -> None:
    """It is opened, or refused by a ValueError that names it."""
    tensors, metadata = safetensors_io.load(trained / "model.safetensors")
    path = tmp_path / "changed.safetensors"
    changed = wrong_metadata(metadata)
    refused = 0
    for other in changed:
        safetensors_io.save(path, tensors, other)
        values = to_dict(composed("infer", f"checkpoint={path}"))
        settings = validate(InferSettings, values)
        start = time.perf_counter()
        try:
            model = inference.open_model(str(path), settings, torch.device("cpu"))
            inference.read_data([model], settings, torch.device("cpu"))
        except ValueError as error:
            assert "changed.safetensors" in str(error), other
            refused += 1
        assert time.perf_counter() - start < 10
    assert refused > len(changed) / 2


def test_init_from_a_stranger_is_refused_in_one_line(trained: Path, cache: Path) -> None:
    stranger = trained.parent / "stranger"
    stranger.mkdir()
    whole = checkpoint.latest(trained)
    assert whole is not None
    for moments in whole.states["trainer"]["updater"]["optimizer"]["state"].values():
        moments["exp_avg"] = torch.zeros(1)
    checkpoint.save(stranger, whole)
    with pytest.raises(UserError, match=r"checkpoint\.pt: its training state does not fit"):
        train_in(trained.parent / "new", cache, *SMALL, f"init_from={stranger}")
