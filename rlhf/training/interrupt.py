"""SIGINT and SIGTERM stop a loop at its next step, after it has saved. A second signal stops it at once."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rlhf.core.errors import Stopped


class Stop:
    """Remembers that a signal has come."""

    def __init__(self) -> None:
        self.requested = False

    def check(self, save: Callable[[], None]) -> None:
        """Save and stop, if a signal has come; to be called once a step.

        Raises:
            Stopped: one has come, and `save` has run.
        """
        if self.requested:
            save()
            raise Stopped


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Catch SIGINT and SIGTERM for the length of the block.

    Raises:
        Stopped: a signal came after the last `check`; what was saved last is what a new run resumes from.
    """
    stop = Stop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    for number in previous:
        signal.signal(number, handle)
    try:
        yield stop
        if stop.requested:
            raise Stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
