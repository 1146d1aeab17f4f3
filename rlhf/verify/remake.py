"""Run `dvc repro` in a scratch folder, with a bar that tells the time left."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.core.progress import track

POLL_S = 0.2
GRACE_S = 20.0  # for the stages to save and stop
_STAGE = re.compile(rb"^Running stage '([^']+)'", re.MULTILINE)
_LEFT_OUT = (  # what would lead the run to earlier results, or git and DVC to another project
    "RLHF_CHECKPOINT_DIR", "RLHF_JUDGE_CACHE", "DVC_ROOT", "DVC_STUDIO_TOKEN", "GIT_DIR", "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
)  # fmt: skip


def remake(project: Path, until: str | None, seconds: Mapping[str, float], *, python: Path | None = None) -> None:
    """Make the run in `project` up to a stage, or all of it; what it prints goes to repro.log beside the project.

    seconds: how long each stage took before, in order, as far as that is known. python: this one without it.

    Raises:
        UserError: a stage failed; what it said, and where the log is.
    """
    python = python or Path(sys.executable)
    log = project.parent / "repro.log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603 - this Python and a stage's name
            [str(python), "-m", "dvc", "repro", *([until] if until else [])], cwd=project, stdin=subprocess.DEVNULL,
            stdout=out, stderr=subprocess.STDOUT, env=environment(project, python), start_new_session=True,
        )  # fmt: skip
        try:
            _watch(process, log, seconds)
        finally:
            _end(process)
    if process.returncode:
        raise UserError(f"verify: the run stopped: {reason(log)}; all of it is in {log}")


def environment(project: Path, python: Path) -> dict[str, str]:
    """Give the run this environment, less what would let it find earlier results, and DVC settings of its own."""
    own = {name: value for name, value in os.environ.items() if name not in _LEFT_OUT}
    site = project.parent / "dvc"
    return own | {
        "PATH": os.pathsep.join([str(python.parent), own.get("PATH", "")]),
        "PYTHONHASHSEED": "0",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(site / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(site / "global"),  # a cache that all projects of this user share
        "DVC_SYSTEM_CONFIG_DIR": str(site / "system"),
    }


def reason(log: Path) -> str:
    """Say why a run stopped, in one line: the stage's own error where it has one, else DVC's."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for mark in ("error: ", "ERROR: "):
        if said := [line for line in lines if line.startswith(mark)]:
            more = f" (and {len(said) - 1} more)" if mark == "error: " and len(said) > 1 else ""
            return said[0].removeprefix(mark) + more
    return lines[-1] if lines else "it said nothing"


class Clock:
    """How much of the run is done, in seconds of the run that was measured."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = dict(seconds)
        self.total = sum(self._seconds.values())
        self._running, self._since = "", 0.0

    def read(self, started: list[str], now: float) -> float:
        """Count the stages that have ended whole, and the one at work as far as it can be by the time that it has had.

        started: the stages begun so far, in order. now: seconds on a clock.
        """
        if started and started[-1] != self._running:
            self._running, self._since = started[-1], now
        ended = sum(self._seconds.get(stage, 0.0) for stage in started[:-1])
        at_work = self._seconds.get(self._running, 0.0)
        return ended + min(now - self._since, at_work) if started else 0.0


def _watch(process: "subprocess.Popen[bytes]", log: Path, seconds: Mapping[str, float]) -> None:
    clock = Clock(seconds)
    with track(max(1, round(clock.total)), "verify", unit="s") as bar:
        while process.poll() is None:
            time.sleep(POLL_S)
            started = [name.decode() for name in _STAGE.findall(log.read_bytes())]
            done = clock.read(started, time.monotonic())
            bar.set_postfix_str(started[-1] if started else "", refresh=False)
            bar.update(max(0, int(done) - bar.n))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop what is still running: the command and the stage that it has started."""
    if process.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):  # asked twice: now at once
            process.wait(GRACE_S)
            return
