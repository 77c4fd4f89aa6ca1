"""Models for other software make the same images as torch."""

from pathlib import Path

import pytest
from test_models import build

from genmodels import checkpoint, onnx_export
from genmodels.models.gan import GAN


def saved(folder: Path, name: str, *overrides: str) -> str:
    """A model.safetensors with random weights."""
    model, config = build(name, (1, 28, 28), *overrides)
    model = model.generator if isinstance(model, GAN) else model
    path = folder / "model.safetensors"
    checkpoint.export(path, model, config, {"name": "x"})
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae", "cvae_mlp", "gan", "cgan"])
def test_the_same_images(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of two sizes of batches; the command says how large the difference is."""
    assert onnx_export.main([saved(tmp_path, name), str(tmp_path / "model.onnx")]) == 0
    assert (tmp_path / "model.onnx").stat().st_size > 10_000
    assert "differ from torch's by at most 0.0" in capsys.readouterr().out


@pytest.mark.slow
def test_other_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(onnx_export, "TOLERANCE", -1.0)
    run = saved(tmp_path, "vae_mlp", "model.widths=[8]")
    assert onnx_export.main([run, str(tmp_path / "model.onnx")]) == 1
    assert "not written: differs from torch by 0.0" in capsys.readouterr().err
    assert not list(tmp_path.glob("*model.onnx*"))


def test_what_cannot_be_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = str(tmp_path / "model.onnx")
    classifier = saved(tmp_path, "classifier")
    assert onnx_export.main([classifier, path]) == 1
    assert "a Classifier generates no images" in capsys.readouterr().err
    assert onnx_export.main([]) == 1 and "usage:" in capsys.readouterr().err
    monkeypatch.setattr(onnx_export, "PACKAGES", ("torch", "nowhere"))
    assert onnx_export.main([classifier, path]) == 1
    assert "nowhere is missing: uv sync --extra onnx" in capsys.readouterr().err
