"""The report of a sweep from run folders that the tests write."""

import base64
import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import needs_chromium, run_in_page
from filelock import FileLock
from matplotlib.image import imread, imsave

from genmodels.report import charts, influence, overview, pictures, tables
from genmodels.report import write as write_module
from genmodels.report.__main__ import main
from genmodels.report.findings import findings
from genmodels.report.runs import RunRecord, read_run
from genmodels.report.sweep import Sweep
from genmodels.report.swept_settings import swept_settings, unswept_differences
from genmodels.report.write import write
from genmodels.settings import write_settings


def write_run(
    folder: Path,
    *,
    elbo: float | None = None,
    test_elbo: float | None = None,
    status: str = "finished",
    snapshots: bool = True,
    **settings: object,
) -> None:
    """A run folder as train.py leaves it, with these settings; the ELBO is that of validation."""
    folder.mkdir(parents=True)
    choices = {
        "model": settings.pop("model", "vae"),
        "kl_schedule": settings.pop("kl_schedule", "linear"),
    }
    kl_schedule = {"_target_": f"schedules.{choices['kl_schedule']}"}
    config = {"seed": 0, "kl_weight": 1.0, "epochs": 3, "device": "cpu"} | settings
    config |= {
        "trainer": {"kl_weight": config["kl_weight"], "kl_schedule": kl_schedule},
        "kl_schedule": kl_schedule,
        "model": {"_target_": f"models.{choices['model']}"},
        "choices": choices,
    }
    write_settings(folder, config)
    summary: dict = {"status": status, "seconds": 12.5}
    if elbo is not None:
        validation = {"elbo": elbo, "elbo_standard_error": 0.1, "kl": 5.0, "n": 100}
        test = validation | {"elbo": elbo - 1 if test_elbo is None else test_elbo}
        summary["metrics"] = {"validation": validation, "test": test}
        rows = ""
        for step in (5, 10):
            row = {"step": step, "validation": {"elbo": elbo * 10 / step, "n": 50}}
            rows += json.dumps(row) + "\n"
        (folder / "metrics.jsonl").write_text(rows)
    if snapshots:
        (folder / "figures/history").mkdir(parents=True)
        for step in (5, 10):
            sheet = np.full((20, 50, 3), step * 20, np.uint8)
            imsave(folder / "figures/history" / f"samples-{step:08d}.png", sheet)
    (folder / "summary.json").write_text(json.dumps(summary))


def record(elbo: float | None = None, verdict: str | None = None, **settings: object) -> RunRecord:
    """A finished run with these settings, its ELBO and verdict."""
    summary: dict = {"status": "finished"}
    if elbo is not None:
        summary["metrics"] = {"validation": {"elbo": elbo}, "test": {"elbo": elbo - 1}}
    if verdict is not None:
        summary["verdict"] = {"label": verdict}
    return RunRecord(Path("x"), settings, summary, [])


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    elbos = {0.0: (-100.0, -110.0), 1.0: (-90.0, -92.0), 30.0: (-205.0, None)}
    for weight, of_seeds in elbos.items():
        for seed, elbo in enumerate(of_seeds):
            write_run(
                tmp_path / f"kl{weight:g}-seed{seed}",
                elbo=elbo,
                kl_weight=weight,
                seed=seed,
                status="failed" if elbo is None else "finished",
                snapshots=elbo is not None,
                device=f"cuda:{seed}",
            )
    return tmp_path


