"""The notebook of docs/: all cells run from top to bottom."""

import json
from pathlib import Path

import matplotlib
import pytest
from conftest import ROOT


@pytest.mark.slow
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one name space, as a kernel does it; what a cell asserts holds."""
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "docs/guide.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            exec(compile(source, source.partition("\n")[0], "exec"), names)
    assert {weight: run.summary["verdict"]["label"] for weight, run in names["maps"].items()} == {
        1: "healthy",
        30: "COLLAPSED",
        0: "not a generative model",
    }
