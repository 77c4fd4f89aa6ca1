"""What the two commands share: one short message for what a user can put right, exit statuses."""

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from genmodels import files, run_files, torchrun
from genmodels.command_line import check_arguments, explain, in_order, with_lists
from genmodels.composition import group_choices, to_dict
from genmodels.formatting import program
from genmodels.help_text import HELP, help_text
from genmodels.job import Job
from genmodels.user_errors import UserError, as_user_error

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class JobFailed(Exception):
    """A job ended by an error that its log has; it keeps no memory of the job alive."""


class CommandFailed(SystemExit):
    """The only job of a command failed. Hydra lets it through, and adds no line of its own."""


def run_command(
    main: Callable[[], object],
    command: str,
    check: Callable[[Sequence[str]], object] = lambda _: None,
    at_end: Callable[[], object] = lambda: None,
) -> int:
    """Run a command's Hydra main, then `at_end` however it ended; returns the exit status.

    What a user can put right is printed in one short message, without a traceback.

    Arguments:
    main: the command.
    command: its name.
    check: refuses arguments of the command line, before anything else is done with them.
    at_end: done in the end.
    """
    _open_closed_streams()
    logging.raiseExceptions = False  # a reader that has gone away (| head) is no error
    show_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing them

    def checked() -> None:
        sys.argv[1:] = with_lists(in_order(sys.argv[1:]))
        check_arguments(command, sys.argv[1:])
        if set(HELP).intersection(sys.argv):
            print(help_text(command, sys.argv[1:]))
            return
        check(sys.argv[1:])
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
    except CommandFailed as error:
        message = str(error)
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
    if torchrun.local_rank() == 0:  # the machine's other processes refuse the same
        print(f"{program(command)}: {message}", file=sys.stderr)
    return 1


def _open_closed_streams() -> None:
    """Give the streams that a process was started without (2>&-) a place to write to."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def run_job(work: Callable[[DictConfig, Job], Result], cfg: DictConfig) -> Result:
    """Do the work of a command with a job's configuration, in the folder that Hydra made.

    A ValueError or OSError of the work is for the user: its message has the setting's whole key.
    Anything else is logged with its traceback. A job of a sweep then raises UserError or JobFailed,
    which hold on to no tensors while the sweep goes on, and the only job CommandFailed. A folder
    that a refused run left empty is removed.
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
        raise failure
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()
    raise CommandFailed(str(failure))


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
