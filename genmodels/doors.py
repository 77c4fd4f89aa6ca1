"""What the two entry points share: one short message for what a user can put right, exit statuses, failed jobs."""

import contextlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from genmodels import config, files, run_files
from genmodels.errors import did_you_mean, nearest
from genmodels.legal import UserError, check, full_key, leaves, plain, unknown

log = logging.getLogger(__name__)

Result = TypeVar("Result")
PLUGINS = {
    "hydra/launcher/joblib": "parallel",
    "hydra/launcher/submitit_local": "slurm",
    "hydra/launcher/submitit_slurm": "slurm",
    "hydra/sweeper/optuna": "search",
}  # and what extra brings them


class JobFailed(Exception):
    """A job ended by an error that its log has; keeps nothing of the job's memory alive."""


def enter(
    main: Callable[[], object], door: str, at_end: Callable[[], object] = lambda: None
) -> int:
    """Run a door's Hydra main, and `at_end` however it ended; returns the exit status.

    What a user can put right is printed in one short message, without a traceback.
    """
    explained = "HYDRA_FULL_ERROR" not in os.environ
    os.environ["HYDRA_FULL_ERROR"] = (
        "1"  # Hydra then raises its errors instead of printing them its own way
    )
    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:  # some of Hydra's are OSErrors too
        if not explained:
            raise
        message = _explain(error, door)
    except (UserError, JobFailed, OSError) as error:
        message = str(error)
    except KeyboardInterrupt:
        return 130
    else:
        return 0
    finally:
        at_end()
    print(f"{door}.py: {message}", file=sys.stderr)
    return 1


def job(work: Callable[[DictConfig, Path], Result], cfg: DictConfig, door: str) -> Result:
    """Check a configuration and do a door's work with it, in the folder that Hydra made; returns what it returns.

    A ValueError or OSError of the work is the user's business and raises UserError, naming the setting in full;
    anything else is logged with its traceback and raises JobFailed, which holds on to no tensors while a sweep goes on.
    A folder that a refused run left empty is removed.
    """
    hydra = HydraConfig.get()
    folder = Path(
        os.path.relpath(hydra.runtime.output_dir)
    )  # what is printed pastes into the next command
    try:
        check(cfg, door)
        return work(cfg, folder)
    except Exception as error:
        cause = (
            error.__cause__
            if isinstance(error, InstantiationException) and error.__cause__
            else error
        )
        if isinstance(cause, ValueError | ArithmeticError | OSError):
            begun = (folder / run_files.LOG).exists()
            details = f" (details: {folder / run_files.LOG})" if begun else ""
            failure: Exception = UserError(full_key(plain(cfg), str(cause)) + details)
        else:
            log.error("%s", traceback.format_exc())
            failure = JobFailed(f"{type(cause).__name__}: {cause}")
        traceback.clear_frames(error.__traceback__)
    if hydra.mode == RunMode.MULTIRUN:
        _keep_failure(folder, cfg, failure)
    else:
        with contextlib.suppress(OSError):  # not empty, or not there
            folder.rmdir()
    raise failure


def composed(door: str, overrides: Sequence[str]) -> DictConfig:
    """What a door's configuration is with these overrides, Hydra's own in its node `hydra`; also inside a job."""
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config.CONF)):
            return compose(door, overrides=list(overrides), return_hydra_config=True)
    finally:
        GlobalHydra.instance().hydra = running


def _keep_failure(folder: Path, cfg: DictConfig, failure: Exception) -> None:
    """What a job of a sweep leaves that was refused before its run began, so that logs and report have it."""
    if not (folder / run_files.SUMMARY).exists():
        config.save(folder, config.record(cfg))
        files.write_json(folder / run_files.SUMMARY, {"status": "failed", "error": str(failure)})
        files.write_text(folder / run_files.LOG, f"{failure}\n")


def _explain(error: Exception, door: str) -> str:
    """Hydra's or OmegaConf's refusal in our words: the key, what is wrong, what is legal or near."""
    words = str(error)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: cannot be read. Settings are written key=value, lists as key=[a,b], sweeps as "
            "-m key=a,b"
        )
    if (match := re.search(r"Could not (?:find|load) '(hydra/\w+/(\w+))'", words)) and match[
        1
    ] in PLUGINS:
        return (
            f"{match[2]}: this plugin of Hydra's is not installed; "
            f"`uv run --extra {PLUGINS[match[1]]} {door}.py ...` brings it"
        )
    if match := re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", words):
        key = match[1] or match[2]
        return _left_out(key, door) or _elsewhere(key, door) or str(unknown(key, _known(door)))
    if match := re.search(
        r"Could not find '([^']+)/([^'/]+)'\s*Available options in '[^']+':\n((?:\t.*\n?)+)", words
    ):
        group, choice, choices = match[1], match[2], match[3].split()
        return f"{group}={choice}: no such choice; there are {', '.join(choices)}" + did_you_mean(
            nearest(choice, choices)
        )
    cause = error.__cause__
    return " ".join((words if cause is None else f"{words} {cause}").split())[:500]


def _known(door: str) -> list[str]:
    """All keys and groups of a door, with the choices of this command line as far as they can be had."""
    try:
        keys = _keys(
            door, [f"{group}={names[0]}" for group, names in _chosen(door) if len(names) == 1]
        )
    except HydraException:
        keys = _keys(door)
    return keys + _groups(door)


def _left_out(key: str, door: str) -> str:
    """The refusal of a key that would be there but for a choice of this command line, "" for any other key."""
    usual = _keys(door)
    for group, names in _chosen(door):
        for name in names:
            with contextlib.suppress(HydraException):
                if _within(key, usual) and not _within(key, _keys(door, [f"{group}={name}"])):
                    about = (
                        (config.CONF / group / f"{name}.yaml")
                        .read_text(encoding="utf-8")
                        .splitlines()
                    )
                    words = next(
                        line for line in about if line.startswith("#") and "@package" not in line
                    )
                    return f"{key}: no setting of {group}={name}: {words.lstrip('# ')}"
    return ""


def _elsewhere(group: str, door: str) -> str:
    """The refusal of a group that comes with other models than this command line's, "" for any other key."""
    if group not in _groups(door):
        return ""
    models = sorted(path.stem for path in (config.CONF / "model").glob("*.yaml"))
    having = [
        name for name in models if group in composed(door, [f"model={name}"]).hydra.runtime.choices
    ]
    return f"{group}: comes with model={', '.join(having)}"


def _within(key: str, keys: list[str]) -> bool:
    """Whether a key, which may be a node, is among these or holds one of them."""
    return any(f"{known}.".startswith(f"{key}.") for known in keys)


def _groups(door: str) -> list[str]:
    folders = config.CONF.iterdir() if door == "train" else ()
    return [path.name for path in folders if path.is_dir() and path.name != "hydra"]


def _chosen(door: str) -> list[tuple[str, list[str]]]:
    """The groups that this command line chooses from, with the names that it gives: several in a sweep."""
    groups = _groups(door)
    pairs = [argument.partition("=")[::2] for argument in sys.argv[1:]]
    return [(group, names.split(",")) for group, names in pairs if group in groups]


def _keys(door: str, chosen: Sequence[str] = ()) -> list[str]:
    """All keys of a door's configuration with these choices."""
    keys = [key for key, _ in leaves(plain(composed(door, chosen), resolve=False))]
    return [key for key in keys if "_target_" not in key and not key.startswith("hydra.")]
