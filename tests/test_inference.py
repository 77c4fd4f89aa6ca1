"""infer.py on a small run: which figures, on what numbers they stand, with and without data."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch
from conftest import SMALL, figure_files, train_in
from torch import nn

import genmodels
from genmodels import files, safetensors_io
from genmodels.command_line import check_checkpoint
from genmodels.data import datasets
from genmodels.figures import plotting
from genmodels.figures.image_sheet import tile
from genmodels.figures.registry import FIGURES
from genmodels.metrics import likelihood
from genmodels.randomness import generator
from genmodels.registry import Spec, select
from genmodels.run_lookup import find_runs
from genmodels.user_errors import UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return train_in(tmp_path_factory.mktemp("trained") / "run", cache, *SMALL, "max_steps=3")


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """One run, to each test its own copy."""
    return shutil.copytree(trained, tmp_path / "run")


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_all_figures_and_metrics(run: Path, infer_here: Callable) -> None:
    infer_here(f"checkpoint={run}", "n=12")
    results, model = Path("results/run"), genmodels.load(run)
    expected = {"metrics.json"}
    for name in select("figures", None, FIGURES, model):
        expected |= figure_files(name)
    assert {path.name for path in results.iterdir()} == expected
    infer_here(
        f"checkpoint={run}", "figures=all", "metrics=[]", "n=12", "center=[1,2,-1,0]", "stddev=0.1"
    )
    for name in select("figures", "all", FIGURES, model):
        assert all((results / file).is_file() for file in figure_files(name) if name != "region")
        name = f"{name}-center1_2_-1_0-stddev0.1" if name == "region" else name
        if len(figure_files(name)) == 1:  # a page, or a movie
            continue
        picture = matplotlib.image.imread(results / f"{name}.png")
        assert picture.shape[0] > 150 and picture.shape[1] > 500 and picture[..., :3].std() > 0.02
        assert table(results / f"{name}.csv")
    metrics = json.loads((results / "metrics.json").read_text())
    summary = json.loads((run / "summary.json").read_text())
    assert metrics["elbo"].items() <= summary["metrics"]["test"].items() and metrics["step"] == 3
    assert metrics["verdict"] == summary["verdict"] and metrics["prior"] == "N(0, I)"


def test_the_numbers_make_the_pictures(run: Path, infer_here: Callable) -> None:
    infer_here(f"checkpoint={run}", "n=5", "temperature=4", "figures=[samples]", "seed=3")
    lines = table(Path("results/run/samples-temperature4-seed3.csv"))
    z = torch.empty(len(lines), 4)
    for index, line in enumerate(lines):
        z[index] = torch.tensor([float(line[f"z{dimension}"]) for dimension in range(4)])
    expected = genmodels.load(run).prior.sample(5, 4.0, generator(3, "samples"))
    torch.testing.assert_close(z, expected)  # which makes the pictures: test_contract
    infer_here(f"checkpoint={run}", "n=5", "temperature=1", "figures=[samples]", "seed=3")
    colder = table(Path("results/run/samples-seed3.csv"))
    assert z.shape == (5, 4) and float(colder[2]["z1"]) == pytest.approx(
        z[2, 1].item() / 2
    )  # a variance


def test_who_asks_for_one_kind_by_name_gets_no_other(run: Path, infer_here: Callable) -> None:
    results = Path("results/run")
    infer_here(f"checkpoint={run}", "figures=samples")
    assert sorted(path.name for path in results.iterdir()) == ["samples.csv", "samples.png"]
    infer_here(f"checkpoint={run}", "metrics=elbo")
    names = sorted(path.name for path in results.iterdir())
    assert names == ["metrics.json", "samples.csv", "samples.png"]
    shutil.rmtree(results)
    infer_here(f"checkpoint={run}", "figures=none", "metrics=elbo")
    assert [path.name for path in results.iterdir()] == ["metrics.json"]


def test_traversals_are_sorted_by_kl(run: Path, infer_here: Callable, cache: Path) -> None:
    infer_here(f"checkpoint={run}", "figures=[traversals]", "metrics=[]")
    lines = table(Path("results/run/traversals.csv"))
    kl = [float(line["kl_nats"]) for line in lines]
    assert kl == sorted(kl, reverse=True) and len(kl) == 4
    test = datasets.digits(cache=str(cache)).load().test
    assert sum(kl) == pytest.approx(likelihood.evaluate(genmodels.load(run), test)["kl"])


def test_without_data_what_the_model_alone_can_make(
    run: Path,
    infer_here: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone(_: Path) -> None:
        raise ValueError("dataset.root=x: no files there")

    monkeypatch.setattr(datasets, "_decode_digits", gone)
    infer_here(f"checkpoint={run}", f"dataset.cache={tmp_path / 'empty'}")
    assert {path.stem for path in Path("results/run").iterdir()} == {
        "samples",
        "temperature",
        "interpolation",
        "training_progress",
        "rate_distortion",
        "explorer",
    }
    skipped = (
        "nearest_neighbours, reconstructions, traversals, kl_per_dimension, "
        "aggregated_posterior, latent_grid, "
        "latent_scatter, latent_atlas"
    )
    assert f"skipped figures {skipped}: dataset.root=x: no files there" in caplog.text
    with pytest.raises(
        UserError, match=r"figures: reconstructions needs the data, but dataset\.root=x"
    ):
        infer_here(
            f"checkpoint={run}", f"dataset.cache={tmp_path / 'empty'}", "figures=[reconstructions]"
        )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("figures=[sampels]", r"figures: sampels is none of samples, .* Did you mean samples\?"),
        ("metrics=[fid]", "metrics: fid is none of elbo"),
        ("device=cuda:9", "device=cuda:9: torch sees"),
    ],
)
def test_what_cannot_be_had_is_refused(
    override: str, message: str, run: Path, infer_here: Callable
) -> None:
    with pytest.raises(UserError, match=message):
        infer_here(f"checkpoint={run}", override)
    assert not Path("results").exists()


def test_other_options_do_not_replace_results(run: Path, infer_here: Callable) -> None:
    """Metrics of the same weights are merged; those of other weights are not."""
    infer_here(f"checkpoint={run}", "figures=[samples]", "metrics=[elbo]")
    path = Path("results/run/metrics.json")
    first = json.loads(path.read_text())
    infer_here(f"checkpoint={run}", "figures=[samples]", "metrics=[reconstruction]", "seed=1")
    assert json.loads(path.read_text()) == first
    infer_here(f"checkpoint={run}", "figures=[]", "metrics=[reconstruction]")
    merged = json.loads(path.read_text())
    assert merged["elbo"] == first["elbo"] and "reconstruction" in merged
    assert merged["time"].keys() == {"elbo", "reconstruction"}
    infer_here(f"checkpoint={run}", "figures=[]", "metrics=[elbo]", "split=validation")
    names = {each.name for each in Path("results/run").iterdir()}
    assert names == {
        "metrics.json",
        "metrics-seed1.json",
        "metrics-splitvalidation.json",
        *(f"samples{end}.{kind}" for end in ("", "-seed1") for kind in ("png", "csv")),
    }
    files.write_json(path, merged | {"step": 2})
    infer_here(f"checkpoint={run}", "figures=[]", "metrics=[elbo]")
    assert "reconstruction" not in json.loads(path.read_text())


def test_results_go_where_they_are_asked_to(run: Path, infer_here: Callable) -> None:
    other = shutil.copytree(run, run.parent / "other")
    tensors, metadata = safetensors_io.load(other / "model.safetensors")
    about = metadata["about"] | {"name": "other"}
    safetensors_io.save(other / "model.safetensors", tensors, metadata | {"about": about})
    chosen = ("figures=[samples]", "metrics=[]")
    infer_here(f"checkpoint={run}", *chosen, "out=mine")
    assert {path.name for path in Path("mine").iterdir()} == {"samples.png", "samples.csv"}
    infer_here(f"checkpoint=[{run},{other}]", *chosen, "out=ours")
    assert {path.name for path in Path("ours").iterdir()} == {"run", "other"}
    assert not Path("results").exists()


def test_runs_are_found_by_patterns_sweeps_and_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["runs/a", "runs/b", "multirun/s/c", "multirun/s/d"]
    for age, name in enumerate(names):
        path = Path(name, "model.safetensors")
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (age, age))
    Path("runs/empty").mkdir()
    assert find_runs(["runs/*"]) == ["runs/a", "runs/b"]
    assert find_runs(["multirun/s"]) == ["multirun/s/c", "multirun/s/d"]
    assert find_runs(["latest"]) == ["multirun/s/d"]
    assert find_runs(["runs/b", "runs/?", "nowhere"]) == ["runs/b", "runs/a", "nowhere"]
    with pytest.raises(ValueError, match=r"checkpoint=runs/x\*: no run matches that"):
        find_runs(["runs/x*"])
    monkeypatch.chdir("runs/empty")
    with pytest.raises(ValueError, match=r"checkpoint=latest: no run in runs/\* or multirun/"):
        find_runs(["latest"])


def test_a_checkpoint_that_is_not_there_is_refused_before_torch_is_imported(run: Path) -> None:
    for argument in ("checkpoint=NOPE", f"checkpoint=[{run},NOPE]", "checkpoint=NOPE*"):
        with pytest.raises(ValueError, match=r"^checkpoint=NOPE"):
            check_checkpoint([argument, "n=3"])
    for argument in (
        f"checkpoint={run}",
        "checkpoint=wandb:me/project/run:latest",
        "checkpoint=[",
        "n=3",
    ):
        check_checkpoint([argument])


def test_of_several_models_each_gives_what_it_can(
    run: Path, infer_here: Callable, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = ["model=gan", "model.generator_width=4", "model.discriminator_width=4"]
    gan = train_in(run.parent / "gan", cache, *narrow, "max_steps=1", "batch_size=8")
    both = f"checkpoint=[{run},{gan}]"
    infer_here(both, "figures=[samples,traversals]", "metrics=[]")
    assert "skipped traversals: cannot be had from a Generator" in caplog.text
    assert Path("results/run/traversals.png").exists() and Path("results/gan/samples.png").exists()
    with pytest.raises(UserError, match="figures: class_grid cannot be had from any of these"):
        infer_here(both, "figures=[class_grid]")
    with pytest.raises(UserError, match="figures: nonsense is none of samples"):
        infer_here(both, "figures=[nonsense]")


def test_a_strangers_file_writes_nowhere_else(
    run: Path, infer_here: Callable, tmp_path: Path
) -> None:
    tensors, metadata = safetensors_io.load(run / "model.safetensors")
    evil = metadata["about"] | {"name": "../up"}
    safetensors_io.save(tmp_path / "evil.safetensors", tensors, metadata | {"about": evil})
    infer_here(f"checkpoint={tmp_path / 'evil.safetensors'}", "figures=[samples]", "metrics=[]")
    assert [path.name for path in Path("results").iterdir()] == ["__up"] and not (
        tmp_path / "up"
    ).exists()
    safetensors_io.save(tmp_path / "mute.safetensors", tensors, metadata | {"about": {"name": "x"}})
    with pytest.raises(UserError, match="does not say its choices, classes, settings, step"):
        infer_here(f"checkpoint={tmp_path / 'mute.safetensors'}")


def takes_any(model: nn.Module) -> None:
    """A function that can be asked of every model."""


def takes_linear(model: nn.Linear | nn.Bilinear) -> None:
    """A function that can be asked of some models."""


def test_what_a_function_can_be_asked_of_is_the_type_of_its_first_argument() -> None:
    specs = {
        "quick": Spec(takes_any),
        "slow": Spec(takes_any, slow=True),
        "linear": Spec(takes_linear),
        "conditional": Spec(takes_any, conditional=True),
    }
    assert list(select("figures", None, specs, nn.Identity())) == ["quick"]
    assert list(select("figures", None, specs, nn.Linear(1, 1))) == ["quick", "linear"]
    assert list(select("figures", "all", specs, nn.Identity())) == ["quick", "slow"]
    assert list(select("figures", ["slow"], specs, nn.Identity())) == ["slow"]
    message = "figures: linear cannot be had from a Identity, which can give quick, slow"
    with pytest.raises(ValueError, match=message):
        select("figures", ["linear"], specs, nn.Identity())


@pytest.mark.parametrize(
    ("old", "new"), [("lineage", "training_progress"), ("nearest", "nearest_neighbours")]
)
def test_former_names_are_refused_with_the_new_one(
    old: str, new: str, run: Path, infer_here: Callable
) -> None:
    with pytest.raises(UserError, match=f"figures: {old} is called {new} now"):
        infer_here(f"checkpoint={run}", f"figures=[{old}]")


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_lie_where_they_should(channels: int) -> None:
    images = torch.arange(5).view(5, 1, 1, 1).expand(5, channels, 4, 6) / 255
    sheet = tile(images, columns=3)
    assert sheet.shape == (2 * 4 + 2, 3 * 6 + 2 * 2, channels)
    assert (
        sheet[0, 0, 0] == 0 and sheet[0, 8, 0] == 1 and sheet[6, 0, 0] == 3 and sheet[6, 8, 0] == 4
    )
    assert sheet[6:, 16:].min() == 255 and sheet[4:6].min() == 255


@pytest.mark.parametrize("columns", [1, 9, 12])
def test_a_long_caption_fits_under_its_picture(columns: int, tmp_path: Path) -> None:
    """Over several lines, each of whole parts; the images are as large as over a short one."""
    dot = "\N{MIDDLE DOT}"
    parts = [
        "fashion_mnist",
        "cvae_mlp",
        "32 latent dimensions",
        "objective free_bits",
        "likelihood continuous_bernoulli",
        "KL weight 0.25 (cyclical)",
        "seed 0",
        "step 14070",
    ]

    def drawn(caption: str) -> tuple[list[str], np.ndarray]:
        figure = plotting.image_table(torch.zeros(columns, 1, 8, 8), columns, "")
        path = plotting.FigureResult(figure, [{"n": columns}]).save(tmp_path, "picture", caption)
        lines = figure.get_supxlabel().replace("\N{NO-BREAK SPACE}", " ").splitlines()
        return lines, (255 * matplotlib.image.imread(path)[:, :, 0]).astype(int)

    lines, pixels = drawn(f" {dot} ".join(parts))
    assert " ".join(lines) == f" {dot} ".join(parts) and len(lines) > 1
    assert all(line.endswith(f" {dot}") for line in lines[:-1])
    last_row = np.flatnonzero((pixels == 0).any(axis=1))[-1]  # of the images, which are black
    _, below = np.split(pixels, [last_row + 1])  # the caption is gray
    assert below.min() < 120 and below[:, -5:].min() == below[-2:].min() == 255
    assert (pixels == 0).any(axis=1).sum() == pytest.approx(
        (drawn("short")[1] == 0).any(axis=1).sum(), abs=3
    )
