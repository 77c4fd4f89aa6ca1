"""Which runs a user means by `checkpoint=`, without torch."""

import glob
from collections.abc import Sequence
from pathlib import Path

from genmodels.errors import did_you_mean, nearest
from genmodels.run_files import CHECKPOINT, INFERENCE, PREVIOUS

LATEST = "latest"
ZOO = Path(__file__).parent / "zoo"  # models that come with the project
ZOO_PREFIX = "zoo:"
HOMES = ("runs/*", "multirun/*/*")  # where train.py keeps runs, below the working directory


def find_runs(names: Sequence[str]) -> list[str]:
    """The runs of these names, each once, in order.

    A name is a run, a file of one or a model of the zoo, as `checkpoint.open_run` takes it; a
    pattern with * or ?; the folder of a sweep, which stands for its runs; or "latest", the run that
    was saved last. Raises ValueError where a pattern or "latest" finds nothing.
    """
    found: list[str] = []
    for name in names:
        if name == LATEST:
            found.append(_latest())
        elif glob.has_magic(name) and not Path(name).exists():
            found += _matching(name)
        else:
            found += _runs_in(Path(name)) or [name]
    return list(dict.fromkeys(found))


def locate(run: str) -> Path:
    """The weights of a run, by its folder or a file in it, or of a model of the zoo.

    Raises ValueError where there are none.
    """
    if run.startswith(ZOO_PREFIX):
        return _of_zoo(run.removeprefix(ZOO_PREFIX))
    path = Path(run)
    if path.is_dir():
        path = path / INFERENCE
    if path.name in (CHECKPOINT, PREVIOUS):  # the weights for inference lie beside them
        path = path.with_name(INFERENCE)
    if not path.is_file():
        raise ValueError(
            f"checkpoint={run}: no {INFERENCE} there. Give a run folder, its {INFERENCE}, "
            f"{ZOO_PREFIX}NAME, or wandb:entity/project/name:alias"
        )
    return path


def _of_zoo(name: str) -> Path:
    names = sorted(path.stem for path in ZOO.glob("*.safetensors"))
    if name not in names:
        hint = did_you_mean(nearest(name, names))
        raise ValueError(f"checkpoint={ZOO_PREFIX}{name}: the zoo has {', '.join(names)}{hint}")
    return ZOO / f"{name}.safetensors"


def _latest() -> str:
    weights = [path for home in HOMES for path in Path().glob(f"{home}/{INFERENCE}")]
    if not weights:
        raise ValueError(f"checkpoint={LATEST}: no run in {' or '.join(HOMES)}")
    return str(max(weights, key=lambda path: path.stat().st_mtime_ns).parent)


def _matching(pattern: str) -> list[str]:
    runs = [path for path in sorted(glob.glob(pattern)) if (Path(path) / INFERENCE).is_file()]
    if not runs:
        raise ValueError(f"checkpoint={pattern}: no run matches that")
    return runs


def _runs_in(folder: Path) -> list[str]:
    """The runs of a sweep's folder; [] for what is none."""
    if (folder / INFERENCE).is_file():
        return []
    return sorted(str(path.parent) for path in folder.glob(f"*/{INFERENCE}"))
