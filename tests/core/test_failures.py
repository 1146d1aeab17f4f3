"""Ways to fail that are nobody's bug have a line that says what happened and what to do; all others are called bugs."""

import errno
import importlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from rlhf.core import failures
from rlhf.core.artifacts import write_metrics
from rlhf.core.errors import UserError
from rlhf.core.failures import explain, report
from rlhf.core.yaml import read_yaml


def raised(work: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - each one is looked at
        work()
    return caught.value


def nested() -> Any:
    return json.loads("[" * 10**6)


def throw(error: BaseException) -> Callable[[], Any]:
    def work() -> None:
        raise error

    return work


MEMORY = "ppo.microbatch, sft.accumulate, reward.batch_tokens and evaluate.batch_tokens decide what it needs"
KNOWN: list[tuple[Callable[[], Any], str]] = [
    (lambda: [0] * (1 << 62), f"the memory of this machine is used up; {MEMORY}"),
    (lambda: np.zeros(1 << 58), f"the memory of this machine is used up; {MEMORY}"),
    (lambda: torch.empty(1 << 58), "the memory of this machine is used up ("),
    (throw(OSError(errno.ENOMEM, "Cannot allocate memory")), "the memory of this machine is used up"),
    (throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")), "the GPU's memory is used up"),
    (throw(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling")), "the GPU's memory is used up"),
    (lambda: importlib.import_module("no_such_package_at_all.deeper"), "the package 'no_such_package_at_all' is not"),
    (throw(ImportError("\nX requires the Y library but it was not found.\nTry")), "a package cannot be used: X"),
    (lambda: Path("/nowhere/at all").read_bytes(), "/nowhere/at all: No such file or directory"),
    (lambda: Path("/").read_bytes(), "/: Is a directory"),
    (lambda: Path("/etc/passwd/x").read_bytes(), "/etc/passwd/x: Not a directory"),
    (lambda: Path("a" * 300).read_bytes(), "File name too long"),
    (throw(OSError(errno.EMFILE, "x", "f")), "f: Too many open files; `ulimit -n`"),
    (throw(OSError(errno.EIO, "x", "f\x1b[2J")), "f\\x1b[2J: Input/output error"),
    (throw(OSError(errno.ENOSPC, "x", "f")), "the disk is full"),
    (throw(PermissionError(errno.EACCES, "x", "f")), "f: Permission denied"),
    (throw(PermissionError(errno.EACCES, "x")), "not writable: Permission denied"),
    (throw(BrokenPipeError(errno.EPIPE, "x")), "Broken pipe: a process that was written to has ended"),
    (throw(OSError("Can't load the thing.\nMore")), "Can't load the thing."),
    (nested, "a file's values are nested too deeply"),
    (lambda: json.loads('{"a": 1'), "a file that should hold JSON does not ("),
    (b"\xff".decode, "a file that should hold UTF-8 text does not ("),
    (lambda: load(b"\x00" * 20), "a safetensors file is broken ("),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(KNOWN)))
def test_what_the_machine_or_the_reader_can_put_right(case: int, tmp_path: Path) -> None:
    work, words = KNOWN[case]
    error = raised(work)
    told = explain(error)
    assert told is not None
    assert words in told
    assert "\n" not in told
    assert report(error, "sft", tmp_path) == [f"error: sft: {told}"]
    assert list(tmp_path.iterdir()) == []


def test_deep_yaml(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("a: " + "[" * 2_000)
    with pytest.raises(UserError, match=r"params.yaml: .*nested too deeply"):
        read_yaml(path)


class Silent(Exception):  # noqa: N818 - it has nothing to say
    def __str__(self) -> str:
        raise KeyError


class Panic(BaseException):
    """As a library in Rust raises it."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("head"), "KeyError: 'head'"), (AssertionError(), "AssertionError"), (Silent(), "Silent"),
        (Panic("called `Option::unwrap()`"), "Panic: called"), (ValueError("many\nlines"), "ValueError: many"),
        (RecursionError("deep"), "RecursionError: deep"), (ImportError("x", name="rlhf.nothing"), "ImportError: x"),
        (ValueError("\x1b[2J\u202e"), "ValueError: \\x1b[2J\\u202e"), (StopIteration(), "StopIteration"),
    ],
)  # fmt: skip
def test_a_bug_is_called_one(error: BaseException, words: str, tmp_path: Path) -> None:
    lines = report(raised(throw(error)), "offline@dpo", tmp_path / "kept")
    assert len(lines) == 1
    assert lines[0].startswith("error: offline@dpo: this is a bug of the project, or a file of artifacts/ was edited: ")
    assert words in lines[0]
    assert lines[0].endswith(f"the traceback is in {tmp_path / 'kept' / 'offline_dpo.txt'}")
    kept = (tmp_path / "kept" / "offline_dpo.txt").read_text()
    assert kept.startswith("Traceback (most recent call last):")
    assert "\x1b" not in kept


def test_the_place_of_a_bug_is_in_our_own_files(tmp_path: Path) -> None:
    error = raised(lambda: write_metrics(tmp_path / "m.json", {"loss": float("nan")}))
    (line,) = report(error, "ppo", tmp_path)
    assert "ValueError: " in line
    assert "(rlhf/core/artifacts.py:" in line


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(failures.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    (line,) = report(raised(throw(KeyError("x"))), "ppo", tmp_path / "file")
    assert line.endswith("RLHF_TRACEBACK=1 shows the traceback")


def test_the_whole_is_shown_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised(throw(UserError("params.yaml: one\nparams.yaml: two")))
    assert report(error, "ppo", tmp_path) == ["error: params.yaml: one", "error: params.yaml: two"]
    monkeypatch.setenv("RLHF_TRACEBACK", "1")
    lines = report(error, "ppo", tmp_path)
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "error: params.yaml: two"


def test_no_secret_stands_in_any_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    monkeypatch.setenv("RLHF_TRACEBACK", "1")
    for error in (
        KeyError("sk-very-secret"),
        UserError("key sk-very-secret"),
        OSError(errno.EIO, "x", "sk-very-secret"),
    ):
        lines = report(raised(throw(error)), "ppo", tmp_path)
        assert "sk-very-secret" not in "\n".join(lines)
        assert "[JUDGE_KEY]" in lines[-1]
    assert "sk-very-secret" not in (tmp_path / "ppo.txt").read_text()


def test_memory_that_really_ends(tmp_path: Path) -> None:
    """In a process with a limit on its memory, as a container has."""
    script = """
import resource, sys
from pathlib import Path
from rlhf.core.failures import report
try:
    held = bytearray(1 << 40)
except BaseException as error:
    print("\\n".join(report(error, "ppo", Path("."))))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )  # fmt: skip
    assert done.stdout == f"error: ppo: the memory of this machine is used up; {MEMORY}\n"
    assert done.stderr == ""
