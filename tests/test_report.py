"""The sweep report from run folders that the tests write: what was swept, means over seeds, statuses, pictures."""

import base64
import csv
import dataclasses
import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.image import imsave

from genmodels import report
from genmodels.report import runs as report_jobs
from genmodels.report import tables
from genmodels.report.__main__ import main
from genmodels.report.anova import influence
from genmodels.report.runs import Group, Job


def write_run(
    folder: Path,
    *,
    elbo: float | None = None,
    status: str = "finished",
    pictures: bool = True,
    **settings: object,
) -> None:
    """A run folder as train.py leaves it, with these settings."""
    folder.mkdir(parents=True)
    choices = {
        "model": settings.pop("model", "vae"),
        "kl_schedule": settings.pop("kl_schedule", "linear"),
    }
    weight = settings.get("kl_weight", 1.0)
    config = {
        "seed": 0,
        "kl_weight": 1.0,
        "epochs": 3,
        "device": "cpu",
        **settings,
        "trainer": {
            "kl_weight": weight,
            "kl_schedule": {"_target_": f"schedules.{choices['kl_schedule']}"},
        },
        "kl_schedule": {"_target_": f"schedules.{choices['kl_schedule']}"},
        "model": {"_target_": f"models.{choices['model']}"},
        "choices": choices,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    summary: dict = {"status": status, "seconds": 12.5}
    if elbo is not None:
        summary["metrics"] = {
            "test": {"elbo": elbo, "elbo_standard_error": 0.1, "rate": 5.0, "n": 100}
        }
        rows = [
            {"step": step, "validation": {"elbo": elbo * 10 / step, "n": 50}} for step in (5, 10)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if pictures:
        (folder / "figures").mkdir()
        for step in (5, 10):
            imsave(
                folder / "figures" / f"samples-{step:08d}.png",
                np.full((20, 50, 3), step * 20, np.uint8),
            )
    (folder / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for weight, values in {
        0.0: (-100.0, -110.0),
        1.0: (-90.0, -92.0),
        30.0: (-205.0, None),
    }.items():
        for seed, elbo in enumerate(values):
            write_run(
                tmp_path / f"kl{weight:g}-seed{seed}",
                elbo=elbo,
                kl_weight=weight,
                seed=seed,
                status="failed" if elbo is None else "finished",
                pictures=elbo is not None,
                device=f"cuda:{seed}",
            )
    return tmp_path


def test_what_was_swept(sweep: Path) -> None:
    jobs = [report_jobs.read_job(folder) for folder in sweep.iterdir()]
    assert report_jobs.swept_settings(jobs) == [
        "kl_weight",
        "seed",
    ]  # neither trainer.kl_weight nor device


def test_a_swept_group_stands_for_its_settings(tmp_path: Path) -> None:
    write_run(tmp_path / "a", elbo=-1.0, kl_schedule="linear", model="vae", epochs=3)
    write_run(tmp_path / "b", elbo=-1.0, kl_schedule="cosine", model="vae_mlp", epochs=4)
    jobs = [report_jobs.read_job(tmp_path / name) for name in "ab"]
    assert report_jobs.swept_settings(jobs) == ["kl_schedule", "model"]


def test_what_a_choice_brings_is_not_swept_unless_it_is() -> None:
    """Wasserstein's penalty comes with it; another lr for the same model was chosen."""

    def jobs(*triples: tuple) -> list[Job]:
        return [
            Job(
                Path("x"),
                {
                    "adversarial_loss": loss,
                    "penalty.gradient": weight,
                    "trainer.penalty.gradient": weight,
                    "model": model,
                    "lr": lr,
                },
                {},
                [],
            )
            for loss, weight, model, lr in triples
        ]

    assert report_jobs.swept_settings(
        jobs(("hinge", 0, "gan", 1), ("wasserstein", 10, "gan", 1))
    ) == ["adversarial_loss"]
    assert report_jobs.swept_settings(jobs(("hinge", 0, "gan", 1), ("hinge", 0, "vae", 2))) == [
        "model"
    ]
    assert report_jobs.swept_settings(
        jobs(("hinge", 0, "gan", 1), ("hinge", 0, "gan", 2), ("hinge", 0, "vae", 3))
    ) == ["lr", "model"]
    assert report_jobs.swept_settings(jobs(("hinge", 0, "gan", 1), ("hinge", 5, "gan", 1))) == [
        "penalty.gradient"
    ]
    cures = [
        Job(Path("x"), {"objective": objective, "kl_schedule": schedule}, {}, [])
        for objective, schedule in (("elbo", "linear"), ("capacity", "late"))
    ]
    assert report_jobs.swept_settings(cures) == ["objective"]


def test_tables(sweep: Path, capsys: pytest.CaptureFixture) -> None:
    jobs = report.write([sweep])
    assert [(job.settings["kl_weight"], job.settings["seed"]) for job in jobs] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
        (30, 0),
        (30, 1),
    ]
    groups = tables.group_table(report_jobs.grouped(jobs, ["kl_weight", "seed"]))
    assert [(row["kl_weight"], row["n"], row["elbo"]) for row in groups] == [
        (0, 2, "-105.00 ± 7.07"),
        (1, 2, "-91.00 ± 1.41"),
        (30, 1, "-205.00"),
    ]
    with open(sweep / "report.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert (
        lines[0]["elbo"] == "-100.0" and lines[-1]["status"] == "failed" and lines[-1]["elbo"] == ""
    )
    printed = capsys.readouterr().out
    assert re.search(r"kl30-seed1 +30 +1 +failed", printed) and "report.html" in printed


def test_one_self_contained_page(sweep: Path) -> None:
    report.write([sweep])
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert (
        page.count("data:image/png;base64,") == 1 + 5
    )  # the overview, and one sheet of samples for each run
    assert "-91.00 ± 1.41" in page and 'class="failed"' in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    newest = report_jobs.read_job(sweep / "kl0-seed0").newest("samples")
    assert newest is not None and newest.name == "samples-00000010.png"
    assert base64.b64encode(newest.read_bytes()).decode() in page
    from matplotlib.image import imread

    assert imread(sweep / "report.png").shape[1] == 13 * 150


def test_what_users_name_is_escaped(tmp_path: Path) -> None:
    write_run(tmp_path / "a", elbo=-1.0, notes="<script>alert(1)</script>")
    write_run(tmp_path / "b", elbo=-1.0, notes="x")
    report.write([tmp_path])
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_a_killed_run_is_not_running(tmp_path: Path) -> None:
    from filelock import FileLock

    write_run(tmp_path / "a", status="running")
    assert report_jobs.read_job(tmp_path / "a").summary["status"] == "interrupted"
    with FileLock(tmp_path / "a" / ".lock"):
        assert report_jobs.read_job(tmp_path / "a").summary["status"] == "running"


def test_runs_that_left_nothing_but_a_status(tmp_path: Path) -> None:
    write_run(tmp_path / "a", status="failed", pictures=False)
    assert len(report.write([tmp_path])) == 1 and (tmp_path / "report.html").exists()


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path)]) == 1 and "no runs there" in capsys.readouterr().err
    assert main([]) == 1 and "usage:" in capsys.readouterr().err


