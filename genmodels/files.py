"""Files that are either whole or not there.

They are written beside their place, flushed, verified, then renamed into it.
"""

import contextlib
import csv
import io
import json
import logging
import os
import platform
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

HOST = f"{zlib.crc32(platform.node().encode()):08x}"  # in the names of temporary files
MAX_MESSAGE = 200  # characters of another library's message


class DamagedFileError(ValueError):
    """A file of this project that is truncated, changed, or not what its name says."""


@contextlib.contextmanager
def atomic_write(
    path: Path, *, verify: Callable[[Path], object] | None = None, previous: Path | None = None
) -> Iterator[Path]:
    """Give a temporary path to write to, which becomes `path` at the end of the block.

    It vanishes if anything failed. Readers see the old file or the new one, also after a power
    cut, and of several writers at once the last one wins.

    Arguments:
    path: of the file.
    verify: reads the temporary file back and raises if it is not right; `path` then stays as it
        was.
    previous: where the old file is kept; None: nowhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_strays(path.parent)
    temporary = path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with name_in_errors(path):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        if verify is not None:
            verify(temporary)
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@cache
def remove_strays(folder: Path) -> None:
    """Remove temporary files whose writers, processes of this machine, were killed. Looks once."""
    if os.name != "posix":  # elsewhere there is no harmless way to ask for a process
        return
    for path in folder.glob(f".*.{HOST}-*.tmp"):
        number = path.name.split(f".{HOST}-")[-1].partition("-")[0]
        if number.isdigit() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextlib.contextmanager
def reading(path: Path, problem: str) -> Iterator[None]:
    """Turn every failure to make sense of a file's content into one DamagedFileError.

    A file may hold anything, and fail in as many ways. An OSError of the system goes through, since
    it names the file itself.

    Arguments:
    path: of the file.
    problem: what the failure means, as the message words it.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) or getattr(error, "errno", None) is not None:
            raise
        raise DamagedFileError(f"{path}: {problem} ({describe(error)})") from None


def describe(error: BaseException) -> str:
    """An error in one short line: its first line, and its kind where it is not one of ours."""
    lines = str(error).strip().splitlines()
    text = lines[0][:MAX_MESSAGE] if lines else ""
    ours = type(error) is ValueError or type(error).__module__.startswith("genmodels.")
    if ours and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Let an OSError inside that names no file, such as that of a full disk, name this one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


@contextlib.contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock file for a block; if another process holds it, log one line and wait.

    Arguments:
    path: of the lock file.
    doing: what the holder does, as the log words it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        log.info("waiting for another process that %s", doing)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table atomically, its columns named by the first row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def write_json(path: Path, value: object) -> None:
    """Write a json file atomically; NaN and infinities become null, which every reader knows."""
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A json file's content, a mapping; {} where there is no file.

    A file that holds anything else is passed over with a warning.
    """
    try:
        with reading(path, "no json mapping"):
            return as_mapping(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except DamagedFileError as error:
        log.warning("%s: passed over", error)
        return {}


def as_mapping(value: Any) -> dict[str, Any]:
    """The value, where it is a mapping of texts. Raises TypeError where it is not."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise TypeError("not a mapping")
    return value


def finite(value: object) -> object:
    """The same nested value with non-finite floats as None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def _sync_folder(folder: Path) -> None:
    # Windows has no file descriptors for folders, and renames there are durable.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
