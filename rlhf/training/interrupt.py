"""SIGINT and SIGTERM stop a loop at its next step, after it has saved. A second signal stops it at once.

Of several processes that share the work all stop at the same step, whichever of them the signal came to. In one that
the stage's own launcher has started SIGTERM keeps its meaning: another process has failed, and this one ends at once.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rlhf.core.errors import Stopped
from rlhf.core.launcher import stop_signals
from rlhf.core.processes import current


class Stop:
    """Remembers that a signal has come."""

    def __init__(self) -> None:
        self.requested = False

    def agree(self, due: bool) -> bool:
        """Decide for all processes together, once a step: whether to stop (one was asked to), and whether to save.

        Returns whether it is time to save, by the clock of the main process: the moment that `due` gives there.
        """
        told = current().numbers(self.requested, due)
        self.requested = any(requested for requested, _ in told)
        return bool(told[0][1])

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
    previous = {number: signal.getsignal(number) for number in stop_signals()}

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