def planted(
    noise: float, effects: dict[str, dict], *, seeds: int = 3
) -> tuple[dict[str, list], list[float]]:
    """The settings of a full grid, and a metric that is a sum of effects of their values, and of noise."""
    random = np.random.default_rng(0)
    grid = list(itertools.product(*(of.keys() for of in effects.values()), range(seeds)))
    sums = [
        sum(of[value] for of, value in zip(effects.values(), row, strict=False)) for row in grid
    ]
    metric = (np.array(sums) + noise * random.standard_normal(len(grid))).tolist()
    return {name: [row[index] for row in grid] for index, name in enumerate(effects)}, metric


def test_influence_of_planted_effects() -> None:
    """Variances of the effects 4, 1, 0, and 0.25 of the noise: shares of 5.25."""
    effects = {
        "kl_weight": {0.1: -2.0, 1.0: 2.0},
        "kl_schedule": {"linear": 1.0, "cyclical": -1.0},
        "latent_dim": dict.fromkeys((2, 8, 32), 0.0),
    }
    found = influence(*planted(0.5, effects, seeds=20))
    assert found is not None
    for name, share in {"kl_weight": 4 / 5.25, "kl_schedule": 1 / 5.25, "latent_dim": 0.0}.items():
        of = found.knobs[name]
        assert of.value == pytest.approx(share, abs=0.03)
        assert (
            of.low is not None and of.high is not None and of.low - 0.02 <= share <= of.high + 0.02
        )
    assert found.seed is not None and found.seed.value == pytest.approx(0.25 / 5.25, abs=0.015)
    assert found.rest.value < 0.01 and found.repeats == 12 * 19 and not found.warnings


