"""What the files in a run folder are called, and how its rows and its summary are read."""

import json
from pathlib import Path
from typing import Any

from genmodels import files

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
SUMMARY = "summary.json"
LOG = "train.log"
CHECKPOINT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"
INFERENCE = "model.safetensors"
FIGURES = "figures"


def read_summary(folder: Path) -> dict[str, Any]:
    """What summary.json of a run folder says, {} where there is none or it is broken."""
    return files.read_json(folder / SUMMARY)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl, up to the first that is not whole."""
    rows: list[dict[str, Any]] = []
    try:
        for line in (folder / METRICS).read_text(encoding="utf-8").splitlines():
            rows.append(json.loads(line))
    except (FileNotFoundError, json.JSONDecodeError):
        pass
    return rows
