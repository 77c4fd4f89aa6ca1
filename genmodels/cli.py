"""What the two commands share: one short message for what a user can put right, exit statuses."""

import contextlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from genmodels import files, run_files
from genmodels.composition import CONF, compose_config, group_choices, to_dict, without_hydra
from genmodels.errors import did_you_mean, nearest
from genmodels.job import Job
from genmodels.user_errors import UserError, as_user_error, flatten, unknown_key

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# Plugins of Hydra, with the extra of this project that installs each
PLUGIN_EXTRAS = {
    "hydra/launcher/joblib": "parallel",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/sweeper/optuna": "search",
}


class JobFailed(Exception):
    """A job ended by an error that its log has; it keeps no memory of the job alive."""


def run_command(
    main: Callable[[], object], command: str, at_end: Callable[[], object] = lambda: None
) -> int:
    """Run a command's Hydra main, then `at_end` however it ended; returns the exit status.

    What a user can put right is printed in one short message, without a traceback.
    """
    _open_closed_streams()
    logging.raiseExceptions = False  # a reader that has gone away (| head) is no error
    show_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them

    def checked() -> None:
        check_overrides(sys.argv[1:])
        main()

    status = _status_of(checked, command, show_traceback)
    status_at_end = _status_of(at_end, command, show_traceback)
    try:
        sys.stdout.flush()
    except OSError:  # the reader has gone away: nothing more is to be said at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status or status_at_end


def _status_of(work: Callable[[], object], command: str, show_traceback: bool) -> int:
    """The exit status of some work; what a user can put right is printed."""
    try:
        work()
    except (HydraException, OmegaConfBaseException) as error:  # some of Hydra's are OSErrors too
        if show_traceback:
            raise
        message = explain(error, command, sys.argv[1:])
    except (ValueError, JobFailed, OSError) as error:
        if show_traceback:
            raise
        message = str(error)
    except KeyboardInterrupt:
        return 130
    except SystemExit as exit_:  # of a signal, or of Hydra's command line
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    else:
        return 0
    print(f"{command}.py: {message}", file=sys.stderr)
    return 1


def _open_closed_streams() -> None:
    """Give the streams that a process was started without (2>&-) a place to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def run_job(work: Callable[[DictConfig, Job], Result], cfg: DictConfig) -> Result:
    """Do the work of a command with a job's configuration, in the folder that Hydra made.

    A ValueError or OSError of the work is for the user: it raises UserError, with the setting's
    whole key. Anything else is logged with its traceback and raises JobFailed, which holds on to no
    tensors while a sweep goes on. A folder that a refused run left empty is removed.
    """
    hydra = HydraConfig.get()
    # relative: what is printed pastes into the next command
    folder = Path(os.path.relpath(hydra.runtime.output_dir))
    is_sweep = hydra.mode == RunMode.MULTIRUN
    sweep = Path(hydra.sweep.dir).name if is_sweep else None
    job = Job(folder, group_choices(hydra.runtime.choices), sweep)
    try:
        return work(cfg, job)
    except Exception as error:
        failure = _failure(error, cfg, folder)
        traceback.clear_frames(error.__traceback__)
    if is_sweep:
        _record_failure(job, cfg, failure)
    else:
        with contextlib.suppress(OSError):  # not empty, or not there
            folder.rmdir()
    raise failure


def check_overrides(arguments: Sequence[str]) -> None:
    """Raise UserError for a group that is given no name, and for a setting that is deleted.

    What Hydra cannot read is left to Hydra.
    """
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException:
        return
    for override in parsed:
        key = override.key_or_group
        if override.is_delete() and not key.startswith("hydra"):
            raise UserError(f"~{key}: settings cannot be deleted; many can be null or false")
        choices = _choices(key)
        if not choices:
            continue
        value = override.value()
        for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
            if not isinstance(choice, str):
                raise UserError(
                    f"{key}={override.get_value_string()}: must be one of {', '.join(choices)}"
                )


def _choices(group: str) -> list[str]:
    """The choices of a group of this project, [] for what is none."""
    if group.startswith("hydra") or "." in group:
        return []
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def explain(error: Exception, command: str, arguments: Sequence[str]) -> str:
    """Hydra's or OmegaConf's refusal in our words: the key, what is wrong, what is near."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: cannot be read. Settings are written key=value, lists as "
            "key=[a,b], sweeps as -m key=a,b"
        )
    plugin = re.search(r"Could not (?:find|load) '(hydra/\w+/(\w+))'", text)
    if plugin and plugin[1] in PLUGIN_EXTRAS:
        return (
            f"{plugin[2]}: this plugin of Hydra's is not installed; "
            f"`uv run --extra {PLUGIN_EXTRAS[plugin[1]]} {command}.py ...` installs it"
        )
    key = re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", text)
    if key:
        return _explain_key(key[1] or key[2], command, arguments)
    choice = re.search(
        r"Could not find '([^']+)/([^'/]+)'\s*Available options in '[^']+':\n((?:\t.*\n?)+)", text
    )
    if choice:
        names = choice[3].split()
        hint = did_you_mean(nearest(choice[2], names))
        return f"{choice[1]}={choice[2]}: no such choice; there are {', '.join(names)}{hint}"
    if error.__cause__ is not None:
        text = f"{text} {error.__cause__}"
    return " ".join(text.split())[:500]


def _explain_key(key: str, command: str, arguments: Sequence[str]) -> str:
    """The refusal of a key or group that a configuration with these choices does not have."""
    groups = [path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"]
    chosen = []
    for argument in arguments:
        group, _, names = argument.partition("=")
        if group in groups and group != key:
            chosen.append(f"{group}={names.partition(',')[0]}")
    choices = ", ".join(chosen) or "the default choices"
    if key in groups and command == "train":
        return f"{key}: not a group of {choices}; other models have it"
    with_defaults = _keys(command, [])
    try:
        known = _keys(command, chosen)
    except HydraException:
        known = with_defaults
    is_default_key = any(f"{name}.".startswith(f"{key}.") for name in with_defaults)
    if is_default_key:
        return f"{key}: not a setting of {choices}"
    return str(unknown_key(key, [*known, *groups]))


def _keys(command: str, overrides: Sequence[str]) -> list[str]:
    """All keys of a command's configuration with these choices."""
    values = to_dict(without_hydra(compose_config(command, overrides)), resolve=False)
    return [key for key, _ in flatten(values) if "_target_" not in key]


def _failure(error: Exception, cfg: DictConfig, folder: Path) -> Exception:
    user_error = as_user_error(error, to_dict(cfg, resolve=False))
    if user_error is not None:
        log_file = folder / run_files.LOG
        details = f" (details: {log_file})" if log_file.exists() else ""
        return UserError(f"{user_error}{details}")
    log.error("%s", traceback.format_exc())
    return JobFailed(f"{type(error).__name__}: {error}")


def _record_failure(job: Job, cfg: DictConfig, failure: Exception) -> None:
    """What a job of a sweep leaves that was refused before its run began, for logs and report."""
    if (job.folder / run_files.SUMMARY).exists():
        return
    from genmodels.training import record_settings

    record_settings(cfg, job)
    summary = {"status": "failed", "error": str(failure)}
    files.write_json(job.folder / run_files.SUMMARY, summary)
    files.write_text(job.folder / run_files.LOG, f"{failure}\n")