def test_the_mean_at_each_value_is_that_of_the_other_settings_means() -> None:
    """Also in a design that is not balanced, where plain means would mix effects."""
    a, b = [0, 0, 0, 1, 1, 1, 1], [10, 10, 2, 2, 2, 2, 10]
    found = influence({"a": a, "b": b}, [5.0 * x + y for x, y in zip(a, b, strict=True)])
    assert found is not None
    assert list(found.means) == ["a", "b"] and list(found.means["b"]) == [
        "2",
        "10",
    ]  # by value, not by letter
    assert found.means["a"]["1"] - found.means["a"]["0"] == pytest.approx(5)
    assert found.means["b"]["10"] - found.means["b"]["2"] == pytest.approx(8)
    assert sum(found.means["a"][str(x)] for x in a) / 7 == pytest.approx(
        np.mean(5 * np.array(a) + b)
    )


def test_influence_of_noise_alone_is_the_seeds() -> None:
    found = influence(
        *planted(1.0, {"a": dict.fromkeys("xyz", 0.0), "b": dict.fromkeys("uv", 0.0)}, seeds=30)
    )
    assert found is not None
    assert found.seed is not None and found.seed.value > 0.95
    assert all(share.value < 0.03 for share in found.knobs.values())


def test_influence_of_combinations() -> None:
    """a * b, each -1 or 1: neither has an effect of its own."""
    settings = {"a": [-1, -1, 1, 1] * 2, "b": [-1, 1, -1, 1] * 2}
    metric = [
        a * b + 0.01 * index for index, (a, b) in enumerate(zip(*settings.values(), strict=True))
    ]
    found = influence(settings, metric)
    assert found is not None
    assert found.rest.value > 0.99 and all(share.value < 0.01 for share in found.knobs.values())


def test_influence_in_a_fraction_of_the_grid_and_of_many_numbers() -> None:
    random = np.random.default_rng(1)
    a, b, lr = (
        random.integers(0, 3, 200),
        random.integers(0, 2, 200),
        10 ** random.uniform(-4, -2, 200),
    )
    metric = 2.0 * b + 0.001 * a + np.log10(lr) + 0.01 * random.standard_normal(200)
    found = influence({"a": a.tolist(), "b": b.tolist(), "lr": lr.tolist()}, metric)
    assert found is not None
    assert found.seed is None and found.knobs["a"].value < 0.01
    variances = {"b": 4 * b.var(), "lr": np.log10(lr).var()}
    for name, variance in variances.items():  # four levels of lr lose some of it
        assert found.knobs[name].value == pytest.approx(variance / metric.var(), abs=0.05)
    assert found.knobs["b"].low is None and "no settings were run twice" in found.warnings[0]


def test_settings_that_go_together_are_named() -> None:
    found = influence({"a": [0, 0, 1, 1], "b": ["x", "x", "y", "y"]}, [0.0, 0.1, 1.0, 1.1])
    assert found is not None and any(
        "a cannot be told apart" in warning for warning in found.warnings
    )
    assert (
        found.knobs == {"a": None, "b": None}
        and found.means == {}
        and tables.percent(found.knobs["a"]) == "?"
    )
    assert found.rest.value < 0.05  # together they explain all


def test_nothing_is_told_of_too_few_runs() -> None:
    assert influence({"a": [0, 1]}, [0.0, 1.0]) is None  # no more runs than levels
    assert influence({"a": [0, 0, 0]}, [0.0, 1.0, 2.0]) is None
    assert influence({"a": [0, 1, 2], "b": [5, 6, 5]}, [0.0, 1.0, 2.0]) is None
    assert influence({}, [0.0, 1.0, 2.0]) is None


def group(*values: float, name: str = "elbo") -> Group:
    return Group(
        {}, [Job(Path("x"), {}, {"metrics": {"test": {name: value}}}, []) for value in values]
    )


