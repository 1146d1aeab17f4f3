"""The sandbox under code that wants out. What it refuses where bubblewrap is missing is tested everywhere."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.ppo import sandbox
from rlhf.ppo.sandbox import FAILED, Limits, Ran, check_sandbox, run_calls

LIMITS = Limits(wall_s=60.0, cpu_s=2.0, memory_bytes=256 << 20, file_bytes=1 << 20, processes=8)
SHORT = Limits(wall_s=1.0, cpu_s=30.0, memory_bytes=256 << 20, file_bytes=1 << 20, processes=8)


def usable() -> str | None:
    try:
        check_sandbox()
    except UserError as error:
        return str(error)
    return None


needs_bwrap = pytest.mark.skipif(usable() is not None, reason=f"no sandbox here: {usable()}")


def call(code: str, *arguments: object, limits: Limits = LIMITS) -> Ran:
    return run_calls(code, "f", [arguments], limits)


@needs_bwrap
def test_values_come_back() -> None:
    ran = run_calls("def f(x, y=1):\n    print('noise')\n    return {'x': [x, y]}", "f", [[1], ["a", None]], LIMITS)
    assert ran == Ran(True, ({"x": [1, 1]}, {"x": ["a", None]}), False)


@needs_bwrap
def test_what_does_not_compile() -> None:
    for code in ("def f(:", "\x00", "return 1", "a" * 10 + " b"):
        assert call(code) == Ran(False, (FAILED,), False)


@needs_bwrap
@pytest.mark.parametrize(
    "code",
    [
        "def g(): return 1",
        "raise ValueError",
        "def f(): raise KeyError('x')",
        "def f(): return f()",
        "def f(): return object()",
        "def f():\n    import os\n    os._exit(0)",
        "import sys\nsys.exit(0)",
        "def f():\n    import ctypes\n    ctypes.string_at(0)",
    ],
)
def test_what_fails_is_failed_and_nothing_else(code: str) -> None:
    assert call(code) == Ran(True, (FAILED,), False)


@needs_bwrap
def test_one_call_that_fails_leaves_the_others() -> None:
    assert run_calls("def f(x): return 6 // x", "f", [[2], [0], [3]], LIMITS).values == (3, FAILED, 2)


@needs_bwrap
def test_the_network_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
def f():
    import socket
    try:
        socket.create_connection(("127.0.0.1", {port}), timeout=1)
        return "through"
    except OSError as error:
        return type(error).__name__
"""
        assert call(code).values == ("ConnectionRefusedError",)
        names = "def f():\n    import socket\n    return [name for _, name in socket.if_nameindex()]"
        assert call(names).values == (["lo"],)


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "secret.txt"
    path.write_text("secret")
    os.environ["SANDBOX_TEST_SECRET"] = "secret"
    yield path
    del os.environ["SANDBOX_TEST_SECRET"]


@needs_bwrap
def test_nothing_of_ours_is_there(secret: Path) -> None:
    code = """
def f(*paths):
    import os
    return [os.path.exists(path) for path in paths] + [os.environ.get("SANDBOX_TEST_SECRET")]
"""
    here = str(Path(__file__).resolve())
    assert call(code, str(secret), str(here), "/etc/passwd", "/proc/1/root" + str(here)).values == (
        [False] * 4 + [None],
    )
    assert call("def f():\n    import numpy").values == (FAILED,)


@needs_bwrap
def test_files_can_be_written_in_tmp_alone_and_only_small() -> None:
    code = """
def f(path, size):
    try:
        with open(path, "wb") as file:
            file.write(b"x" * size)
        return "written"
    except OSError as error:
        return "refused"
"""
    cases = [["/tmp/a", 1000], ["/tmp/b", 2 << 20], ["/a", 1], ["/usr/a", 1], ["/dev/a", 2 << 20], ["b", 10]]
    assert run_calls(code, "f", cases, LIMITS).values == (
        "written", "refused", "refused", "refused", "refused", "written",
    )  # fmt: skip
    many = "def f():\n    for k in range(9):\n        open(f'/tmp/{k}', 'wb').write(b'x' * 500_000)"
    assert call(many).values == (FAILED,)  # the folder as a whole is as small


@needs_bwrap
def test_memory_is_limited() -> None:
    code = "def f(n):\n    return len(bytearray(n))"
    assert run_calls(code, "f", [[1 << 20], [1 << 30]], LIMITS).values == (1 << 20, FAILED)


@needs_bwrap
def test_time_is_limited_by_the_clock() -> None:
    ran = call("def f():\n    import time\n    time.sleep(10**6)", limits=SHORT)
    assert (ran.timed_out, ran.values) == (True, (FAILED,))


@needs_bwrap
def test_time_is_limited_by_the_processor() -> None:
    limits = Limits(wall_s=600.0, cpu_s=1.0, memory_bytes=256 << 20, file_bytes=1 << 20, processes=8)
    ran = call("def f():\n    while True: pass", limits=limits)
    assert (ran.timed_out, ran.values) == (False, (FAILED,))


@needs_bwrap
def test_children_die_with_the_sandbox() -> None:
    mark = f"sandbox-test-{os.getpid()}"
    code = f"""
def f():
    import subprocess, sys
    command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)", "{mark}"]
    for _ in range(5):
        subprocess.Popen(command, start_new_session=True)
    import time
    time.sleep(600)
"""
    call(code, limits=SHORT)
    for _ in range(600):  # the kernel takes its time over it on a machine that has much else to do
        running = [p for p in Path("/proc").glob("[0-9]*/cmdline") if mark.encode() in read_quietly(p)]
        if not running:
            return
        time.sleep(0.1)
    raise AssertionError(running)


def read_quietly(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@needs_bwrap
def test_endless_output_is_cut_off() -> None:
    ran = call("def f():\n    return 'x' * (5 << 20)")
    assert ran.values == (FAILED,)


@needs_bwrap
def test_forged_lines_are_no_more_than_values() -> None:
    """All that the code can reach is its own values; the expected ones are not in there."""
    code = "def f():\n    import gc, sys\n    return [sorted(sys._getframe(1).f_globals['request'])]"
    assert call(code).values == ([["calls", "code", "function"]],)


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for attempt in (check_sandbox, lambda: call("def f(): pass")):
        with pytest.raises(UserError, match="not installed, and code is not run without a sandbox") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_bubblewrap_that_may_do_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UserError, match=r"cannot make a sandbox here.*No permissions"):
        check_sandbox()


def test_broken_answers_are_read_as_far_as_they_go() -> None:
    lines = b'{"compiled": true}\n{"call": 0, "value": 3}\nnoise\n[1]\n{"call": 7, "value": 1}\n{"call": 1, "val'
    assert sandbox._read(lines, 2, timed_out=True) == Ran(True, (3, FAILED), True)
