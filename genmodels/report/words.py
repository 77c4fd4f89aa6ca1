"""Headings and titles in words: "KL weight" for kl_weight, "MLP VAE" for vae_mlp."""

from collections.abc import Sequence

from genmodels.quantities import quantity
from genmodels.report.cells import format_cell, setting_word
from genmodels.report.runs import TEST, VALIDATION
from genmodels.report.sweep import Sweep

MODELS = {
    "vae": "VAE",
    "vae_mlp": "MLP VAE",
    "cvae": "conditional VAE",
    "cvae_mlp": "conditional MLP VAE",
    "gan": "GAN",
    "cgan": "conditional GAN",
}
MAX_SETTINGS = 4  # that a title lists
MAX_VALUES = 5  # of a setting that a title lists


def heading(name: str) -> str:
    """The heading of a column of a table, of a setting or of a metric of a split."""
    split, _, metric = name.partition(" ")
    if split in (VALIDATION, TEST) and metric:
        return f"{split} {quantity(metric).label}"
    return setting_word(name)


def title(sweep: Sweep) -> str:
    """What was swept, of which model: "KL weight 0, 1, 30 x 2 seeds, MLP VAE on digits"."""
    parts = []
    for key in sweep.factors:
        values = list(dict.fromkeys(format_cell(group.settings[key]) for group in sweep.groups))
        parts.append(f"{setting_word(key)} {_listed(values)}")
    if len(parts) > MAX_SETTINGS:
        parts = [f"{len(parts)} settings in {len(sweep.groups)} combinations"]
    seeds = {run.settings.get("seed") for run in sweep.runs} - {None}
    if len(seeds) > 1:
        parts.append(f"{len(seeds)} seeds")
    subject = []
    models = _common(sweep, "model")
    if models:
        subject.append(MODELS.get(models, models))
    data = _common(sweep, "dataset")
    if data:
        subject.append(f"on {data}")
    swept = " \N{MULTIPLICATION SIGN} ".join(parts)
    return ", ".join(filter(None, [swept, " ".join(subject)])) or "One run"


def _listed(values: Sequence[str]) -> str:
    if len(values) <= MAX_VALUES:
        return ", ".join(values)
    return f"{values[0]} to {values[-1]} ({len(values)} values)"


def _common(sweep: Sweep, key: str) -> str | None:
    """The value of a setting that all runs have; None where they differ."""
    values = {run.settings.get(key) for run in sweep.runs if run.settings}
    return values.pop() if len(values) == 1 else None
