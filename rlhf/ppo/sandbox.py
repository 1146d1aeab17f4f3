"""Running code that nobody has read: bubblewrap, without network, home or project, within hard limits.

There is no fallback. Where bubblewrap is not installed, or may make no namespaces, nothing is run.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Limits:
    """What the code may use; each is enforced by the kernel."""

    wall_s: float  # after it everything in the sandbox is killed
    cpu_s: float
    memory_bytes: int  # address space of a process
    file_bytes: int  # of each file, of the answer, and of the sandbox's /tmp as a whole
    processes: int  # not enforced by the kernel where the caller is root


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

# Runs inside. Expected values never come in, and what the code prints goes nowhere, so all that it can do to seem right
# is to return what is right.
_RUNNER = """
import json, os, resource, sys
for name, value in json.loads(sys.argv[1]).items():
    resource.setrlimit(getattr(resource, name), (value, value))
request = json.load(sys.stdin)
out = os.fdopen(os.dup(1), "w")
for number in (1, 2):
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
def say(**said):
    out.write(json.dumps(said) + "\\n")
    out.flush()
code = compile(request["code"], "answer.py", "exec")
say(compiled=True)
names = {"__name__": "answer"}
exec(code, names)
for index, arguments in enumerate(request["calls"]):
    try:
        say(call=index, value=names[request["function"]](*arguments))
    except Exception:  # the answer's own fault: its call stays FAILED
        pass
"""


def check_sandbox() -> None:
    """Raise UserError unless code can be run in a sandbox here."""
    if shutil.which("bwrap") is None:
        raise UserError(
            "bubblewrap (the program bwrap) is not installed, and code is not run without a sandbox; "
            "install it, as with `apt-get install bubblewrap`"
        )
    command = [*_command(1 << 20), "-c", ""]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if tried.returncode != 0:
        said = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"bubblewrap (bwrap) cannot make a sandbox here, and code is not run without one: {said}")


def run_calls(code: str, function: str, calls: Sequence[Sequence[object]], limits: Limits) -> Ran:
    """Run `code` in a fresh sandbox and call its `function` once for each list of arguments.

    Arguments and values are JSON. The code sees Python's standard library and an empty /tmp, nothing else. Anything it
    does wrong (an exception, an endless loop, too much memory, exiting) leaves its calls FAILED and raises nothing.

    Raises:
        UserError: there is no sandbox (`check_sandbox`, which makes one to try, is the earlier and dearer test).
    """
    if shutil.which("bwrap") is None:
        check_sandbox()
    seconds = math.ceil(limits.cpu_s)
    caps = {
        "RLIMIT_CPU": seconds,
        "RLIMIT_AS": limits.memory_bytes,
        "RLIMIT_FSIZE": limits.file_bytes,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_CORE": 0,
    }
    command = [*_command(limits.file_bytes), "-c", _RUNNER, json.dumps(caps)]
    request = json.dumps({"code": code, "function": function, "calls": [list(call) for call in calls]})
    with tempfile.TemporaryFile() as answer:  # a file and no pipe: its size is limited
        timed_out = False
        try:
            subprocess.run(  # noqa: S603 - the code is data to it
                command,
                input=request.encode(),
                stdout=answer,
                stderr=subprocess.DEVNULL,
                timeout=limits.wall_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            timed_out = True
        answer.seek(0)
        return _read(answer.read(limits.file_bytes), len(calls), timed_out)


def _command(tmp_bytes: int) -> list[str]:
    """bwrap and the interpreter in it, isolated (-I) and without site packages (-S)."""
    python = Path(os.path.realpath(sys.executable))
    places = ["/usr", "/lib", "/lib64", "/bin"]
    binds = [part for place in places if Path(place).exists() for part in ("--ro-bind", place, place)]
    prefix = Path(sys.base_prefix)
    if not prefix.is_relative_to("/usr"):
        binds += ["--ro-bind", str(prefix), str(prefix)]
    return [
        "bwrap",
        *("--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"),
        *("--uid", "65534", "--gid", "65534"),
        *binds,
        *("--proc", "/proc", "--dev", "/dev", "--size", str(tmp_bytes), "--tmpfs", "/tmp", "--chdir", "/tmp"),  # noqa: S108 - in the sandbox
        *("--remount-ro", "/"),
        *(str(python), "-I", "-S"),
    ]


def _read(answer: bytes, calls: int, timed_out: bool) -> Ran:
    """The lines that the runner wrote, as far as they are whole."""
    compiled = False
    values: list[object] = [FAILED] * calls
    for line in answer.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if not isinstance(said, dict):
            continue
        compiled = compiled or said.get("compiled") is True
        index = said.get("call")
        if isinstance(index, int) and 0 <= index < calls and "value" in said:
            values[index] = said["value"]
    return Ran(compiled, tuple(values), timed_out)
