"""The notebook of docs/: all cells run from top to bottom."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

VERDICTS = """
verdicts = {weight: run.summary["verdict"]["label"] for weight, run in maps.items()}
assert verdicts == {1: "healthy", 30: "COLLAPSED", 0: "not a generative model"}, verdicts
"""


@pytest.mark.slow
def test_the_notebook(tmp_path: Path) -> None:
    """In one name space, as a kernel does it; what a cell asserts holds.

    It trains in a process of its own: other tests fork this one, which autograd does not allow.
    """
    notebook = json.loads((ROOT / "docs/guide.ipynb").read_text(encoding="utf-8"))
    cells = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n".join("".join(source) for source in cells) + VERDICTS
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
