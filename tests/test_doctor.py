"""What doctor=true tells of runs that are well, and of each fault that was planted."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import SMALL, write_pictures
from torch import Tensor

from genmodels import doctor, training_checks
from genmodels.losses.objectives import ELBO
from genmodels.models.priors import StandardNormal
from genmodels.models.vae import VAE
from genmodels.trainers.vae import VAETrainer
from genmodels.user_errors import UserError

Train = Callable[..., Path]

GAN = ["model=gan", "model.generator_width=8", "model.discriminator_width=8", "batch_size=16"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_checks, "STEPS", (40, 40))
    monkeypatch.setattr(doctor, "_load", lambda: 0.0)


@pytest.fixture
def examined(
    train_here: Train, caplog: pytest.LogCaptureFixture
) -> Callable[..., dict[str, list[str]]]:
    """The lines of the table by check, with their statuses; `refused` where it ended so."""

    def call(*overrides: str) -> dict[str, list[str]]:
        lines: dict[str, list[str]] = {}
        try:
            train_here("doctor=true", *overrides)
        except UserError as error:
            lines["refused"] = [str(error)]
        (table,) = [text for text in caplog.messages if text[6:11] == "data "]
        for line in table.splitlines():
            name = line[6:16].strip()
            lines.setdefault(name, []).append(f"{line[:6].strip()}: {line[16:].strip()}")
        return lines

    return call


def statuses(lines: dict[str, list[str]]) -> set[str]:
    return {line.partition(":")[0] for name in lines if name != "refused" for line in lines[name]}


@pytest.mark.parametrize(
    "overrides",
    [
        SMALL,
        [*SMALL, "prior=flow", "objective=geco"],
        [*SMALL, "prior=mixture", "kl_weight=30"],
        ["model=cvae_mlp", "model.widths=[32]", "objective=iwae"],
        [*GAN, "adversarial_loss=hinge"],
        [*GAN, "adversarial_loss=non_saturating", "trainer.n_critic=3"],
    ],
    ids=" ".join,
)
def test_all_is_well(overrides: list[str], examined: Callable[..., dict]) -> None:
    lines = examined(*overrides)
    assert statuses(lines) == {"ok"}, lines
    assert "refused" not in lines and not Path("run").exists()
    assert ("KL" in lines) == ("model=gan" not in overrides)


def detached_encoder(patch: pytest.MonkeyPatch) -> None:
    """Neither distortion nor KL has a way back to the encoder."""
    encode = VAE.encode

    def detached(model: VAE, images: Tensor, labels: Tensor | None = None) -> object:
        with torch.no_grad():
            return encode(model, images, labels)

    patch.setattr(VAE, "encode", detached)


def wrong_sign(patch: pytest.MonkeyPatch) -> None:
    """Minimises the ELBO instead of its negative."""
    forward = ELBO.forward
    patch.setattr(ELBO, "forward", lambda *arguments: -forward(*arguments))


def negative_kl(patch: pytest.MonkeyPatch) -> None:
    kl = StandardNormal.kl
    patch.setattr(StandardNormal, "kl", lambda *arguments: -kl(*arguments))


def forgotten_state(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint without the optimizer's moments."""
    load = VAETrainer.load_state_dict

    def without_moments(trainer: VAETrainer, state: dict) -> None:
        fresh = trainer.updater.optimizer.state_dict()
        load(trainer, {**state, "updater": {**state["updater"], "optimizer": fresh}})

    patch.setattr(VAETrainer, "load_state_dict", without_moments)


def broken_update(patch: pytest.MonkeyPatch) -> None:
    def update(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    patch.setattr(VAETrainer, "update", update)


def full_disk(patch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    patch.setattr(doctor.shutil, "disk_usage", lambda _: Usage())


def busy_machine(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(doctor, "_load", lambda: 50.0)


@pytest.mark.parametrize(
    ("plant", "check", "message"),
    [
        (detached_encoder, "learning", "WRONG: the loss does not depend on encoder."),
        (wrong_sign, "learning", "it does not learn. Try another lr"),
        (negative_kl, "KL", "WRONG: KL -"),
        (forgotten_state, "resume", "WRONG: after a checkpoint the next steps differ in updater."),
        (broken_update, "speed", "WRONG: RuntimeError: mat1 and mat2 shapes"),
        (full_disk, "disk", "WRONG: checkpoints take"),
        (busy_machine, "machine", "note: "),
    ],
)
def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    check: str,
    message: str,
    examined: Callable[..., dict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    lines = examined(*SMALL)
    assert any(message in line for line in lines[check]), lines
    assert ("refused" in lines) == ("WRONG" in statuses(lines))
    if "refused" in lines:
        assert check in lines["refused"][0]


def test_a_run_that_is_there_is_told_and_stays(
    train_here: Train, examined: Callable[..., dict]
) -> None:
    def files(folder: Path) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    folder = train_here(*SMALL, "max_steps=2")
    before = files(folder)
    lines = examined(*SMALL, "max_steps=2")
    assert lines["run folder"] == [f"note: {folder} has a run already: finished"]
    assert files(folder) == before


def test_gray_images_under_a_likelihood_of_black_and_white_ones(
    tmp_path: Path, examined: Callable[..., dict]
) -> None:
    write_pictures(tmp_path / "noise", count=80)
    data = ["dataset=folder", f"dataset.root='{tmp_path}/noise'", "dataset.side=16"]
    lines = examined(*SMALL, *data, "dataset.channels=1", "likelihood=bernoulli", "batch_size=16")
    assert any("of the pixels are gray" in line for line in lines["data"]), lines


def test_a_gradient_that_is_always_zero_is_a_note(examined: Callable[..., dict]) -> None:
    """A relativistic game compares outputs of D: their common bias makes no difference."""
    lines = examined(*GAN, "adversarial_loss=relativistic")
    assert lines["learning"][1] == "note: the gradient is always 0 of discriminator.head.bias"
