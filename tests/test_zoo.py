"""The models that come with the project."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, train_in

import genmodels
from genmodels import run_lookup
from genmodels.run_lookup import ZOO
from genmodels.zoo import __main__ as zoo

NAMES = sorted(path.stem for path in ZOO.glob("*.safetensors"))


def test_there_are_models_for_each_family() -> None:
    """In under 3 MB, each with its row on the page."""
    page = (ROOT / "docs/ZOO.md").read_text(encoding="utf-8")
    assert len(NAMES) == 6
    for name in NAMES:
        assert f"`zoo:{name}`" in page
    assert sum(path.stat().st_size for path in ZOO.glob("*.safetensors")) < 3_000_000


@pytest.mark.parametrize("name", NAMES)
def test_a_model(
    name: str, infer_here: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works without data and without its run; samples differ from each other."""
    model = genmodels.load(f"zoo:{name}")
    labels = torch.arange(8) if model.num_classes else None
    torch.manual_seed(0)
    images = model.sample(8, labels)
    assert images.dtype == torch.float32 and images.std(dim=0).mean() > 0.05
    assert images.mean() < 0.95 and model.latent_dim == (
        2 if name.startswith("vae") else model.latent_dim
    )
    monkeypatch.chdir(tmp_path)
    infer_here(f"checkpoint=zoo:{name}", "figures=[samples,explorer]", "metrics=[]")
    results = tmp_path / f"results/zoo-{name}"
    assert (results / "explorer.html").is_file() and (results / "samples.png").is_file()


def test_an_unknown_name() -> None:
    message = r"checkpoint=zoo:cvae_mnsit: the zoo has .*Did you mean cvae_mnist"
    with pytest.raises(ValueError, match=message):
        run_lookup.locate("zoo:cvae_mnsit")


def test_to_add_a_model(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture) -> None:
    """float16 on disk, float32 in memory; nothing else changes."""
    run = train_in(tmp_path / "run", cache, *SMALL, "max_steps=3")
    path = zoo.add(str(run), "small", tmp_path)
    assert path.stat().st_size < 0.7 * (run / "model.safetensors").stat().st_size
    before, after = genmodels.load(run), genmodels.load(path)
    for name, tensor in after.state_dict().items():
        assert tensor.dtype == before.state_dict()[name].dtype
        torch.testing.assert_close(tensor, before.state_dict()[name], rtol=1e-3, atol=1e-4)
    assert zoo.main(["nothing"]) == 1 and "usage:" in capsys.readouterr().err
    assert zoo.main([str(tmp_path / "none"), "x"]) == 1
    assert "no model.safetensors there" in capsys.readouterr().err
