"""Whatever happens in a stage's command, it ends with a line for the reader, a status, and no traceback."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from rlhf.core.errors import Stopped, UserError
from stages.cli import Run, stage_command


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def made(work: Callable[[], object]) -> click.Command:
    def function(run: Run, word: str) -> None:
        """Do it."""
        work()

    return stage_command("sft", costs=False)(click.option("--word", default="")(function))


def ended(work: Callable[[], object], *args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        made(work).main(list(args), prog_name="sft")
    return int(caught.value.code or 0)


def fail(error: BaseException) -> Callable[[], object]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("data/x\x1b[2J.jsonl:3: bad"), 1, "error: data/x\\x1b[2J.jsonl:3: bad"),
        (UserError("a\rb\u2028c"), 1, "error: a\\rb\\u2028c"),
        (Stopped(), 130, "sft: stopped; the same command resumes from the last checkpoint"),
        (KeyboardInterrupt(), 130, "sft: stopped; the same command resumes from the last checkpoint"),
        (OSError(errno.ENOSPC, "x"), 1, "error: sft: the disk is full"),
        (MemoryError(), 1, "error: sft: the memory of this machine is used up"),
        (ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard"), 1, "error: sft: the package"),
        (IsADirectoryError(errno.EISDIR, "x", "artifacts/sft"), 1, "error: sft: artifacts/sft: Is a directory"),
        (KeyError("head"), 1, "error: sft: this is a bug of the project"),
        (BaseException("a panic"), 1, "error: sft: this is a bug of the project"),
        (GeneratorExit(), 1, "error: sft: this is a bug of the project"),
    ],
)
def test_one_line(capsys: pytest.CaptureFixture[str], error: BaseException, status: int, line: str) -> None:
    assert ended(fail(error)) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(line)
    assert said.err.count("\n") == 1
    assert Path(".tracebacks/sft.txt").exists() == ("bug" in line)


def test_a_command_that_goes_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("args", [["--no\x1b[2J"], ["\x1b]0;x\x07"], ["--word"]])
def test_complaints_of_options(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    assert ended(lambda: None, *args) == 2
    said = capsys.readouterr().err
    assert "Error: " in said
    assert "\x1b" not in said


def test_what_libraries_print(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        print("reply: \x1b[2J\u202e")
        print("warned: \x9b31m", file=sys.stderr)

    assert ended(work) == 0
    assert capsys.readouterr() == ("reply: \\x1b[2J\\u202e\n", "warned: \\x9b31m\n")


def test_an_interrupt_at_any_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 130
    assert capsys.readouterr().err == "sft: stopped; the same command resumes from the last checkpoint\n"