@pytest.mark.parametrize(
    ("groups", "name", "chosen"),
    [
        ([group(-90, -91), group(-100, -101)], "elbo", 0),
        ([group(-90, -99), group(-91, -101)], "elbo", None),  # within the spread of the seeds
        ([group(-90), group(-100)], "elbo", None),  # of one seed nothing is known
        ([group(9, 10, name="kid"), group(1, 2, name="kid")], "kid", 1),  # less is better
        ([group(9, 10, name="rate"), group(1, 2, name="rate")], "rate", None),
    ],
)
def test_the_best_is_marked_beyond_the_spread_of_seeds(
    groups: list[Group], name: str, chosen: int | None
) -> None:
    if name == "kid":  # of the validation part
        groups = [
            Group(
                {},
                [
                    Job(
                        Path("x"),
                        {},
                        {
                            "metrics": {
                                "test": {},
                                "validation": job.metrics
                                or {"kid": job.summary["metrics"]["test"]["kid"]},
                            }
                        },
                        [],
                    )
                    for job in of.jobs
                ],
            )
            for of in groups
        ]
    assert tables.best(groups, name) == chosen


def test_settings_that_only_look_alike_are_two() -> None:
    jobs = [Job(Path("x"), {"lr": lr}, {}, []) for lr in (0.00121, 0.00119, 0.00121)]
    assert [len(of.jobs) for of in report_jobs.grouped(jobs, ["lr"])] == [2, 1]


def test_a_setting_that_is_another_again_was_not_swept() -> None:
    """penalty.r2, which an experiment sets to penalty.r1."""
    jobs = [
        Job(Path("x"), {"penalty.r1": value, "penalty.r2": value, "lr": lr}, {}, [])
        for value, lr in ((0, 1), (5, 1), (5, 2))
    ]
    assert report_jobs.swept_settings(jobs) == ["lr", "penalty.r1"]


def judged(elbo: float, verdict: str, **settings: object) -> Job:
    return Job(
        Path("x"),
        settings,
        {"status": "finished", "metrics": {"test": {"elbo": elbo}}, "verdict": {"label": verdict}},
        [],
    )


def test_what_a_sweep_says() -> None:
    jobs = [
        judged(elbo, verdict, kl_weight=weight, seed=seed)
        for weight, elbos, verdict in (
            (1, (-90.0, -91.0), "healthy"),
            (2, (-90.5, -92.5), "healthy"),
            (30, (-200.0, -200.5), "COLLAPSED"),
        )
        for seed, elbo in enumerate(elbos)
    ]
    groups = report_jobs.grouped(jobs, ["kl_weight", "seed"])
    first, second, share, verdicts = tables.findings(
        groups, tables.influences(jobs, ["kl_weight", "seed"])
    )
    assert first == "Best elbo: kl_weight 1, with -90.50 ± 0.71."
    assert second == "That is not beyond the spread of the seeds: kl_weight 2 has -91.50 ± 1.41."
    assert re.fullmatch(
        r"Of the variance of elbo: kl_weight 100 % \[\d+-100\], the seed 0 % \[0-0\]\.", share
    )
    assert verdicts == "Verdicts: 4 healthy, 2 COLLAPSED."
    assert [row["verdict"] for row in tables.group_table(groups)] == [
        "healthy",
        "healthy",
        "COLLAPSED",
    ]
    alone = report_jobs.grouped(
        [job for job in jobs if job.settings["seed"] == 0], ["kl_weight", "seed"]
    )
    assert "cannot be told: the two best were not both repeated" in tables.findings(alone, {})[1]
    assert tables.findings(alone[:1], {}) == ["Verdicts: healthy."]


def test_what_each_of_several_settings_does() -> None:
    jobs = [
        judged(-100.0 + 4 * wide + 10 * latent, "healthy", wide=wide, latent=latent)
        for wide in (0, 1, 2)
        for latent in (0, 1)
    ]
    found = tables.influences(jobs, ["latent", "wide"])
    groups = report_jobs.grouped(jobs, ["latent", "wide"])
    assert tables.means_of(groups, found) == [
        {"setting": "latent", "mean elbo at each of its values": "0: -96.00; 1: -86.00"},
        {"setting": "wide", "mean elbo at each of its values": "0: -95.00; 1: -91.00; 2: -87.00"},
    ]
    one = dataclasses.replace(found["elbo"], knobs={"wide": found["elbo"].knobs["wide"]})
    assert (
        tables.means_of(groups, {"elbo": one}) == tables.means_of(groups, {}) == []
    )  # the settings' table has it


