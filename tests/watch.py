"""What the process under test does to the machine: its time, its memory, and where it writes."""

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

SECONDS = 20  # that an attempt may take
BYTES = 2 * 10**9  # by which it may raise the peak memory of the process
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events of Python whose first argument is the path that is changed -> where the argument is that
# tells of which open folder the path is a part, or -1; None where there is none
CHANGES = {
    "os.rename": 2,
    "os.remove": 1,
    "os.mkdir": 2,
    "os.rmdir": 1,
    "os.truncate": None,
    "os.link": 2,
    "os.symlink": 2,
    "shutil.rmtree": None,
}
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "pty.spawn")
PROGRAMS = ("git",)  # that a run asks for its commit

_home: list[Path] = []  # where the attempt that runs may write; a hook cannot be taken away again
_offences: list[str] = []


class Watch:
    """Seconds of the slowest attempt so far."""

    def __init__(self, home: Path) -> None:
        """home: the folder below which attempts may write."""
        self.home = home.resolve()
        self.slowest = 0.0

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """Run a block, which must end in SECONDS, write nothing outside, start no program.

        Raises AssertionError where it did not.
        """
        start, peak = time.perf_counter(), peak_memory()
        before = signal.signal(signal.SIGALRM, _take_too_long)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        _home.append(self.home)
        try:
            yield
        finally:
            _home.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            self.slowest = max(self.slowest, time.perf_counter() - start)
        offences, _offences[:] = list(_offences), []
        assert not offences, offences
        assert peak_memory() - peak < BYTES, peak_memory()


class Hanging(BaseException):
    """Not an Exception, which the code under test might turn into a message."""


def peak_memory() -> int:
    """The largest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _take_too_long(_: int, frame: FrameType | None) -> None:
    raise Hanging(f"more than {SECONDS} s, in {frame}")


def _notice(event: str, arguments: tuple[Any, ...]) -> None:
    if not _home:
        return
    if event == "open":
        path, _, flags = arguments
        if (
            isinstance(flags, int)
            and flags & WRITING
            and isinstance(path, str | bytes | os.PathLike)
        ):
            _judge(event, path)
    elif event in CHANGES:
        place = CHANGES[event]
        if place is None or arguments[place] == -1:  # else shutil.rmtree has told of it
            _judge(event, arguments[0])
        if event in ("os.rename", "os.link", "os.symlink"):
            _judge(event, arguments[1])
    elif event in FORBIDDEN or (event == "subprocess.Popen" and arguments[0] not in PROGRAMS):
        _offences.append(f"{event} {arguments[:2]}")


def _judge(event: str, path: Any) -> None:
    if isinstance(path, int):  # a file that is open already
        return
    place = Path(os.path.abspath(os.fsdecode(path)))
    is_compiler = place.parent == Path(tempfile.gettempdir()) and place.name.startswith("torch")
    if not is_compiler and not any(place.is_relative_to(home) for home in (_home[0], Path("/dev"))):
        _offences.append(f"{event} {place}")


sys.addaudithook(_notice)