def grid_of(folder: Path) -> dict:
    """The grid of snapshots in a report.html."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(re.findall(r'id="data">(.*?)</script>', page, re.DOTALL)[0])


# What was swept


def test_copies_and_neutral_settings_are_not_swept(sweep: Path) -> None:
    """Neither trainer.kl_weight, which is kl_weight, nor device."""
    runs = [read_run(folder) for folder in sweep.iterdir()]
    assert swept_settings(runs) == ["kl_weight", "seed"]


def test_a_swept_group_stands_for_its_settings(tmp_path: Path) -> None:
    write_run(tmp_path / "a", elbo=-1.0, kl_schedule="linear", model="vae", epochs=3)
    write_run(tmp_path / "b", elbo=-1.0, kl_schedule="cosine", model="vae_mlp", epochs=4)
    runs = [read_run(tmp_path / name) for name in "ab"]
    assert swept_settings(runs) == ["kl_schedule", "model"]


def gan(loss: str, weight: float, model: str = "gan", lr: float = 1) -> dict[str, object]:
    penalty = {"penalty.gradient": weight, "trainer.penalty.gradient": weight}
    return {"adversarial_loss": loss, "model": model, "lr": lr, **penalty}


@pytest.mark.parametrize(
    ("settings", "swept"),
    [
        ([gan("hinge", 0), gan("wasserstein", 10)], ["adversarial_loss"]),
        ([gan("hinge", 0), gan("hinge", 0, "vae", 2)], ["model"]),
        ([gan("hinge", 0), gan("hinge", 0, lr=2), gan("hinge", 0, "vae", 3)], ["lr", "model"]),
        ([gan("hinge", 0), gan("hinge", 5)], ["penalty.gradient"]),
        (
            [
                {"objective": "elbo", "kl_schedule": "linear"},
                {"objective": "capacity", "kl_schedule": "late"},
            ],
            ["objective"],
        ),
        (
            [
                {"model": "vae", "trainer": "vae", "optimizer": "adamw", "kl_weight": 1},
                {"model": "gan", "trainer": "gan", "optimizer": "adam", "penalty": "r1"},
            ],
            ["model"],
        ),
        (
            [
                {"dataset": "digits", "model.image_shape": [1, 28, 28], "likelihood": "bernoulli"},
                {"dataset": "cifar10", "model.image_shape": [3, 32, 32], "likelihood": "gaussian"},
            ],
            ["dataset"],
        ),
    ],
)
def test_defaults_of_a_choice_are_not_swept(settings: list[dict], swept: list[str]) -> None:
    """Wasserstein brings its penalty; another lr for the same model was chosen."""
    assert swept_settings([record(**of_run) for of_run in settings]) == swept


def test_of_two_settings_with_equal_values_one_was_swept() -> None:
    """penalty.r2, which an experiment sets to penalty.r1."""
    pairs = [(0, 1), (5, 1), (5, 2)]
    runs = [record(**{"penalty.r1": r, "penalty.r2": r, "lr": lr}) for r, lr in pairs]
    assert swept_settings(runs) == ["lr", "penalty.r1"]


def test_settings_with_the_same_text_in_tables_are_two() -> None:
    groups = Sweep([record(lr=lr) for lr in (0.00121, 0.00119, 0.00121)]).groups
    assert [len(group.runs) for group in groups] == [1, 2]


@pytest.mark.parametrize(
    ("swept", "other", "expected"),
    [
        ("kl_weight", {}, None),
        ("kl_weight", {"parameters": 11}, "parameters (10, 11), which was not swept."),
        ("model.latent_dim", {"parameters": 11}, None),
        ("epochs", {"step": 200}, None),
        ("kl_weight", {"step": 200}, "steps (100, 200)"),
        ("seed", {"data": "x"}, "data (abc, x)"),
        ("model", {"provenance": {"git_commit": "2"}}, "code version (1, 2)"),
        ("kl_weight", {"step": 50, "status": "interrupted"}, None),
    ],
)
def test_runs_that_cannot_be_compared(swept: str, other: dict, expected: str | None) -> None:
    summary = {
        "parameters": 10,
        "step": 100,
        "data": "abc",
        "provenance": {"git_commit": "1"},
        "status": "finished",
    }
    runs = [RunRecord(Path("x"), {}, facts, []) for facts in (summary, summary | other)]
    sentences = unswept_differences(runs, [swept])
    assert len(sentences) == (expected is not None)
    assert expected is None or sentences[0].startswith("The runs differ in ")
    assert expected is None or expected in sentences[0]


# Means over seeds, and what they show


def scored(metric: str, *values_of_groups: tuple[float, ...]) -> Sweep:
    """A sweep over kl_weight with the values of a metric for each seed."""
    runs = []
    for weight, values in enumerate(values_of_groups):
        for seed, value in enumerate(values):
            summary = {"metrics": {"validation": {metric: value}}}
            settings = {"kl_weight": weight, "seed": seed}
            runs.append(RunRecord(Path("x"), settings, summary, []))
    return Sweep(runs)


@pytest.mark.parametrize(
    ("sweep", "metric", "best"),
    [
        (scored("elbo", (-90, -91), (-100, -101)), "elbo", 0),
        (scored("elbo", (-90, -99), (-91, -101)), "elbo", None),  # within the noise
        (scored("elbo", (-90,), (-100,)), "elbo", None),  # without repeats
        (scored("kid", (9, 10), (1, 2)), "kid", 1),  # lower is better
        (scored("kl", (9, 10), (1, 2)), "kl", None),  # without a direction
    ],
)
def test_the_best_is_better_by_more_than_the_seeds_noise(
    sweep: Sweep, metric: str, best: int | None
) -> None:
    assert sweep.metrics == [metric] and sweep.best(metric) == best


def test_findings() -> None:
    runs = []
    for weight, elbos, verdict in (
        (1, (-90.0, -91.0), "healthy"),
        (2, (-90.5, -92.5), "healthy"),
        (30, (-200.0, -200.5), "COLLAPSED"),
    ):
        for seed, elbo in enumerate(elbos):
            runs.append(record(elbo, verdict, kl_weight=weight, seed=seed))
    sweep = Sweep(runs)
    best, difference, shares, verdicts = findings(sweep)
    assert best == (
        "Best validation ELBO: KL weight 1 (validation -90.50 ± 0.71, test -91.50 ± 0.71)."
    )
    assert difference == (
        "The difference from KL weight 2 (validation -91.50 ± 1.41, test -92.50 ± 1.41) is within "
        "the standard deviation of the seeds."
    )
    assert shares.startswith("Shares of the variance of validation ELBO: KL weight 100 % [")
    assert shares.endswith("-100], seed 0 % [0-0].")
    assert verdicts == "Verdicts: 4 healthy, 2 COLLAPSED."
    labels = [row["verdict"] for row in tables.group_table(sweep)]
    assert labels == ["healthy", "healthy", "COLLAPSED"]

    without_repeats = [run for run in runs if run.settings["seed"] == 0]
    assert "the two best settings were not both repeated" in findings(Sweep(without_repeats))[1]
    assert findings(Sweep(without_repeats[:1])) == ["Verdicts: healthy."]


def disagreeing(folder: Path) -> Sweep:
    """A sweep in which validation prefers kl_weight 1, and test kl_weight 2."""
    for weight, validation, test in ((1, -90.0, -95.0), (2, -94.0, -91.0)):
        for seed in (0, 1):
            write_run(
                folder / f"{weight}-{seed}",
                elbo=validation + 0.1 * seed,
                test_elbo=test + 0.1 * seed,
                kl_weight=weight,
                seed=seed,
            )
    return write([folder])


def test_the_validation_split_chooses_and_the_test_split_is_printed_beside(tmp_path: Path) -> None:
    sweep = disagreeing(tmp_path)
    best = "Best validation ELBO: KL weight 1 (validation -89.95 ± 0.07, test -94.95 ± 0.07)."
    assert findings(sweep)[0] == best
    assert [group.settings["kl_weight"] for group in sweep.ranked("elbo")] == [1, 2]
    assert tables.best_rows(sweep) == {"validation elbo": 0, "validation kl": None}
    latex = (tmp_path / "report.tex").read_text(encoding="utf-8")
    assert latex.count(r"\textbf") == 1 and r"\textbf{-89.95" in latex
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'class="best">(.*?)<', page) == ["-89.95 ± 0.07"]
    assert best in page


def test_the_analysis_of_variance_is_of_the_validation_split(tmp_path: Path) -> None:
    """Test numbers that differ by the seed alone leave the share of the setting as it is."""
    for weight in (1, 2):
        for seed in (0, 1):
            write_run(
                tmp_path / f"{weight}-{seed}",
                elbo=-90.0 - weight,
                test_elbo=-90.0 - 5 * seed,
                kl_weight=weight,
                seed=seed,
            )
    sweep = write([tmp_path])
    shares = {row["share of the variance"]: row for row in influence.shares_table(sweep)}
    assert shares["kl_weight"]["validation elbo"] == "100 % [100-100]"
    assert "test elbo" not in shares["kl_weight"]


def test_what_only_the_test_split_has_is_shown_and_chooses_nothing() -> None:
    runs = []
    for weight in (1, 2):
        summary = {"metrics": {"test": {"elbo": -90.0 - weight}}}
        runs.append(RunRecord(Path("x"), {"kl_weight": weight}, summary, []))
    sweep = Sweep(runs)
    assert sweep.ranking_metric is None and findings(sweep) == []
    assert [row["test elbo"] for row in tables.group_table(sweep)] == ["-91.00", "-92.00"]


def test_means_of_each_of_several_settings() -> None:
    runs = []
    for width in (0, 1, 2):
        for latent in (0, 1):
            runs.append(record(-100.0 + 4 * width + 10 * latent, width=width, latent=latent))
    validation, test = (f"mean {split} ELBO at its values" for split in ("validation", "test"))
    assert influence.effects_table(Sweep(runs)) == [
        {
            "setting": "latent",
            "difference": "10.0 [10.0 to 10.0]",
            validation: "0: -96.00; 1: -86.00",
            test: "0: -97.00; 1: -87.00",
        },
        {
            "setting": "width",
            "difference": "8.00 [8.00 to 8.00]",
            validation: "0: -95.00; 1: -91.00; 2: -87.00",
            test: "0: -96.00; 1: -92.00; 2: -88.00",
        },
    ]
    assert influence.effects_table(Sweep(runs[::2])) == []  # the table of groups has them
    assert influence.effects_table(Sweep(runs[:1])) == []


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A sweep of norm x lr x three seeds: lr is worth 4, and 6 more with norm=batch."""
    for norm in ("batch", "none"):
        for lr in (0.1, 0.2):
            for seed in (0, 1, 2):
                elbo = -100.0 + 0.1 * seed
                if lr == 0.2:
                    elbo += 10 if norm == "batch" else 4
                folder = tmp_path / f"{norm}-{lr}-{seed}"
                write_run(folder, elbo=elbo, norm=norm, lr=lr, seed=seed)
    return tmp_path


