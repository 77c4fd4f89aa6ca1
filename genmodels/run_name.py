"""What a run is called, and which of its settings change its numbers."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from genmodels.user_errors import flatten

# Settings that a run's name shows, with how it says them
NAMED_SETTINGS = {"kl_weight": "kl", "seed": "seed"}
# Groups whose choice a run's name shows, and the choice that goes without saying
NAMED_GROUPS = {
    "model": "",
    "objective": "elbo",
    "kl_schedule": "",
    "prior": "standard_normal",
    "adversarial_loss": "relativistic",
}
DATA_DETAILS = ("dataset.split", "dataset.attribute")  # said of the data besides their name
# Settings that leave the numbers as they are
NEUTRAL = (
    "device",
    "threads",
    "evaluate_every",
    "checkpoint_every",
    "figures",
    "overwrite",
    "preview",
    "doctor",
    "wandb",
    "sweep_metric",
    "dataset.root",
    "dataset.download",
    "dataset.keep_raw",
    "dataset.cache",
)
NEUTRAL_UNLESS_SELECTED_BY = ("features", "select")
MAX_DATA_NAME = 40


def run_name(values: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """A short readable part and six hex digits over the settings that change the numbers.

    Settings that resolve to the same values have the same name.

    Arguments:
    values: resolved settings.
    choices: of the groups.
    """
    parts = [data_name(dict(flatten(values)), choices)]
    for group, usual in NAMED_GROUPS.items():
        choice = choices.get(group) or usual
        if choice != usual:
            parts.append(choice)
    for key, word in NAMED_SETTINGS.items():
        if values.get(key) is not None:
            parts.append(f"{word}{values[key]:g}")
    return f"{clean('-'.join(parts))}-{digest(number_settings(values))}"


def number_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change a run's numbers, flat: no machine, folders, wandb, cadence."""
    neutral = NEUTRAL if values.get("select") else (*NEUTRAL, *NEUTRAL_UNLESS_SELECTED_BY)
    numbers = {}
    for key, value in flatten(values):
        top = key.partition(".")[0]
        if top in ("hydra", "choices") or key in neutral or top in neutral:
            continue
        is_whole = isinstance(value, float) and value.is_integer()
        numbers[key] = int(value) if is_whole else value
    return numbers


def data_name(values: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    """What the data are called, from flat settings: the choice, or a folder's own name.

    A split or attribute follows. The place of the folder is not part of it.
    """
    details = [values[key] for key in DATA_DETAILS if values.get(key) is not None]
    name = clean(str(values.get("dataset.name") or choices.get("dataset", "")))
    return "-".join([name[:MAX_DATA_NAME], *details])


def digest(value: object) -> str:
    """Six hex digits of a json-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:6]


def clean(name: str) -> str:
    """A file name that pastes unquoted: letters, digits, dot (not first), underscore, hyphen."""
    return re.sub(r"[^A-Za-z0-9._-]+|^\.+", "_", name)
