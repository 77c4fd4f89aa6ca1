"""The real commands in processes of their own: exit statuses, messages, kill -9, sweeps."""

import csv
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, composed
from hydra.errors import HydraException
from tqdm import tqdm

from genmodels import cli
from genmodels.command_line import check_arguments, explain, in_order, with_lists
from genmodels.formatting import invocation, program
from genmodels.user_errors import UserError

QUICK = [
    *SMALL,
    "model.latent_dim=1",
]  # of one dimension the maps at the end are drawn in half the time


def run(
    *arguments: str, cwd: Path, command: str = "train.py", timeout: float = 120
) -> subprocess.CompletedProcess:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "HYDRA"))
    }
    return subprocess.run(
        [sys.executable, str(ROOT / command), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )


def test_help_and_cfg_answer_without_torch(tmp_path: Path) -> None:
    for command in ("train.py", "infer.py"):
        for argument in (["--help"], ["--cfg", "job"]):
            code = (
                f"import sys, runpy; sys.argv = {[command, *argument]!r}\ntry:\n"
                f"    runpy.run_path({str(ROOT / command)!r}, run_name='__main__')\n"
                "except SystemExit as end:\n"
                "    print('torch' in sys.modules or 'matplotlib' in sys.modules, end.code or 0)"
            )
            done = subprocess.run(
                [sys.executable, "-c", code],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.stdout.splitlines()[-1] == "False 0", done.stdout + done.stderr
    assert "kl_weight=1.0" in run("--help", cwd=tmp_path).stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kl_wieght=3"], "train.py: kl_wieght: unknown setting. Did you mean kl_weight?"),
        (["epochs=abc"], "train.py: epochs=abc: must be an integer"),
        (
            ["dataset=mnist", "dataset.root=/nowhere"],
            "train.py: dataset.root=/nowhere: no MNIST files",
        ),
    ],
)
def test_bad_input_is_refused_in_one_message(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr + done.stdout
    assert len(done.stderr.strip().splitlines()) <= 12
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.latentdim=3"], "model.latentdim: unknown setting. Did you mean model.latent_dim?"),
        (["modle=vae"], "modle: unknown setting. Did you mean model?"),
        (["beta=3"], "beta: unknown setting. Did you mean kl_weight?"),
        (["learning_rate=3"], "learning_rate: unknown setting. Did you mean lr?"),
        (["nz=3"], "nz: unknown setting. Did you mean model.latent_dim?"),
        (["model=gan", "ngf=3"], "ngf: unknown setting. Did you mean model.generator_width?"),
        (["steps=3"], "steps: unknown setting. Did you mean max_steps?"),
        (["model=VAE"], "model=VAE: no such choice; there are cgan, classifier, cvae"),
        (["dataset=MNIST"], "dataset=MNIST: no such choice; there are celeba"),
        (["kl_weight=0,1"], "kl_weight=0,1: several values are a sweep, which needs -m"),
        (["+experiment=mnist"], "+experiment: is there already; write it without the +"),
        (["model=vea"], "model=vea: no such choice; there are cgan, classifier, cvae"),
        (["kl_schedule=cosin"], "kl_schedule=cosin: no such choice; there are constant, cosine"),
        (
            ["model=gan", "kl_weight=30"],
            "kl_weight: not a setting of model=gan; it comes with model=cvae, cvae_mlp, vae, vae_",
        ),
        (["adversarial_loss=hinge"], "adversarial_loss: not a group of the default choices"),
        (["adversarial_loss=hing"], "adversarial_loss: not a group of the default choices"),
        (["model.widths=[1,"], "model.widths=[1,: cannot be read. Settings are written key=value"),
        (["epochs"], "epochs: cannot be read. Settings are written key=value"),
    ],
)
def test_refusals_of_hydra_are_explained(arguments: list[str], message: str) -> None:
    with pytest.raises(HydraException) as caught:
        composed("train", *arguments)
    explanation = explain(caught.value, "train", arguments)
    assert explanation.startswith(message) and "\n" not in explanation


