"""The sandbox under code that wants out. What it refuses where bubblewrap is missing is tested everywhere."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.ppo import sandbox, sandbox_filter, sandbox_root
from rlhf.ppo.sandbox import FAILED, Limits, Ran, check_sandbox, run_calls

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(wall_s=60.0, cpu_s=2.0, memory_bytes=256 << 20, answer_bytes=1 << 20)
SHORT = Limits(wall_s=1.0, cpu_s=30.0, memory_bytes=256 << 20, answer_bytes=1 << 20)


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
        assert call(code).values == ("OSError",)


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
@pytest.mark.parametrize(
    "inside", ["site-packages", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("prefix", "stdlib"))]
)
def test_a_project_in_the_interpreters_own_folders_stays_outside(tmp_path: Path, inside: str) -> None:
    """As where the interpreter, or a virtual environment, lies in the project, or the project in the interpreter's."""
    python = tmp_path / "python"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = sandbox_root._base_python()
    for folder in ("bin", "lib"):
        (python / folder).mkdir(parents=True)
    shutil.copy(base, python / "bin" / version)
    for library in base.parents[1].joinpath("lib").glob("libpython*"):
        (python / "lib" / library.name).symlink_to(library)
    left = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__", "config-*", "idlelib", "ensurepip")
    shutil.copytree(Path(os.__file__).parent, python / "lib" / version, ignore=left)
    (python / "lib" / version / "site-packages").mkdir()
    where = {"prefix": python, "stdlib": python / "lib" / version}.get(inside, python / "lib" / version / inside)
    (where / "project").mkdir()
    (where / "project" / "code_tasks.jsonl").write_text("expected")
    venv = where / "project" / ".venv"
    subprocess.run([python / "bin" / version, "-m", "venv", "--without-pip", venv], check=True)
    look = "def f():\n    import os\n    return [n for _, ds, ns in os.walk('/') for n in ds + ns if n in WANTED]"
    code = f"WANTED = ['.venv', 'code_tasks.jsonl']\n{look}"
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from rlhf.ppo.sandbox import Limits, run_calls
print(run_calls({code!r}, "f", [[]], Limits(60, 60, 1 << 29, 1 << 20)))
"""
    ran = subprocess.run(
        [venv / "bin" / "python", "-c", script], capture_output=True, text=True, check=False, cwd=where
    )
    assert (ran.stdout, ran.stderr) == ("Ran(compiled=True, values=([],), timed_out=False)\n", "")


@needs_bwrap
def test_nothing_can_be_written() -> None:
    code = """
def f(path):
    try:
        with open(path, "wb") as file:
            file.write(b"x")
        return "written"
    except OSError as error:
        return "refused"
"""
    cases = [["/tmp/a"], ["/a"], ["/usr/a"], ["/dev/a"], ["/dev/shm/a"], ["b"], ["/dev/null"]]
    assert run_calls(code, "f", cases, LIMITS).values == (*["refused"] * 6, "written")


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
    limits = Limits(wall_s=600.0, cpu_s=1.0, memory_bytes=256 << 20, answer_bytes=1 << 20)
    ran = call("def f():\n    while True: pass", limits=limits)
    assert (ran.timed_out, ran.values) == (False, (FAILED,))


@needs_bwrap
def test_what_runs_ends_with_the_process_that_runs_it() -> None:
    mark = f"sandbox-test-{os.getpid()}"
    code = f"def f(mark={mark!r}):\n    import time\n    time.sleep(60)"
    script = f"""
from rlhf.ppo.sandbox import Limits, run_calls
print("starting", flush=True)
run_calls({code!r}, "f", [[]], Limits(60.0, 60.0, 1 << 29, 1 << 20))
"""
    runs = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    assert runs.stdout is not None
    runs.stdout.readline()
    children = wait_for(lambda: children_of(runs.pid), bool)
    runs.kill()
    runs.wait()
    assert wait_for(lambda: [pid for pid in children if Path(f"/proc/{pid}").exists()], lambda left: not left) == []


def children_of(pid: int) -> list[int]:
    """The sandbox that a process runs, and what is in it."""
    parents = {int(p.parent.name): int(read_quietly(p).rpartition(b")")[2].split()[1] or 0)
               for p in Path("/proc").glob("[0-9]*/stat") if read_quietly(p)}  # fmt: skip
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:] if len(found) > 3 else []


def wait_for(look: Callable[[], list[int]], enough: Callable[[list[int]], bool]) -> list[int]:
    for _ in range(300):
        if enough(look()):
            break
        time.sleep(0.1)
    return look()


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
    code = "def f():\n    import sys\n    return [sorted(sys._getframe(1).f_locals['request'])]"
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


@pytest.mark.parametrize("machine", sandbox_filter.MACHINES)
def test_system_calls_have_the_numbers_of_the_kernel(machine: str) -> None:
    """Against the C headers, where there are some."""
    asked = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}[machine]
    header = Path("/usr/include") / asked
    if not header.exists():
        pytest.skip(f"no {header}")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", header.read_text()))
    renamed = {"newfstatat": "fstatat"} if machine == "aarch64" else {}
    numbers, _ = sandbox_filter.MACHINES[machine]
    assert {name: defined[renamed.get(name, name)] for name in numbers} == {n: str(k) for n, k in numbers.items()}
    sandbox_filter.syscall_filter(machine)


def test_a_machine_without_a_filter_is_refused() -> None:
    with pytest.raises(UserError, match="known for x86_64 and aarch64 alone; this machine is sparc"):
        sandbox_filter.syscall_filter("sparc")


def test_broken_answers_are_read_as_far_as_they_go() -> None:
    lines = b'{"compiled": true}\n{"call": 0, "value": 3}\nnoise\n[1]\n{"call": 7, "value": 1}\n{"call": 1, "val'
    assert sandbox._read(lines.splitlines(), 2, timed_out=True) == Ran(True, (3, FAILED), True)
