"""Several processes that share one run, as forks of the test's own: they meet by a file, and are awaited in bounds."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from rlhf.core import processes
from rlhf.core.processes import Processes

LIMIT_S = 300.0  # a hang fails; no test is that slow


def start(size: int, meeting: Path, work: Callable[[Processes], None]) -> list[int]:
    """Start `size` children that join and work; returns their ids, by rank. What one prints goes to <meeting>-<rank>.

    Their status is 0, 75 where another one was lost, else 1.
    """
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            _be(rank, size, meeting, work)
        children.append(child)
    return children


def ended(children: list[int]) -> list[int]:
    """Wait for all; return their exit statuses, below 0 the signal. Those that outlive the limit are killed."""
    found: dict[int, int] = {}
    give_up = time.monotonic() + LIMIT_S
    while len(found) < len(children):
        for child in set(children) - set(found):
            if time.monotonic() > give_up:
                os.kill(child, signal.SIGKILL)
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                found[child] = os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return [found[child] for child in children]


def together(size: int, meeting: Path, work: Callable[[Processes], None]) -> None:
    """Run `work` in `size` processes that share a run; fail if one of them fails."""
    statuses = ended(start(size, meeting, work))
    shown = "\n".join(f"{rank}: {said(meeting, rank)}" for rank, status in enumerate(statuses) if status)
    assert statuses == [0] * size, shown


def said(meeting: Path, rank: int) -> str:
    path = meeting.with_name(f"{meeting.name}-{rank}")
    return path.read_text() if path.exists() else ""


def _be(rank: int, size: int, meeting: Path, work: Callable[[Processes], None]) -> None:
    code = 1
    try:
        meeting.parent.mkdir(parents=True, exist_ok=True)
        sys.stderr = meeting.with_name(f"{meeting.name}-{rank}").open("w")
        os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
        here = processes.ALONE if size == 1 else processes.join(rank, size, timeout_s=120, meeting=str(meeting))
        work(here)
        processes.leave()
        code = 0
    except processes.Lost:
        code = 75
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