def test_interactions_and_changes(study: Path) -> None:
    report = write([study])
    norm, lr = "normalisation", "learning rate"
    (interaction,) = influence.interactions_table(report)
    assert interaction["interaction"] == f"{lr} \N{MULTIPLICATION SIGN} {norm}"
    assert interaction["share"].startswith("13 % [")  # 3^2 of 7^2 + 3^2 + 3^2
    assert interaction["the effect of one changes by"].startswith("6.00 [5.")
    strongest, _ = influence.effects_table(report)
    assert strongest["setting"] == lr and strongest["difference"].startswith("7.00 [6.")
    assert strongest["mean test ELBO at its values"] == "0.1: -100.90; 0.2: -93.90"
    changes = influence.changes_table(report)
    assert [row["change"] for row in changes] == [
        f"{norm} batch \N{RIGHTWARDS ARROW} none",
        f"{lr} 0.2 \N{RIGHTWARDS ARROW} 0.1",
        f"{lr} 0.2 \N{RIGHTWARDS ARROW} 0.1, {norm} batch \N{RIGHTWARDS ARROW} none",
    ]
    # standard deviations of 0.1 over three seeds: 0.1 sqrt(2 / 3)
    assert changes[0]["validation elbo"] == "-6.00 \N{PLUS-MINUS SIGN} 0.08"
    assert changes[0]["n"] == 3 and changes[0]["test elbo"] == changes[0]["validation elbo"]


