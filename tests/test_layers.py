"""Imports point downwards only, and configuration stays at the doors."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [  # from the ground up; the longest matching name counts
    {
        "genmodels",
        "genmodels.errors",
        "genmodels.files",
        "genmodels.safetensors_io",
        "genmodels.randomness",
        "genmodels.hardware",
        "genmodels.registry",
        "genmodels.image_distributions",
        "genmodels.distributions",
        "genmodels.schedules",
        "genmodels.d_optimal",
    },
    {"genmodels.data", "genmodels.models", "genmodels.losses"},
    {"genmodels.metrics", "genmodels.figures"},
    {"genmodels.trainers", "genmodels.checkpoint", "genmodels.tracking"},
    {"genmodels.trainers.loop"},
    {
        "genmodels.legal",
        "genmodels.config",
        "genmodels.doors",
        "genmodels.judge",
        "genmodels.sweeps",
        "genmodels.report",
        "train",
        "infer",
    },
]
FILES = sorted([*ROOT.glob("genmodels/**/*.py"), ROOT / "train.py", ROOT / "infer.py"])


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module: str) -> int:
    while module:
        for level, rooms in enumerate(FLOORS):
            if module in rooms and (module != "genmodels" or level == 0):
                return level
        module = module.rpartition(".")[0]
    raise AssertionError("no such room")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            inside = (ROOT / node.module.replace(".", "/")).is_dir()
            yield from (
                f"{node.module}.{alias.name}" if inside else node.module for alias in node.names
            )


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_downwards(path: Path) -> None:
    here = module_name(path)
    if here == "genmodels":  # the lazy `genmodels.load`
        return
    for name in imports(path):
        if name.split(".")[0] in ("genmodels", "train", "infer"):
            assert floor(name) <= floor(here), (
                f"{here} (floor {floor(here)}) imports {name} (floor {floor(name)})"
            )
        elif name.split(".")[0] in ("hydra", "omegaconf"):
            assert floor(here) == len(FLOORS) - 1, (
                f"{here} imports {name}: configuration stays at the doors"
            )


def test_every_module_has_its_room() -> None:
    for path in FILES:
        name = module_name(path)
        assert name == "genmodels" or floor(name) > 0 or name in FLOORS[0], (
            f"{name}: enter it in FLOORS"
        )
