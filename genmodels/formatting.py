"""Numbers, metrics and verdicts as text, for logs, tables and messages."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmodels.quantities import quantity

SCRIPT = "genmodels-"  # how the names of the installed scripts begin


def program(command: str) -> str:
    """What starts a command here: "train.py", or the script of an installed package.

    Arguments:
    command: "train" or "infer".
    """
    is_installed = Path(sys.argv[0]).name.startswith(SCRIPT)
    return f"{SCRIPT}{command}" if is_installed else f"{command}.py"


def invocation(command: str) -> str:
    """How a command is typed here: "python train.py" or "genmodels-train"."""
    name = program(command)
    return f"python {name}" if name.endswith(".py") else name


def format_number(value: float) -> str:
    """Two decimals; four digits of what may be a share; two of what is small."""
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.4g}" if abs(value) >= 0.1 else f"{value:.2g}"


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Metrics in one line. Lists and nested mappings are left to the files."""
    parts = []
    for name, value in metrics.items():
        if isinstance(value, Mapping | list):
            continue
        text = format_number(value) if isinstance(value, float) else str(value)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts)


def format_evaluation(metrics: Mapping[str, Any]) -> str:
    """The metrics of an evaluation in a short line: without errors, counts and what follows from
    others."""
    shown = {}
    for name, value in metrics.items():
        is_detail = name == "n" or name.endswith("_error") or quantity(name).table_only
        if not is_detail:
            shown[name] = value
    return format_metrics(shown)


def format_verdict(verdict: Mapping[str, Any]) -> str:
    """A verdict, as a summary has it: the label, and its sentences on lines of their own."""
    sentences = [f"  {sentence}" for sentence in verdict["sentences"]]
    return "\n".join([f"verdict: {verdict['label']}", *sentences])


def format_setting(value: object) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(format_setting(item) for item in value)}]"
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
