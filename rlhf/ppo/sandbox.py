"""Running code that nobody has read: bubblewrap, without network, files to write, processes or project; within limits.

There is no fallback. Where bubblewrap is not installed, or may make no namespaces, nothing is run.
"""

import json
import math
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.ppo.sandbox_filter import syscall_filter
from rlhf.ppo.sandbox_root import sandbox_root

START_S = 60.0  # for the interpreter to start, on a machine that has much else to do: no fault of the code


@dataclass(frozen=True, slots=True)
class Limits:
    """What the code may use. It may start no process and no thread, and write no file, so each is a limit of all."""

    wall_s: float  # from when the interpreter has started; after it everything in the sandbox is killed
    cpu_s: float
    memory_bytes: int  # address space
    answer_bytes: int  # of all values together, as JSON


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it."""

    compiled: bool
    values: tuple[object, ...]  # what each call returned, as JSON; FAILED where it raised, or was never reached
    timed_out: bool


class _Failed:
    """The value of a call that gave none."""

    def __repr__(self) -> str:
        return "FAILED"


FAILED = _Failed()


def check_sandbox() -> None:
    """Raise UserError unless code can be run in a sandbox here."""
    code = "import os\ndef f(x):\n    try:\n        os.fork()\n    except OSError:\n        return x"
    tried = run_calls(code, "f", [[1]], Limits(wall_s=60, cpu_s=60, memory_bytes=1 << 30, answer_bytes=1 << 20))
    if tried.values != (1,):
        raise UserError("bubblewrap (bwrap) makes no sandbox that holds here, and code is not run without one")


def run_calls(code: str, function: str, calls: Sequence[Sequence[object]], limits: Limits) -> Ran:
    """Run `code` in a fresh sandbox and call its `function` once for each list of arguments.

    Arguments and values are JSON. The code sees Python's standard library and nothing else. Anything it does wrong (an
    exception, an endless loop, too much memory, exiting) leaves its calls FAILED and raises nothing.

    Raises:
        UserError: there is no sandbox (`check_sandbox` makes one to try).
    """
    program = shutil.which("bwrap")
    if program is None:
        raise UserError(
            "bubblewrap (the program bwrap) is not installed, and code is not run without a sandbox; "
            "install it, as with `apt-get install bubblewrap`"
        )
    request = json.dumps({"code": code, "function": function, "calls": [list(call) for call in calls]})
    with _Memory(request.encode()) as asked, _Memory(syscall_filter()) as allowed, _Memory() as complaints:
        process = subprocess.Popen(  # noqa: S603 - the code is data to it
            [program, *_arguments(allowed.number, limits)],
            stdin=asked.number,
            stdout=subprocess.PIPE,
            stderr=complaints.number,
            pass_fds=[allowed.number],
            env={},
        )
        try:
            answer, timed_out = _collect(process, limits)
        finally:
            process.kill()  # and with it, since it dies with its parent, everything in the sandbox
            process.wait()
        if b"\n" not in answer:
            raise UserError(f"bubblewrap (bwrap) cannot make a sandbox here, and code is not run without one: "
                            f"{complaints.last_line() or 'no reason given'}")  # fmt: skip
    return _read(answer.splitlines()[1 : len(calls) + 2], len(calls), timed_out)


class _Memory:
    """A file without a place, for a program to read or to write to."""

    def __init__(self, content: bytes = b"") -> None:
        self.number = os.memfd_create("sandbox")
        with os.fdopen(os.dup(self.number), "wb") as file:
            file.write(content)
        os.lseek(self.number, 0, os.SEEK_SET)

    def __enter__(self) -> "_Memory":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)

    def last_line(self) -> str:
        lines = os.pread(self.number, 1 << 16, 0).decode(errors="replace").split("\n")
        return next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")


def _arguments(allowed: int, limits: Limits) -> list[str]:
    """Namespaces of its own, no rights in them, a file system of `sandbox_root`, and the interpreter."""
    root = sandbox_root()
    seconds = math.ceil(limits.cpu_s)
    caps = {
        "RLIMIT_CPU": seconds,
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    runner = Path(__file__).with_name("sandbox_runner.py").read_text(encoding="utf-8")
    return [
        *("--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *root.mounts,
        *("--chdir", "/", "--seccomp", str(allowed), "--"),
        *root.python,
        *("-c", runner, json.dumps(caps)),
    ]


def _collect(process: "subprocess.Popen[bytes]", limits: Limits) -> tuple[bytes, bool]:
    """What it writes until it ends, has had its time, or has written more than it may; whether it was the time."""
    assert process.stdout is not None  # noqa: S101 - for the type checker: it was asked for
    answer, deadline, started = bytearray(), time.monotonic() + START_S, False
    with process.stdout as out:
        while len(answer) <= limits.answer_bytes:
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([out], [], [], wait)[0]:
                return bytes(answer), True
            part = os.read(out.fileno(), 1 << 16)
            if not part:
                break
            answer += part
            if not started and b"\n" in answer:
                started, deadline = True, time.monotonic() + limits.wall_s
    return bytes(answer), False


def _read(lines: Iterable[bytes], calls: int, timed_out: bool) -> Ran:
    """The lines that the runner wrote, as far as they are whole and are JSON as the standard has it."""
    compiled = False
    values: list[object] = [FAILED] * calls
    for line in lines:
        try:
            said = json.loads(line, parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError):
            continue
        if not isinstance(said, dict):
            continue
        compiled = compiled or said.get("compiled") is True
        index = said.get("call")
        if type(index) is int and 0 <= index < calls and "value" in said:
            values[index] = said["value"]
    return Ran(compiled, tuple(values), timed_out)


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)