def test_of_a_fraction_of_a_grid_the_best_come_first(tmp_path: Path) -> None:
    """Its points are one axis of the wall, and there are no places without a run."""
    for index, (weight, latent, elbo) in enumerate(
        [(1.0, 2, -100.0), (1.0, 8, -90.0), (3.0, 2, -80.0)]
    ):
        write_run(tmp_path / str(index), elbo=elbo, kl_weight=weight, latent_dim=latent)
    report.write([tmp_path])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    wall = json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert wall["axes"] == [
        {
            "name": "setting",
            "values": [
                "kl_weight 3, latent_dim 2",
                "kl_weight 1, latent_dim 8",
                "kl_weight 1, latent_dim 2",
            ],
        }
    ]
    assert [run["place"] for run in wall["runs"]] == [[0], [1], [2]]


def test_many_settings_are_coloured_by_the_strongest() -> None:
    from genmodels.report.overview import _lines

    jobs = [
        judged(10.0 * lr + weight, "healthy", kl_weight=weight, lr=lr)
        for weight in range(5)
        for lr in (1, 2, 3)
    ]
    groups = report_jobs.grouped(jobs, ["kl_weight", "lr"])
    lines = _lines(groups, tables.influences(jobs, ["kl_weight", "lr"]))
    assert {line: len(of) for line, of in lines.items()} == {"lr 1": 5, "lr 2": 5, "lr 3": 5}


def test_runs_that_do_not_compare_are_named() -> None:
    def jobs(**second: object) -> list[Job]:
        facts = {
            "parameters": 10,
            "step": 100,
            "data": "abc",
            "provenance": {"git_commit": "1"},
            "status": "finished",
        }
        return [
            Job(Path("x"), {"kl_weight": 1}, facts, []),
            Job(Path("y"), {"kl_weight": 2}, facts | second, []),
        ]

    def said(swept: list[str], **second: object) -> list[str]:
        return list(report_jobs.differences(jobs(**second), swept))

    assert not said(["kl_weight"])
    assert said(["kl_weight"], parameters=11) == [
        "The runs differ in parameters (10, 11), which was not swept."
    ]
    assert not said(["model.latent_dim"], parameters=11) and not said(["epochs"], step=200)
    assert "steps" in said(["kl_weight"], step=200)[0] and "data" in said(["seed"], data="x")[0]
    assert "code version (1, 2)" in said(["model"], provenance={"git_commit": "2"})[0]
    assert not said(["kl_weight"], step=50, status="interrupted")


def test_a_table_for_latex(sweep: Path) -> None:
    report.write([sweep])
    lines = (sweep / "report.tex").read_text(encoding="utf-8").splitlines()
    assert lines[0] == r"\begin{tabular}{llll}" and lines[2] == r"kl weight & n & elbo & rate \\"
    assert lines[5] == r"1 & 2 & \textbf{-91.00 $\pm$ 1.41} & 5.00 $\pm$ 0.00 \\"
    assert tables.latex_table([Group({"a_b": "50 %"}, [])]).count(r"50 \%") == 1


def test_the_page_in_a_browser(sweep: Path) -> None:
    """Every picture is shown beside its setting, and a slider chooses among the seeds."""
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        pytest.skip("there is no Chromium here")
    report.write([sweep])
    page = (sweep / "report.html").read_text(encoding="utf-8")
    turned = sweep / "turned.html"  # as a user would leave it: the seed's slider moved to the right
    turned.write_text(
        page.replace(
            "</html>",
            """<script>
      const range = document.querySelector("input[type=range][aria-label=seed]");
      range.value = 1; range.dispatchEvent(new Event("input"));
    </script></html>""",
        ),
        encoding="utf-8",
    )
    seen = {}
    for name in ("report.html", "turned.html"):
        done = subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--dump-dom",
                (sweep / name).as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        wall = done.stdout.split('<div id="wall"')[1].split("<h2>Runs")[0]
        seen[name] = re.findall(r"<b>(kl_weight \d+)</b>[^<]*", wall), wall.count("<img"), wall
    assert seen["report.html"][:2] == (["kl_weight 0", "kl_weight 1", "kl_weight 30"], 3)
    assert seen["turned.html"][1] == 2 and "failed; no such picture" in seen["turned.html"][2]
    assert "elbo -100" in seen["report.html"][2] and "elbo -110" in seen["turned.html"][2]
