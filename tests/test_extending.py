"""What is added as docs/EXTENDING.md says, and nothing else touched, trains and is measured.

The folder `extension` holds a new family (a VQ-VAE with its trainer), an optimizer, a prior and a
metric. They are copied into a copy of the project, two registries get one entry each, and its
train.py and infer.py run.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run, rows, summary

pytestmark = pytest.mark.slow

EXTENSION = Path(__file__).parent / "extension"
METRIC_ENTRY = '    "brightness": Spec(brightness.brightness, data=True),\n'
QUANTITY_ENTRIES = (
    '    "brightness_gap": Quantity("brightness gap", "", LOWER, metric="brightness"),\n'
    '    "code_usage": Quantity("code usage", "share of the codes", HIGHER, progress_bar=True),\n'
)
# Calls the real entry points one after the other; "stop" ends the next run by SIGTERM in step 5
DRIVER = """
import json, os, runpy, signal, sys
from genmodels.trainers import loop

reseed = loop.reseed

def stopping(seed, stream, step):
    reseed(seed, stream, step)
    if step == 4:
        os.kill(os.getpid(), signal.SIGTERM)

for arguments in json.loads(sys.argv[1]):
    stop = arguments[0] == "stop"
    loop.reseed = stopping if stop else reseed
    sys.argv = arguments[1:] if stop else arguments
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        assert end.code == (143 if stop else 0), (sys.argv, end.code)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the extension in it."""
    project = tmp_path_factory.mktemp("project")
    for name in ("conf", "genmodels"):
        shutil.copytree(ROOT / name, project / name)
    for name in ("train.py", "infer.py"):
        shutil.copy(ROOT / name, project / name)
    shutil.copytree(EXTENSION, project, dirs_exist_ok=True)
    add_line(project / "genmodels/metrics/registry.py", "METRICS = {\n", METRIC_ENTRY)
    add_line(
        project / "genmodels/metrics/registry.py",
        "\n",
        "from genmodels.metrics import brightness\n",
    )
    add_line(project / "genmodels/quantities.py", "QUANTITIES = {\n", QUANTITY_ENTRIES)
    return project


def add_line(path: Path, after: str, line: str) -> None:
    text = path.read_text()
    assert after in text
    path.write_text(text.replace(after, after + line, 1))


def run(project: Path, *commands: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_MODE"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(commands)],
        cwd=project,
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_family_with_a_new_optimizer(project: Path, cache: Path) -> None:
    """Trained, stopped and resumed bit for bit, drawn, measured, selected by its own quantity."""
    options = [
        "model=vqvae",
        "optimizer=nadam",
        "select=code_usage",
        "max_steps=9",
        "evaluate_every=3",
        "checkpoint_every=2",
        f"dataset.cache={cache}",
    ]
    whole = ["train.py", *options, "hydra.run.dir=whole"]
    halved = ["train.py", *options, "hydra.run.dir=halved"]
    infer = ["infer.py", "checkpoint=whole", f"dataset.cache={cache}", "samples=300"]
    run(project, whole, ["stop", *halved], halved, infer)

    assert_same_run(project / "whole", project / "halved")
    finished = summary(project / "whole")
    assert finished["status"] == "finished" and finished["selected"]["by"] == "code_usage"
    assert finished["verdict"]["label"] and 0 < finished["metrics"]["test"]["code_usage"] <= 1
    results = {path.stem for path in (project / "results/whole").glob("*.png")}
    assert results >= {"samples", "temperature", "nearest_neighbours", "training_progress"}
    assert not results & {"kl_per_dimension", "latent_scatter", "reconstructions"}
    metrics = json.loads((project / "results/whole/metrics-samples300.json").read_text())
    assert metrics["verdict"]["label"] and metrics["brightness"]["brightness_gap"] >= 0


def test_a_new_prior_and_a_new_metric_to_select_by(project: Path, cache: Path) -> None:
    options = [
        "model=vae_mlp",
        "prior=laplace",
        "model.widths=[32]",
        "model.latent_dim=2",
        "select=brightness_gap",
        "max_steps=9",
        "evaluate_every=3",
        f"dataset.cache={cache}",
    ]
    train = ["train.py", *options, "hydra.run.dir=laplace"]
    infer = [
        "infer.py",
        "checkpoint=laplace",
        f"dataset.cache={cache}",
        "samples=300",
        "figures=[]",
    ]
    run(project, train, infer)

    finished = summary(project / "laplace")
    assert finished["status"] == "finished" and finished["selected"]["by"] == "brightness_gap"
    evaluations = [row["validation"] for row in rows(project / "laplace") if "validation" in row]
    assert all("brightness_gap" in evaluation for evaluation in evaluations)
    figures = {path.stem for path in (project / "laplace/figures").glob("*.png")}
    assert figures >= {"samples", "kl_per_dimension", "latent_atlas", "aggregated_posterior"}
    metrics = json.loads((project / "results/laplace/metrics-samples300.json").read_text())
    assert metrics["elbo"]["kl"] > 0 and metrics["brightness"]["brightness_gap"] >= 0
