"""The pages are true: their Python runs, their commands are right, their links lead to files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, composed, settings_of
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_layers import LAYERS

from genmodels import conclusion
from genmodels.command_line import with_lists
from genmodels.composition import CONF, compose_config, to_dict
from genmodels.figures.registry import FIGURES
from genmodels.metrics.registry import METRICS
from genmodels.settings import InferSettings
from genmodels.validation import validate

README = ROOT / "README.md"
EXTENDING = ROOT / "docs/EXTENDING.md"
PAGES = [README, *sorted(ROOT.glob("docs/*.md"))]
RECIPES = sorted([*CONF.glob("experiment/*.yaml"), *CONF.glob("hydra/*/*.yaml")])
# Settings, and the flag -m; what follows the last of these on a line is prose
WORDS = re.compile(r"(?: +(?:-m\b|'?[\w/.@]+=[^\s`]+))*")


def commands(path: Path) -> Iterator[str]:
    """The commands of a page, or of the comments at the head of a yaml, one line each."""
    text = re.sub(r"\s*\\\n#?\s*", " ", path.read_text(encoding="utf-8"))
    for match in re.finditer(r"\b(train|infer)\.py\b", text):
        words = WORDS.match(text, match.end())
        assert words is not None
        yield match[0] + words[0]


COMMANDS = sorted({command for path in [*PAGES, *RECIPES] for command in commands(path)})


def first_job(overrides: list[str]) -> list[str]:
    """The overrides with the first value of each sweep; choices of swept groups must exist."""
    job = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if not override.is_sweep_override():
            job.append(str(override.input_line))
            continue
        group = CONF / override.key_or_group
        values = list(override.sweep_string_iterator())
        assert all((group / f"{value}.yaml").is_file() for value in values if group.is_dir())
        job.append(f"{override.key_or_group}={values[0]}")
    return job


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_right(command: str) -> None:
    script, *words = shlex.split(command)
    overrides = [word for word in words if word != "-m" and not word.startswith("hydra")]
    if script == "train.py":
        settings_of(*first_job(overrides))
    else:
        listed = with_lists(["checkpoint=RUN", *overrides])
        settings = validate(InferSettings, to_dict(composed("infer", *listed)))
        assert settings.figures in (None, "all") or set(settings.figures) <= FIGURES.keys()
        assert settings.metrics in (None, "all") or set(settings.metrics) <= METRICS.keys()


@pytest.mark.parametrize("path", sorted(CONF.glob("experiment/*.yaml")), ids=lambda path: path.stem)
def test_recipes_begin_with_their_command(path: Path) -> None:
    experiment = f"experiment={path.stem}"
    assert experiment in next(commands(path)).split()
    sweeper = yaml.safe_load(path.read_text(encoding="utf-8")).get("hydra", {}).get("sweeper", {})
    planned = [f"{key}={values}" for key, values in sweeper.get("params", {}).items()]
    if planned:
        settings_of(experiment, *first_job(planned))


@pytest.mark.parametrize("kl_weight", [0, 1, 30])
@pytest.mark.parametrize("seed", [0, 1])
def test_names_of_runs_are_theirs(kl_weight: int, seed: int) -> None:
    """Those of the sweep that the pages show, which ran in bf16."""
    overrides = [f"kl_weight={kl_weight}", f"seed={seed}", "precision=bf16"]
    name = Path(compose_config("train", overrides).hydra.run.dir).name
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(rf"{name[:-6]}[0-9a-f]{{6}}", text)) == {name}


def test_the_table_of_layers() -> None:
    text = EXTENDING.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| (.*?) \|", text, re.MULTILINE)
    for level, modules in enumerate(LAYERS):
        shown = " ".join(names for number, names in rows if number == str(level))
        names = {module.rpartition(".")[2] for module in modules - {"genmodels"}}
        assert not {name for name in names if not re.search(rf"\b{name}\b", shown)}


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conclusion, "draw_figures", lambda *_: None)  # it takes seconds
    blocks = []
    for page in (README, EXTENDING):
        text = page.read_text(encoding="utf-8")
        blocks += re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert len(blocks) == 4 and namespace["images"].shape == (16, 1, 28, 28)
    assert namespace["run"].folder.is_dir() and namespace["run"].metrics["test"]["elbo"] < -90
    assert -300 < namespace["trainer"].evaluate(namespace["data"].test)["elbo"] < -90
    step = namespace["Step"](at=0.3)
    assert step(0.2) == 0 and step(0.3) == 1


def test_the_first_page_is_short_and_names_all_choices() -> None:
    """Of a group with many choices, of figures and of the metrics that a user asks for."""
    text = README.read_text(encoding="utf-8")
    assert len(text.encode()) < 9000
    groups = ("model", "dataset", "kl_schedule", "objective", "prior", "likelihood")
    groups += ("adversarial_loss", "penalty", "optimizer", "lr_schedule")
    choices = [path.stem for group in groups for path in CONF.glob(f"{group}/*.yaml")]
    assert not {name for name in [*choices, *FIGURES] if f"`{name}`" not in text}


def test_the_contents_page_links_all_pages() -> None:
    text = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    assert not {page.name for page in ROOT.glob("docs/*.md") if f"({page.name})" not in text} - {
        "README.md"
    }


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_links_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
        target = path.parent / name if name else path
        assert target.is_file(), name
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            words = [re.sub(r"[^\w -]", "", heading) for heading in headings]
            assert anchor in [heading.lower().replace(" ", "-") for heading in words]
