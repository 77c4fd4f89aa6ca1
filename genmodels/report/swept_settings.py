"""In which settings the runs of a sweep differ, and in what else they must not."""

from collections.abc import Sequence

from genmodels.formatting import format_setting
from genmodels.report.runs import RunRecord

# Group -> the settings, other groups among them, whose defaults its choices set
GROUP_DEFAULTS = {
    "dataset": (
        "epochs",
        "augment",
        "image_shape",
        "num_classes",
        "likelihood",
        "binarise",
        "diff_augment",
        "penalty",
    ),
    "model": (
        "trainer",
        "epochs",
        "lr",
        "batch_size",
        "augment",
        "optimizer",
        "lr_schedule",
        "prior",
        "likelihood",
        "penalty",
    ),
    "objective": ("kl_schedule", "kl_weight"),
    "likelihood": ("binarise",),
    "adversarial_loss": ("penalty",),
}
# Values in the configuration of a run that was refused before it began
UNRESOLVED = ("???", "auto")
# Fact of a run -> the settings that change it
CAUSES = {
    "parameters": {"model", "likelihood", "dataset"},
    "data": {"dataset"},
    "code version": set(),
    "steps": {"epochs", "max_steps", "batch_size", "dataset", "model"},
}


def swept_settings(runs: Sequence[RunRecord]) -> list[str]:
    """The settings in which runs differ, sorted, the seed last.

    Of a group that was swept only its choice is listed, not what follows from it. Of settings that
    have the same value in every run, as trainer.kl_weight has that of kl_weight, the shortest name
    is listed.
    """
    keys: set[str] = set()
    for run in runs:
        keys.update(run.settings)
    differing = {key for key in keys if _differs(key, runs)}
    shortest: dict[tuple[str, ...], str] = {}  # values -> name
    for key in sorted(differing, key=lambda key: (key.count("."), key)):
        shortest.setdefault(_column(key, runs), key)
    swept = []
    for key in shortest.values():
        if not _follows_from_group(key, differing, runs):
            swept.append(key)
    return sorted(swept, key=lambda key: (key == "seed", key))


def unswept_differences(runs: Sequence[RunRecord], swept: Sequence[str]) -> list[str]:
    """Sentences on why runs cannot be compared as if only the swept settings were different."""
    changed = {key.partition(".")[0] for key in swept}
    sentences = []
    for fact, causes in CAUSES.items():
        values = dict.fromkeys(_facts(run)[fact] for run in runs)
        values.pop(None, None)
        if len(values) > 1 and not causes & changed:
            known = ", ".join(map(str, values))
            sentences.append(f"The runs differ in {fact} ({known}), which was not swept.")
    return sentences


def _facts(run: RunRecord) -> dict[str, object]:
    """What should be the same in all runs; None for what is unknown."""
    summary = run.summary
    return {
        "parameters": summary.get("parameters"),
        "data": summary.get("data"),
        "code version": summary.get("provenance", {}).get("git_commit"),
        "steps": summary.get("step") if run.status == "finished" else None,
    }


def _differs(key: str, runs: Sequence[RunRecord]) -> bool:
    """Whether a setting has several known values.

    A nested setting that a run lacks is unknown: it comes with the choice of a group.
    """
    missing = "auto" if "." in key else None
    values = [run.settings.get(key, missing) for run in runs]
    known = set(map(format_setting, values)).difference(UNRESOLVED)
    return len(known) > 1


def _column(key: str, runs: Sequence[RunRecord]) -> tuple[str, ...]:
    """The values of a setting in the runs, as text."""
    values = [run.settings.get(key) for run in runs]
    return tuple(map(format_setting, values))


def _follows_from_group(key: str, differing: set[str], runs: Sequence[RunRecord]) -> bool:
    """Whether a setting belongs to a group that differs, too, or follows from its choice: it is a
    default of the choice or a setting that other choices lack, and the same for equal choices."""
    names = key.split(".")
    if differing.intersection(names[:-1]):
        return True
    is_lacking = any(key not in run.settings for run in runs)
    for group, defaults in GROUP_DEFAULTS.items():
        if group in differing - {key} and (is_lacking or set(defaults).intersection(names)):
            choices = _column(group, runs)
            pairs = set(zip(choices, _column(key, runs), strict=True))
            if len(pairs) == len(set(choices)):
                return True
    return False
