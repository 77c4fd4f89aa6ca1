"""Which runs a user means by `checkpoint=`, without torch."""

import glob
from collections.abc import Sequence
from pathlib import Path

from genmodels.run_files import CHECKPOINT, INFERENCE, PREVIOUS

LATEST = "latest"
HOMES = ("runs/*", "multirun/*/*")  # where train.py keeps runs, below the working directory


def find_runs(names: Sequence[str]) -> list[str]:
    """The runs of these names, each once, in order.

    A name is a run or a file of one, as `checkpoint.open_run` takes it; a pattern with * or ?; the
    folder of a sweep, which stands for its runs; or "latest", the run that was saved last. Raises
    ValueError where a pattern or "latest" finds nothing.
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
    """The weights of a run, by its folder or a file in it.

    Raises ValueError where there are none.
    """
    path = Path(run)
    if path.is_dir():
        path = path / INFERENCE
    if path.name in (CHECKPOINT, PREVIOUS):  # the weights for inference lie beside them
        path = path.with_name(INFERENCE)
    if not path.is_file():
        raise ValueError(
            f"checkpoint={run}: no {INFERENCE} there. Give a run folder, its {INFERENCE}, or "
            "wandb:entity/project/name:alias"
        )
    return path


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
