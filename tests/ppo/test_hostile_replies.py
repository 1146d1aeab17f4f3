"""Hostile replies cost their own score and nothing else. The tables are in tests/ppo/hostile_replies.py."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from examples import code_reward
from rlhf.ppo.sandbox import FAILED, Limits, run_calls
from tests.ppo.hostile_replies import ESCAPES, FORGERIES, HOGS
from tests.ppo.test_sandbox import needs_bwrap

pytestmark = needs_bwrap

ROOT = Path(__file__).resolve().parents[2]
ADD = "\n\nHuman: Write a Python function add(a, b) that returns the sum of a and b.\n\nAssistant:"
HONEST = {
    "plain": "def add(a, b):\n    return a + b",
    "fenced": " Sure.\n```python\ndef add(a, b):\n    return a + b\n```\n",
    "imports": "import math, asyncio, decimal, functools, hashlib, json, random, re, ssl, sqlite3, uuid, zoneinfo\n"
    "def add(a, b): return math.prod([1, a + b])",
    "a loop of events": "import asyncio\nasync def f(a, b):\n    await asyncio.sleep(0)\n    return a + b\n"
    "def add(a, b): return asyncio.run(f(a, b))",
    "prints": "print('hello')\ndef add(a, b):\n    print(a, b)\n    return a + b",
}
# Runs one escape a call; `held` tells why it came to nothing.
TRY = """
import ctypes, errno, json, os, sys
def _is(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
def f(body, place):
    try:
        exec(body, dict(globals(), place=place))
    except BaseException as error:
        return type(error).__name__
    return "through"
"""
BY_DESIGN = ("OSError", "PermissionError", "FileNotFoundError", "ModuleNotFoundError", "AssertionError", "ValueError")
ALSO = (
    "ConnectionRefusedError",
    "ProcessLookupError",
    "ZeroDivisionError",
    "RuntimeError",
    "OperationalError",
    "error",
    "gaierror",
    "URLError",
    "AttributeError",
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[dict[str, object]]:
    """Where things of ours lie: files, a listening port, an abstract socket, this process."""
    (tmp_path / "secret.txt").write_text("expected")
    name = f"hostile-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        abstract.listen()
        yield {
            "tasks": str(code_reward.TASKS), "secret": str(tmp_path / "secret.txt"), "own": str(Path(__file__).resolve()),
            "git": str(ROOT / ".git"), "params": str(ROOT / "params.yaml"), "project": str(ROOT), "cwd": str(Path.cwd()),
            "temporary": str(tmp_path), "home": str(Path.home()), "site": str(Path(pytest.__file__).parent),
            "port": server.getsockname()[1], "abstract": name, "parent": os.getpid(),
        }  # fmt: skip


def test_there_is_no_way_out(place: dict[str, object]) -> None:
    limits = Limits(wall_s=60.0, cpu_s=30.0, memory_bytes=512 << 20, answer_bytes=1 << 20)
    ran = run_calls(TRY, "f", [[body, place] for body in ESCAPES.values()], limits)
    found = dict(zip(ESCAPES, ran.values, strict=True))
    assert {name for name, value in found.items() if value in ("through", FAILED)} == set()
    # Held for the right reason: a mistake in an attack is a NameError, a SyntaxError or a TypeError, and proves nothing.
    assert {name: value for name, value in found.items() if value not in (*BY_DESIGN, *ALSO)} == {}
    assert len(ESCAPES) >= 200


def test_the_attacks_are_sound() -> None:
    """What must fail inside would do something outside: those that do no harm are tried out here."""
    harmless = ("processes: thread", "channels: listen", "channels: abstract of our own", "writes: temporary file",
                "writes: a file of memory", "channels: shared segment", "processes: subprocess", "channels: ipv6",
                "files: list /proc", "files: read /proc/self/mem", "processes: clone3")  # fmt: skip
    code = f"{TRY}\nfor body in {[ESCAPES[name] for name in harmless[:-2]]!r}: print(f(body, {{}}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["through"] * (len(harmless) - 2)


def scored(replies: Mapping[str, str]) -> dict[str, float]:
    return dict(zip(replies, code_reward.score([ADD] * len(replies), list(replies.values())), strict=True))


def left_behind() -> tuple[set[str], set[str]]:
    """What there is in the folders that anybody may write to, and which processes run in a sandbox."""
    folders = {tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"}
    running = set()
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            running |= {command.parent.name} if b"answer.py" in command.read_bytes() else set()
        except OSError:
            continue
    return {str(item) for folder in folders for item in Path(folder).glob("*")}, running


def test_forgeries_write_where_answers_go() -> None:
    """Descriptor 3, which many of them use, is the one: what is right is right there too."""
    code = 'import os\nfor n, v in enumerate((3, 0, 15)): os.write(3, f\'{{"call": {n}, "value": {v}}}\\n\'.encode())'
    assert scored({"right": code}) == {"right": 1.0}


def test_what_seems_right_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(code_reward.TIMEOUT, "600")
    before = left_behind()
    found = scored(HONEST | FORGERIES)
    assert {name: found[name] for name in HONEST} == dict.fromkeys(HONEST, 1.0)
    assert {name: found[name] for name in FORGERIES if found[name] > 0} == {}
    gone(before)


@pytest.mark.thorough
def test_hogs_cost_themselves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would never end by themselves: the batch has its time, and honest replies theirs."""
    monkeypatch.setenv(code_reward.TIMEOUT, "300")
    before = left_behind()
    replies = {"first": HONEST["plain"], **HOGS, **HONEST}
    start = time.monotonic()
    found = scored(replies)
    took = time.monotonic() - start
    assert {name: found[name] for name in ("first", *HONEST)} == dict.fromkeys(("first", *HONEST), 1.0)
    assert {name: found[name] for name in HOGS if found[name] > 0} == {}
    assert took < 300  # the time that the parameters give it, after which a run would end
    gone(before)


def gone(before: tuple[set[str], set[str]]) -> None:
    """Nothing is left of a batch, when the kernel has had a moment to end it."""
    files, running = left_behind()
    for _ in range(100):
        if not running - before[1]:
            break
        time.sleep(0.1)
        files, running = left_behind()
    assert running - before[1] == set()
    assert not [name for name in files - before[0] if "sandbox" in name or name.endswith("/x")]
