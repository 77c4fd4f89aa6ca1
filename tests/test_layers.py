"""Imports point downwards only, and nothing heavy is imported early."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the bottom up, as DESIGN has them; a package stands for its modules, the longest name counts
LAYERS = [
    {
        "genmodels",
        "genmodels.errors",
        "genmodels.files",
        "genmodels.run_files",
        "genmodels.run_lookup",
        "genmodels.safetensors_io",
        "genmodels.html_page",
        "genmodels.tensor_checks",
        "genmodels.randomness",
        "genmodels.torchrun",
        "genmodels.parallel",
        "genmodels.signals",
        "genmodels.hardware",
        "genmodels.registry",
        "genmodels.quantities",
        "genmodels.formatting",
        "genmodels.distributions",
        "genmodels.image_distributions",
        "genmodels.discretised_logistics",
        "genmodels.likelihoods",
        "genmodels.schedules",
        "genmodels.d_optimal",
        "genmodels.job",
        "genmodels.zoo",
    },
    {"genmodels.data", "genmodels.models", "genmodels.losses"},
    {"genmodels.metrics", "genmodels.figures", "genmodels.explorer"},
    {
        "genmodels.trainers",
        "genmodels.checkpoint",
        "genmodels.onnx_export",
        "genmodels.run_folder",
        "genmodels.wandb_mirror",
    },
    {"genmodels.trainers.loop"},
    {
        "genmodels.composition",
        "genmodels.resolvers",
        "genmodels.user_errors",
        "genmodels.validation",
        "genmodels.settings",
        "genmodels.run_name",
        "genmodels.caption",
        "genmodels.fitting",
        "genmodels.scoring",
        "genmodels.reference_classifier",
        "genmodels.preview",
        "genmodels.training_checks",
        "genmodels.doctor",
        "genmodels.refusals",
        "genmodels.conclusion",
        "genmodels.training",
        "genmodels.results",
        "genmodels.trained_model",
        "genmodels.inference",
        "genmodels.cli",
        "genmodels.command_line",
        "genmodels.help_text",
        "genmodels.sweeps",
        "genmodels.plugins",
        "genmodels.report",
        "train",
        "infer",
    },
]
FILES = sorted([*ROOT.glob("genmodels/**/*.py"), ROOT / "train.py", ROOT / "infer.py"])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> int:
    name = module
    while name and (name != "genmodels" or module == "genmodels"):
        for level, modules in enumerate(LAYERS):
            if name in modules:
                return level
        name = name.rpartition(".")[0]
    raise AssertionError(f"{module}: enter it in LAYERS")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            place = ROOT / node.module.replace(".", "/")
            for alias in node.names:
                is_module = (place / f"{alias.name}.py").exists() or (place / alias.name).is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_downwards(path: Path) -> None:
    here = module_name(path)
    if here == "genmodels":  # `genmodels.load` and `genmodels.train` are imported when asked for
        return
    for name in imports(path):
        top = name.split(".")[0]
        if top in ("genmodels", "train", "infer"):
            assert layer(name) <= layer(here), f"{here} imports {name} from a layer above"
        elif top in ("hydra", "omegaconf"):
            assert layer(here) == len(LAYERS) - 1, f"{here} imports {name}"


def test_packages_are_empty() -> None:
    """So a leaf can be imported without its siblings."""
    for path in ROOT.glob("genmodels/*/__init__.py"):
        assert not ast.parse(path.read_text(encoding="utf-8")).body[1:], path


def test_no_import_circles() -> None:
    """Of modules at the top of files."""
    graph: dict[str, set[str]] = {}
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    names |= {node.module, f"{node.module}.{alias.name}"}
        graph[module_name(path)] = names
    remaining = {name: names & graph.keys() - {"genmodels"} for name, names in graph.items()}
    while free := {name for name, names in remaining.items() if not names & remaining.keys()}:
        remaining = {name: remaining[name] for name in remaining if name not in free}
    assert not remaining


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import genmodels.cli, genmodels.sweeps", ["torch", "matplotlib", "wandb", "pydantic"]),
        ("import genmodels.training", ["matplotlib", "wandb", "sklearn", "torchvision"]),
        ("import genmodels; genmodels.load", ["matplotlib", "wandb", "hydra", "torchvision"]),
        ("import genmodels.figures.snapshots", ["matplotlib"]),
    ],
)
def test_what_an_import_does_without(statement: str, absent: list[str]) -> None:
    code = f"import sys; {statement}; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
