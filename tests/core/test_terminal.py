"""Nothing that is written to a terminal commands it."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.progress import track
from rlhf.core.terminal import SafeStream, safe_streams

# By hand from Unicode: C0 but tab and line feed, DEL, C1, zero widths, marks, embeddings, isolates, BOM, tags.
COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c"
    "\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
PIECES = [
    "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\u202e", "\u2066", "\u200b", "\r", "\x00", "\x85", "\u2028", "\ud800",
    "é", " ", "\n", "\r\n", "\t", "\x7f", "\ufeff", "\U000e0041",
]  # fmt: skip


class Sink(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3)).map("".join))
def test_no_command_passes(text: str) -> None:
    sink = Sink(newline="")
    assert SafeStream(sink).write("x" + text) == 1 + len(text)
    assert not COMMANDS.search(sink.getvalue())
    sink.getvalue().encode()  # and no half of a surrogate pair


def test_text_passes_as_it_is() -> None:
    sink = Sink(newline="")
    SafeStream(sink).write("Zürich, 東京, שלום, 👩\u200d🚀\tand\nso on − “fine”\r\n")
    assert sink.getvalue() == "Zürich, 東京, שלום, 👩\u200d🚀\tand\nso on − “fine”\n"


def test_a_progress_bar_redraws_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink(newline="")
    monkeypatch.setattr(sys, "stderr", SafeStream(sink))
    with track(3, "work") as bar:
        for _ in range(3):
            bar.update()
            bar.refresh()
    assert sink.getvalue().count("\r") >= 3
    assert "\\x0d" not in sink.getvalue()


def test_a_return_within_a_text_is_no_return() -> None:
    sink = Sink(newline="")
    stream = SafeStream(sink)
    stream.write("loss 9.9\rloss 0.1")
    stream.write("\n\x1b[A")  # a bar below another: up and down, nothing else
    stream.write("\n\x1b[A\x1b[2J")
    assert sink.getvalue() == r"loss 9.9\rloss 0.1" + "\n\x1b[A" + "\n\\x1b[A\\x1b[2J"


def test_a_terminal_of_another_alphabet() -> None:
    raw = io.BytesIO()
    stream = SafeStream(io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    stream.write("0.6 − 0.7")
    assert raw.getvalue() == b"0.6 \\u2212 0.7"


def test_streams_come_back_and_are_wrapped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stdout, sys.stderr
    with safe_streams():
        inner = sys.stdout
        assert isinstance(inner, SafeStream)
        assert not hasattr(inner, "buffer")
        with safe_streams():
            assert sys.stdout is inner
    assert (sys.stdout, sys.stderr) == before
    monkeypatch.setattr(sys, "stdout", None)  # as under pythonw
    with safe_streams():
        assert sys.stdout is None


def test_who_reads_no_more_ends_nothing(tmp_path: Path) -> None:
    script = """
import sys
from rlhf.core.terminal import safe_streams
with safe_streams():
    for k in range(20000):
        print("line", k)
        print("line", k, file=sys.stderr)
open("done", "w").close()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ends = os.pipe()
    os.close(ends[0])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, stdout=ends[1], stderr=ends[1], check=False
    )
    os.close(ends[1])
    assert done.returncode == 0
    assert (tmp_path / "done").exists()