def test_unknown_settings_of_infer_name_its_own_help() -> None:
    with pytest.raises(HydraException) as caught:
        composed("infer", "zzz=3")
    explanation = explain(caught.value, "infer", ["zzz=3"])
    assert explanation == "zzz: unknown setting. `python infer.py --help` lists all"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model=3", "model=3: must be one of cgan, classifier, cvae, cvae_mlp, gan, vae, vae_mlp"),
        ("model=[vae]", "model=[vae]: must be one of cgan"),
        ("model=vae,3", "model=vae,3: must be one of cgan"),
        ("objective=null", "objective=null: must be one of capacity, elbo"),
        ("experiment=null", "experiment=null: must be one of collapse_demo"),
        ("dataset={}", "dataset={}: must be one of celeba"),
        ("~seed", "~seed: settings cannot be deleted"),
        ("~model", "~model: settings cannot be deleted"),
        ("~model.latent_dim", "~model.latent_dim: settings cannot be deleted"),
    ],
)
def test_groups_are_given_names_and_settings_stay(argument: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_arguments("train", ["-m", "seed=1,2", argument])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (
            "train",
            ["--epochs", "3"],
            "--epochs: settings are written without dashes, such as epochs",
        ),
        ("train", ["--lr=0.1"], "--lr=0.1: settings are written without dashes, such as lr=0.1"),
        ("train", ["-m", "--cfg", "job", "kl_weight=0,1"], "--cfg: shows one job; leave out -m"),
        ("train", ["=3"], "=3: settings are written key=value"),
        ("train", ["+=3"], "+=3: settings are written key=value"),
        ("infer", ["runs/x"], r"runs/x: settings are written key=value; checkpoint=runs/x?"),
    ],
)
def test_other_ways_to_write_settings_are_explained(
    command: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_arguments(command, arguments)
    assert str(caught.value).startswith(message)


def test_a_sweep_may_be_asked_for_anywhere() -> None:
    assert in_order(["a=1", "-m", "b=1,2"]) == ["-m", "a=1", "b=1,2"]
    assert in_order(["a=1"]) == ["a=1"]


def test_lists_without_brackets() -> None:
    """They need quotes in zsh; with -m a comma is a sweep, and what is quoted is one value."""
    arguments = ["figures=samples,explorer", "center=1,-0.5", "kl_weight=0,1", "out=a,b"]
    expected = ["figures=[samples,explorer]", "center=[1,-0.5]", "kl_weight=0,1", "out=a,b"]
    assert with_lists(arguments) == expected
    assert with_lists(["-m", *arguments]) == ["-m", *arguments]
    for whole in ("labels=[3,7]", "checkpoint='a,b'", "figures=samples", "figures="):
        assert with_lists([whole]) == [whole]


def test_legal_overrides_pass() -> None:
    legal = ["-m", "model=vae,gan", "+x=3", "hydra/launcher=basic", "~hydra.x", "model.widths=[3]"]
    check_arguments("train", [*legal, "likelihood.gray=bernoulli"])
    check_arguments("train", ["not readable"])  # by Hydra, which says so


def test_a_missing_plugin_names_its_extra(tmp_path: Path) -> None:
    if importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("Optuna's sweeper is installed here")
    done = run("-m", "hydra/sweeper=search_elbo", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.splitlines() == [
        "train.py: optuna: this plugin of Hydra's is not installed; "
        "`uv run --extra search train.py ...` installs it"
    ]


def test_a_process_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `2>&-` starts it: what is written there goes nowhere."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(sys, "stderr", None)

    def work() -> None:
        print("progress", file=sys.stderr)
        assert list(tqdm(range(3), disable=None)) == [0, 1, 2]

    assert cli.run_command(work, "train") == 0


def test_a_reader_that_goes_away(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    """As in `train.py | head -1`: no traceback of logging's, and the run finishes."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    handler = logging.StreamHandler(stream)
    logger = logging.Logger("reader")
    logger.addHandler(handler)
    finished = []

    def work() -> None:
        for _ in range(1000):
            logger.warning("a line of the log " * 20)
        finished.append(True)

    assert cli.run_command(work, "train") == 0 and finished
    stream.close()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, 0),
        (ValueError("wrong"), 1),
        (OSError(28, "No space left on device", "report.html"), 1),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (SystemExit(), 0),
    ],
)
def test_what_comes_at_the_end_comes_however_it_ended(
    error: BaseException | None,
    status: int,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And fails as a command does, in one line."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    done = []

    def work() -> None:
        if error is not None:
            raise error

    assert cli.run_command(work, "train", at_end=lambda: done.append(True)) == status and done
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    assert cli.run_command(lambda: None, "train", at_end=work) == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (2 if status == 1 else 0)
    assert all(line.startswith("train.py: ") for line in lines)


def test_infer_refuses_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("something else")
    done = run("checkpoint=model.safetensors", cwd=tmp_path, command="infer.py")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("infer.py: model.safetensors: ")
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_sweep_with_a_failing_job(tmp_path: Path, cache: Path) -> None:
    """One job of three fails: the others finish, its log says why, a report is there; the same
    command runs only what is missing, and another weight in the list joins the finished ones."""
    options = [*QUICK, "max_steps=4", "evaluate_every=2", f"dataset.cache={cache}"]
    done = run("-m", *options, "kl_weight=0,1e300,30", cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (sweep,) = (tmp_path / "multirun").iterdir()
    assert re.fullmatch(r"digits-vae_mlp-kl_weight-[0-9a-f]{6}", sweep.name)
    jobs = {path.name.split("-")[3]: path for path in sweep.iterdir() if path.is_dir()}
    statuses = {
        name: json.loads((path / "summary.json").read_text())["status"]
        for name, path in jobs.items()
    }
    assert sorted(statuses.values()) == ["failed", "finished", "finished"]
    (failed,) = (
        path
        for path in sweep.iterdir()
        if path.is_dir() and not (path / "model.safetensors").exists()
    )
    assert "is not finite" in (failed / "train.log").read_text()
    table = list(csv.DictReader((sweep / "report.csv").read_text().splitlines()))
    assert [(float(line["kl_weight"]), line["status"]) for line in table] == [
        (0, "finished"),
        (30, "finished"),
        (1e300, "failed"),
    ]
    assert "failed" in done.stdout and (sweep / "report.html").stat().st_size > 20_000
    assert (sweep / "report.png").exists()

    stamps = {path: path.stat().st_mtime_ns for path in sweep.glob("*/model.safetensors")}
    again = run("-m", *options, "kl_weight=0,1,30", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (
        again.stdout.count("is finished") == 2 and len(list(sweep.glob("*/model.safetensors"))) == 3
    )
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_the_report_module_by_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "genmodels.report", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode == 1
        and done.stderr.strip() == f"genmodels.report: {tmp_path}: no runs there"
    )


def test_installed_scripts_have_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (program("infer"), invocation("train")) == ("infer.py", "python train.py")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/genmodels-train", "kl_weight=3"])
    assert (program("infer"), invocation("train")) == ("genmodels-infer", "genmodels-train")
