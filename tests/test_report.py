"""The sweep report from run folders that the tests write: what was swept, means over seeds, statuses, pictures."""

import base64
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.image import imsave

from genmodels import report


def write_run(folder: Path, *, elbo: float | None = None, status: str = "finished", pictures: bool = True,
              **settings: object) -> None:
    """A run folder as train.py leaves it, with these settings."""
    folder.mkdir(parents=True)
    choices = {"model": settings.pop("model", "vae"), "kl_schedule": settings.pop("kl_schedule", "linear")}
    weight = settings.get("kl_weight", 1.0)
    config = {"seed": 0, "kl_weight": 1.0, "epochs": 3, "device": "cpu", **settings,
              "trainer": {"kl_weight": weight, "kl_schedule": {"_target_": f"schedules.{choices['kl_schedule']}"}},
              "kl_schedule": {"_target_": f"schedules.{choices['kl_schedule']}"},
              "model": {"_target_": f"models.{choices['model']}"}, "choices": choices}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    summary: dict = {"status": status, "seconds": 12.5}
    if elbo is not None:
        summary["metrics"] = {"test": {"elbo": elbo, "elbo_standard_error": 0.1, "rate": 5.0, "n": 100}}
        rows = [{"step": step, "validation": {"elbo": elbo * 10 / step, "n": 50}} for step in (5, 10)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if pictures:
        (folder / "figures").mkdir()
        for step in (5, 10):
            imsave(folder / "figures" / f"samples-{step:08d}.png", np.full((20, 50, 3), step * 20, np.uint8))
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for weight, values in {0.0: (-100.0, -110.0), 1.0: (-90.0, -92.0), 30.0: (-205.0, None)}.items():
        for seed, elbo in enumerate(values):
            write_run(tmp_path / f"kl{weight:g}-seed{seed}", elbo=elbo, kl_weight=weight, seed=seed,
                      status="failed" if elbo is None else "finished", pictures=elbo is not None, device=f"cuda:{seed}")
    return tmp_path


def test_what_was_swept(sweep: Path) -> None:
    jobs = [report.read_job(folder) for folder in sweep.iterdir()]
    assert report.swept_settings(jobs) == ["kl_weight", "seed"]     # neither trainer.kl_weight nor device


def test_a_swept_group_stands_for_its_settings(tmp_path: Path) -> None:
    write_run(tmp_path / "a", elbo=-1.0, kl_schedule="linear", model="vae", epochs=3)
    write_run(tmp_path / "b", elbo=-1.0, kl_schedule="cosine", model="vae_mlp", epochs=4)
    assert report.swept_settings([report.read_job(tmp_path / name) for name in "ab"]) == ["kl_schedule", "model"]


def test_what_a_choice_brings_is_not_swept_unless_it_is() -> None:
    """Wasserstein's penalty comes with it; another lr for the same model was chosen."""
    def jobs(*triples: tuple) -> list[report.Job]:
        return [report.Job(Path("x"), {"adversarial_loss": loss, "penalty.gradient": weight,
                                       "trainer.penalty.gradient": weight, "model": model, "lr": lr}, {}, [])
                for loss, weight, model, lr in triples]

    assert report.swept_settings(jobs(("hinge", 0, "gan", 1), ("wasserstein", 10, "gan", 1))) == ["adversarial_loss"]
    assert report.swept_settings(jobs(("hinge", 0, "gan", 1), ("hinge", 0, "vae", 2))) == ["model"]
    assert report.swept_settings(jobs(
        ("hinge", 0, "gan", 1), ("hinge", 0, "gan", 2), ("hinge", 0, "vae", 3))) == ["lr", "model"]
    assert report.swept_settings(jobs(("hinge", 0, "gan", 1), ("hinge", 5, "gan", 1))) == ["penalty.gradient"]
    cures = [report.Job(Path("x"), {"objective": objective, "kl_schedule": schedule}, {}, [])
             for objective, schedule in (("elbo", "linear"), ("capacity", "late"))]
    assert report.swept_settings(cures) == ["objective"]


def test_tables(sweep: Path, capsys: pytest.CaptureFixture) -> None:
    jobs = report.write([sweep])
    assert [(job.settings["kl_weight"], job.settings["seed"]) for job in jobs] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (30, 0), (30, 1)]
    groups = report.group_table(jobs, ["kl_weight", "seed"])
    assert [(row["kl_weight"], row["n"], row["elbo"]) for row in groups] == [
        (0, 2, "-105.00 ± 7.07"), (1, 2, "-91.00 ± 1.41"), (30, 1, "-205.00")]
    with open(sweep / "report.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines[0]["elbo"] == "-100.0" and lines[-1]["status"] == "failed" and lines[-1]["elbo"] == ""
    printed = capsys.readouterr().out
    assert re.search(r"kl30-seed1 +30 +1 +failed", printed) and "report.html" in printed


def test_one_self_contained_page(sweep: Path) -> None:
    report.write([sweep])
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 1 + 5        # the curves, and one sheet of samples for each run
    assert "-91.00 ± 1.41" in page and 'class="failed"' in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    newest = report.read_job(sweep / "kl0-seed0").newest("samples")
    assert newest is not None and newest.name == "samples-00000010.png"
    assert base64.b64encode(newest.read_bytes()).decode() in page
    from matplotlib.image import imread
    assert imread(sweep / "report.png").shape[1] == 13 * 150


def test_what_users_name_is_escaped(tmp_path: Path) -> None:
    write_run(tmp_path / "a", elbo=-1.0, notes="<script>alert(1)</script>")
    write_run(tmp_path / "b", elbo=-1.0, notes="x")
    report.write([tmp_path])
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_a_killed_run_is_not_running(tmp_path: Path) -> None:
    from filelock import FileLock
    write_run(tmp_path / "a", status="running")
    assert report.read_job(tmp_path / "a").summary["status"] == "interrupted"
    with FileLock(tmp_path / "a" / ".lock"):
        assert report.read_job(tmp_path / "a").summary["status"] == "running"


def test_runs_that_left_nothing_but_a_status(tmp_path: Path) -> None:
    write_run(tmp_path / "a", status="failed", pictures=False)
    assert len(report.write([tmp_path])) == 1 and (tmp_path / "report.html").exists()


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert report.main([str(tmp_path)]) == 1 and "no runs there" in capsys.readouterr().err
    assert report.main([]) == 1 and "usage:" in capsys.readouterr().err
