"""What the files in a run folder are called, and how its rows and its summary are read."""

import json
import logging
from pathlib import Path
from typing import Any

from genmodels import files

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
LOG = "train.log"
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
INFERENCE = "model.safetensors"
FIGURES = "figures"
HISTORY = f"{FIGURES}/history"  # snapshots of the course of training


def read_summary(folder: Path) -> dict[str, Any]:
    """What summary.json of a run folder says, {} where there is none or, with a warning, a
    broken one."""
    return files.read_json(folder / SUMMARY)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl.

    Rows that are not whole are passed over, with a warning unless it is the end of the file, which
    a killed process may not have finished.
    """
    path = folder / METRICS
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    whole, _, _ = text.rpartition("\n")
    rows, broken = [], 0
    for line in whole.split("\n"):
        try:
            rows.append(_as_row(json.loads(line)))
        except (ValueError, TypeError, RecursionError):
            broken += 1
    if broken and whole:
        log.warning("%s: %d of %d rows are damaged: passed over", path, broken, broken + len(rows))
    return rows


def _as_row(value: Any) -> dict[str, Any]:
    row = files.as_mapping(value)
    if type(row.get("step")) is not int:
        raise TypeError("no step")
    for group in ("train", "validation", "test", "time"):
        files.as_mapping(row.get(group, {}))
    return row
