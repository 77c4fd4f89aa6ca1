"""The package as it is installed: with the configuration, without a checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

from genmodels.run_files import read_summary

COMMAND = "import sys; from genmodels.{0}_command import command; sys.exit(command())"


@pytest.mark.slow
def test_the_wheel(tmp_path: Path, cache: Path) -> None:
    """Both commands work from what the wheel holds, in another folder, and so does the zoo."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "installed")}

    def run(command: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND.format(command), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = ["model=vae_mlp", "max_steps=3", "figures=[samples]", f"dataset.cache={cache}"]
    run("train", *small, "hydra.run.dir=run")
    assert read_summary(tmp_path / "run")["status"] == "finished"
    run("infer", "checkpoint=run", "figures=explorer", "metrics=[]", "out=results")
    assert (tmp_path / "results/explorer.html").is_file()
    entry_points = next((tmp_path / "installed").glob("*.dist-info/entry_points.txt")).read_text()
    for name in ("train", "infer"):
        assert f"genmodels-{name} = genmodels.{name}_command:command" in entry_points
