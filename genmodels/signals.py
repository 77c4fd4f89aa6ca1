"""Signals that ask a run to stop."""

import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType

from genmodels import parallel

log = logging.getLogger(__name__)


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """The list of signals caught so far. A second signal ends the process at once, but none of
    several: torchrun passes on to each what a terminal has sent to each already.

    At the end the first one is handed to the handler that was there before, such as that of a batch
    system's launcher, which queues the job again.
    """
    caught: list[int] = []

    def catch(number: int, _: FrameType | None) -> None:
        if caught and parallel.count() == 1:
            raise KeyboardInterrupt
        caught.append(number)
        log.warning("%s: saving after this step", signal.Signals(number).name)

    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]  # Windows has two
    numbers = [number for number in known if signal.getsignal(number) != signal.SIG_IGN]
    try:
        before = {number: signal.signal(number, catch) for number in numbers}
    except ValueError:  # not in the main thread: signals are someone else's
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught:
            handler = before[caught[0]]
            if callable(handler) and handler is not signal.default_int_handler:
                handler(caught[0], None)