def test_charts_and_figure_of_influence(study: Path) -> None:
    report = write([study])
    assert imread(study / "influence.png").ndim == 3
    of_page = charts.charts(report)
    (main_effects,) = of_page["main_effects"]
    assert main_effects["title"] == "Mean validation ELBO at each value"
    rows = {row["name"].split(":")[0]: row["points"] for row in main_effects["rows"]}
    assert list(rows) == ["learning rate", "normalisation"]
    first, second = rows["learning rate"]
    assert (first["label"], first["value"]) == ("0.1", -99.9)
    assert second["low"] < second["value"] == -92.9 < second["high"]
    (interaction,) = of_page["interactions"]
    assert interaction["title"] == "Learning rate, by normalisation"
    lines = {series["name"]: series["lines"][0] for series in interaction["series"]}
    assert [point["y"] for point in lines["normalisation batch"]] == [-99.9, -89.9]


def test_figures_for_papers(study: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(study), "--format", "pdf"]) == 0
    for name in ("report", "influence"):
        assert (study / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert not (study / "influence.png").exists()
    assert main([str(study), "--format", "bmp"]) == 1
    assert "invalid choice: 'bmp'" in capsys.readouterr().err


def test_many_settings_are_coloured_by_the_strongest() -> None:
    runs = []
    for weight in range(5):
        for lr in (1, 2, 3):
            runs.append(record(10.0 * lr + weight, kl_weight=weight, lr=lr))
    lines = overview.coloured_runs(Sweep(runs))
    counts = {line: len(of_line) for line, of_line in lines.items()}
    assert counts == {"learning rate 1": 5, "learning rate 2": 5, "learning rate 3": 5}


def test_confounded_shares_are_unknown() -> None:
    runs = []
    for a, b in ((0, "x"), (0, "x"), (1, "y"), (1, "z")):
        for c in (0, 1):
            runs.append(record(float(a + c), a=a, b=b, c=c))
    rows = influence.shares_table(Sweep(runs))
    shares = {row["share of the variance"]: row["validation elbo"] for row in rows}
    assert shares["a"] == "?" and shares["c"].startswith("50 %")


# The files


def test_tables(sweep: Path, capsys: pytest.CaptureFixture) -> None:
    result = write([sweep])
    order = [(run.settings["kl_weight"], run.settings["seed"]) for run in result.runs]
    assert order == [(0, 0), (0, 1), (1, 0), (1, 1), (30, 0), (30, 1)]
    rows = tables.group_table(result)
    columns = ["kl_weight", "n", "validation elbo", "test elbo", "validation kl"]
    assert list(rows[0]) == columns
    assert [tuple(row.values())[:4] for row in rows] == [
        (0, 2, "-105.00 ± 7.07", "-106.00 ± 7.07"),
        (1, 2, "-91.00 ± 1.41", "-92.00 ± 1.41"),
        (30, 1, "-205.00", "-206.00"),
    ]
    with open(sweep / "report.csv", newline="") as file:
        first, *_, last = csv.DictReader(file)
    assert first["validation elbo"] == "-100.0" and first["test elbo"] == "-101.0"
    assert first["validation kl"] == first["test kl"] == "5.0"
    assert last["status"] == "failed" and last["validation elbo"] == ""
    printed = capsys.readouterr().out
    heading, second_line, *_ = printed.strip().splitlines()
    assert re.split(" +", heading)[4:] == ["validation", "test", "validation", "seconds"]
    assert second_line.split() == ["elbo", "elbo", "kl"]
    assert re.search(r"kl30-seed1 +30 +1 +failed", printed) and "report.html" in printed


def test_a_table_in_latex(sweep: Path) -> None:
    write([sweep])
    lines = (sweep / "report.tex").read_text(encoding="utf-8").splitlines()
    assert lines[0] == r"\begin{tabular}{lllll}"
    assert lines[2] == r"kl weight & n & validation elbo & test elbo & validation kl \\"
    best = r"\textbf{-91.00 $\pm$ 1.41} & -92.00 $\pm$ 1.41"
    assert lines[5] == rf"1 & 2 & {best} & 5.00 $\pm$ 0.00 \\"
    percent = Sweep([record(a_b="50 %"), record(a_b="60 %")])
    assert tables.latex_table(percent).count(r"50 \%") == 1


def test_one_self_contained_page(sweep: Path) -> None:
    write([sweep])
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5 * 2  # snapshots of runs that have some
    assert "-91.00 ± 1.41" in page and 'class="failed"' in page
    assert "ELBO: nats per image, higher is better" in page
    for source in ("https:", "src=", "@import", "fetch("):
        assert source not in page, source
    assert "<title>KL weight 0, 1, 30 \N{MULTIPLICATION SIGN} 2 seeds" in page
    newest = read_run(sweep / "kl0-seed0").newest_snapshot("samples")
    assert newest is not None and newest.name == "samples-00000010.png"
    assert base64.b64encode(newest.read_bytes()).decode() in page
    assert imread(sweep / "report.png").shape[1] == 13 * 150


def test_texts_of_users_are_escaped(tmp_path: Path) -> None:
    write_run(tmp_path / "a", elbo=-1.0, notes="<script>alert(1)</script>")
    write_run(tmp_path / "b", elbo=-1.0, notes="x")
    write([tmp_path])
    assert "<script>alert" not in (tmp_path / "report.html").read_text()


def test_a_killed_run_counts_as_interrupted(tmp_path: Path) -> None:
    write_run(tmp_path / "a", status="running")
    assert read_run(tmp_path / "a").status == "interrupted"
    with FileLock(tmp_path / "a" / ".lock"):
        assert read_run(tmp_path / "a").status == "running"


def test_a_run_with_nothing_but_a_status(tmp_path: Path) -> None:
    write_run(tmp_path / "a", status="failed", snapshots=False)
    assert len(write([tmp_path]).runs) == 1 and (tmp_path / "report.html").exists()


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "[" * 5000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"\xff\xfe\x00"),
        ("config.yaml", b"a: [1"),
        ("config.yaml", b"- 1"),
        ("config.yaml", b"null"),
        ("config.yaml", b"choices: {model: [1, 2]}"),
        ("config.yaml", b"choices: 3"),
        ("config.yaml", b"x: !!python/object/apply:os.getpid []"),
        ("config.yaml", BOMB.encode()),
        ("config.yaml", DEEP.encode()),
        ("summary.json", b'{"status": 3}'),
        ("summary.json", b'{"status": "finished", "metrics": [1]}'),
        ("summary.json", b'{"status": "finished", "metrics": {"validation": 3}}'),
        ("summary.json", b'{"status": "finished", "verdict": "x"}'),
        ("summary.json", b'{"status": "finished", "provenance": 1}'),
    ],
)
def test_a_run_that_cannot_be_read_is_a_row(
    name: str, content: bytes, sweep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are reported as without it."""
    whole = write([sweep])
    broken = shutil.copytree(next(sweep.glob("*/summary.json")).parent, sweep / "broken")
    (broken / name).write_bytes(content)
    reported = write([sweep])
    unreadable = [run for run in reported.runs if run.status == "unreadable"]
    assert [run.folder.name for run in unreadable] == ["broken"]
    assert f"broken/{name}: no " in caplog.text
    assert reported.swept == whole.swept and len(reported.finished) == len(whole.finished)
    with open(sweep / "report.csv", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["run"] == "broken"]
    assert row["status"] == "unreadable" and name in row["error"]
    assert "unreadable" in (sweep / "report.html").read_text()


@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b"NaN", b"\xff", b"{", DEEP.encode()])
def test_a_broken_summary_is_as_none(
    content: bytes, sweep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = next(sweep.glob("*/summary.json")).parent
    (run / "summary.json").write_bytes(content)
    assert read_run(run).status == "unknown"
    assert f"{run / 'summary.json'}: no json mapping" in caplog.text


def test_rows_that_are_not_whole_are_passed_over(
    sweep: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = next(sweep.glob("*/metrics.jsonl")).parent
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    bad = [b"{\n", b"3\n", b'{"step": "x"}\n', b'{"validation": {}}\n', b"\xff\xff\n"]
    bad += [b'{"step": 1, "validation": 3}\n', DEEP.encode() + b"\n"]
    (run / "metrics.jsonl").write_bytes(b"".join([lines[0], *bad, *lines[1:], b'{"step": 11, "va']))
    assert read_run(run).curve("elbo")[0] == [5, 10]
    assert f"{run / 'metrics.jsonl'}: 7 of 9 rows are damaged: passed over" in caplog.text


def test_a_large_sweep_has_thumbnails_and_links(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write([sweep])
    whole = grid_of(sweep)
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    imsave(sweep / "kl0-seed0/figures/history/samples-00000010.png", noise)
    monkeypatch.setattr(pictures, "MAX_EMBEDDED_BYTES", 100_000)
    write([sweep])
    small = grid_of(sweep)
    assert len(small["runs"]) == len(whole["runs"])
    for run, before in zip(small["runs"], whole["runs"], strict=True):
        assert run["pictures"].keys() == before["pictures"].keys()
        for earlier, newest in run["pictures"].values():
            assert newest["source"].startswith("data:image/jpeg;base64,")
            assert len(newest["source"]) < 60_000
            assert "source" not in earlier
            assert (sweep / newest["link"]).is_file() and (sweep / earlier["link"]).is_file()


def test_a_damaged_picture_is_left_out(sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = sorted(sweep.glob("*/figures/history/samples-*.png"))[-1]
    path.write_bytes(path.read_bytes()[:60])
    write([sweep])
    assert f"{path}: no picture" in caplog.text


def test_a_folder_without_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path)]) == 1 and "no runs there" in capsys.readouterr().err
    assert main([]) == 1 and "usage:" in capsys.readouterr().err


def test_points_of_a_grid_are_one_axis_the_best_first(tmp_path: Path) -> None:
    """So that the grid of snapshots has no places without a run."""
    points = [(1.0, 2, -100.0), (1.0, 8, -90.0), (3.0, 2, -80.0)]
    for index, (weight, latent, elbo) in enumerate(points):
        write_run(tmp_path / str(index), elbo=elbo, kl_weight=weight, latent_dim=latent)
    write([tmp_path])
    grid = grid_of(tmp_path)
    labels = [
        "KL weight 3, latent dimensions 2",
        "KL weight 1, latent dimensions 8",
        "KL weight 1, latent dimensions 2",
    ]
    assert grid["axes"] == [{"name": "setting", "word": "setting", "values": labels}]
    assert [run["place"] for run in grid["runs"]] == [[0], [1], [2]]


# What is seen of a report of six runs, one of them failed
USE = """
const outcome = {};
const texts = selector => Array.from(document.querySelectorAll(selector), one => one.textContent);
const captions = () => texts("#grid figcaption");
const images = () => document.querySelectorAll("#grid img").length;
const move = (name, value) => {
  const range = document.querySelector(`input[aria-label="${name}"]`);
  range.value = value;
  range.dispatchEvent(new Event("input"));
};
outcome.overflow = document.documentElement.scrollWidth - innerWidth;
outcome.first = captions();
outcome.images = images();
move("seed", 1);
outcome.second = captions();
outcome.fewer = images();
move("seed", 0);
const newest = document.querySelector("#grid img").src;
move("step", 0);
outcome.earlier = document.querySelector("#grid img").src !== newest;
move("step", 1);

document.querySelector("#grid button").click();
outcome.opened = at("lightbox").open;
outcome.shown = [at("lightbox-caption").textContent];
const press = key => at("lightbox").dispatchEvent(new KeyboardEvent("keydown", { key }));
press("ArrowRight");
outcome.shown.push(at("lightbox-caption").textContent);
press("ArrowDown");
outcome.shown.push(at("lightbox-caption").textContent);
const { width, height } = at("lightbox-image").getBoundingClientRect();
outcome.fits = width <= innerWidth && height <= innerHeight;
at("lightbox-close").click();
outcome.closed = !at("lightbox").open;

const runsTable = Array.from(document.querySelectorAll("table")).at(-1);
const { rows } = runsTable.tBodies[0];
const column = () => Array.from(rows, row => row.cells[1].textContent.trim());
const button = runsTable.querySelectorAll("th button")[1];
button.click();
outcome.rising = column();
button.click();
outcome.falling = column();

outcome.charts = texts(".chart figcaption");
outcome.lines = document.querySelectorAll("#learning .chart:first-child .line").length;
const entry = document.querySelector(".legend button");
entry.click();
outcome.hidden = document.querySelectorAll("#learning .series-0[hidden]").length;
const svg = document.querySelector("#learning svg");
const dot = svg.querySelector("circle, .line").getBoundingClientRect();
svg.dispatchEvent(new PointerEvent("pointermove", { clientX: dot.right, clientY: dot.top }));
return outcome;
"""


@needs_chromium
@pytest.mark.parametrize("width", [1400, 400])
def test_the_page_in_a_browser(sweep: Path, width: int) -> None:
    """Pictures beside their settings, sliders, lightbox, sorting and legends; nothing too wide."""
    write([sweep])
    outcome = run_in_page(sweep / "report.html", USE, width=width)
    assert outcome["overflow"] <= 0
    weights = ["KL weight 0", "KL weight 1", "KL weight 30"]
    for caption, weight in zip(outcome["first"], weights, strict=True):
        assert caption.startswith(f"{weight} (")
    assert "validation: ELBO -100, KL 5; test: ELBO -101, KL 5" in outcome["first"][0]
    assert "validation: ELBO -110" in outcome["second"][0]
    assert "failed; no image" in outcome["second"][2]
    assert (outcome["images"], outcome["fewer"]) == (3, 2) and outcome["earlier"]
    assert outcome["opened"] and outcome["fits"] and outcome["closed"]
    steps = [(0, 10), (1, 10), (1, 5)]
    for caption, (weight, step) in zip(outcome["shown"], steps, strict=True):
        assert caption == f"KL weight {weight}: samples, step {step} (finished)"
    assert outcome["rising"] == ["0", "0", "1", "1", "30", "30"]
    assert outcome["falling"] == outcome["rising"][::-1]
    assert outcome["charts"] == ["Validation ELBO"]
    assert outcome["lines"] == 5 and outcome["hidden"] == 1


def test_a_page_that_is_watched(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It is written until no run has been trained for a while; then it is the usual report."""
    now = 0.0
    pages = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        page = sweep / "report.html"
        pages.append(page.read_text(encoding="utf-8") if page.exists() else "")

    monkeypatch.setattr(write_module.time, "sleep", sleep)
    monkeypatch.setattr(write_module.time, "monotonic", lambda: now)
    summary = json.loads((sweep / "kl0-seed0/summary.json").read_text())
    (sweep / "kl0-seed0/summary.json").write_text(json.dumps(summary | {"status": "running"}))
    with FileLock(sweep / "kl0-seed0/.lock") as lock:
        real = write_module._write_page

        def write_page(folders: list[Path]) -> bool:
            if len(pages) == 9:
                lock.release(force=True)
            return real(folders)

        monkeypatch.setattr(write_module, "_write_page", write_page)
        assert main([str(sweep), "--watch"]) == 0
    assert len(pages) == 14  # nine while a run was trained, and a quiet minute
    assert all('"refresh_seconds": 10' in page and "refreshed every 10 s" in page for page in pages)
    assert '"refresh_seconds": null' in (sweep / "report.html").read_text(encoding="utf-8")
    assert main([str(tmp_path / "nothing"), "--watch"]) == 1
    assert "nothing: no such folder" in capsys.readouterr().err
