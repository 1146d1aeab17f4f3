"""Labels on disk: nothing is lost, nothing is guessed, and whatever is odd is a line or a count."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.core.errors import UserError
from rlhf.labels.read import read_labels
from rlhf.labels.record import Label, Question, line_of
from rlhf.labels.store import append, label_file
from tests.labels.made import label

ROOT = Path(__file__).resolve().parents[2]


def left_out(**counts: int) -> dict[str, int]:
    return dict.fromkeys(("half_written", "repeated", "undone", "contradicting", "unasked"), 0) | counts


def write(folder: Path, *labels: Label) -> Path:
    for one in labels:
        append(folder, one)
    return folder / "people-ann.jsonl"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    given_ = [label(), label(prompt="How?", answer="both_bad"), label(annotator="ben", answer="tie"), label(look=2)]
    write(tmp_path, *given_)
    found = read_labels(tmp_path)
    assert found.answers == [given_[0], given_[1], given_[3], given_[2]]  # by file, then by line
    assert found.left_out == left_out()
    assert found.summary() == "4 answers"
    assert {path.name for path in tmp_path.iterdir()} == {"people-ann.jsonl", "people-ben.jsonl"}
    assert read_labels(tmp_path / "people-ben.jsonl").answers == [given_[2]]


@settings(max_examples=30)
@given(st.text(min_size=1), st.text(), st.text())
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, prompt: str, a: str, b: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(line_of(label(prompt=prompt, a=a, b=b)))
    assert path.read_bytes().count(b"\n") == 1
    (found,) = read_labels(path).answers
    assert (found.prompt, found.a, found.b) == (prompt, a, b)


def test_rules_and_their_counts(tmp_path: Path) -> None:
    write(
        tmp_path, label(), label(), label(first="A"),  # the same answer three times
        label(prompt="2"), label(prompt="2", answer="undo"), label(prompt="2", answer="B"),  # a change of mind
        label(prompt="3"), label(prompt="3", answer="B"),  # two minds
        label(prompt="4"), label(prompt="4", answer="undo"), label(prompt="5", answer="undo"),
        label(prompt="6"), label(prompt="6", answer="B", look=2),  # a second look may differ
        label(prompt="7", answer="B", kind="simulated"), label(prompt="7", answer="A"),  # somebody else
    )  # fmt: skip
    asked = {Question(prompt=str(k), a="Because.", b="No.").id for k in range(2, 8)}
    found = read_labels(tmp_path, asked=asked)
    told = {(one.prompt, one.kind, one.look): one.answer for one in found.answers}
    assert told == {
        ("2", "people", 1): "B", ("6", "people", 1): "A", ("6", "people", 2): "B", ("7", "people", 1): "A",
        ("7", "simulated", 1): "B",
    }  # fmt: skip
    assert found.left_out == left_out(repeated=2, undone=2, contradicting=2, unasked=1)
    assert found.summary() == "5 answers; left out: 2 repeated, 2 undone, 2 contradicting, 1 unasked"


@pytest.mark.parametrize("cut", [1, 2, 10, 100, 200])
def test_a_half_written_last_line_does_not_count_and_is_put_aside(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path, label(), label(prompt="2"))
    whole = path.read_bytes()
    half = whole[:-cut] if cut > 1 else whole[:-2]
    path.write_bytes(half)
    found = read_labels(tmp_path)
    assert [one.prompt for one in found.answers] == ["Why?"]
    assert found.left_out == left_out(half_written=1)
    append(tmp_path, label(prompt="3"))
    found = read_labels(tmp_path)
    assert [one.prompt for one in found.answers] == ["Why?", "3"]
    assert found.left_out == left_out()
    assert half.endswith((tmp_path / "people-ann.broken").read_bytes().rstrip(b"\n"))


def test_a_last_line_without_its_end_counts(tmp_path: Path) -> None:
    path = write(tmp_path, label(), label(prompt="2"))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert len(read_labels(tmp_path).answers) == 2
    append(tmp_path, label(prompt="3"))
    assert [one.prompt for one in read_labels(tmp_path).answers] == ["Why?", "2", "3"]


def edited(**changes: Any) -> str:
    return json.dumps(json.loads(line_of(label())) | changes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (edited(answer="B"), "edited since it was written"), (edited(check="0"), "edited since it was written"),
        (edited(b="Nay."), "edited since it was written"), (edited(check=None, answer="C"), "answer: Input should be 'A', 'B',"),
        (edited(annotator="../../etc/x"), "annotator: an annotator's name has letters"), (edited(annotator=""), "annotator: "),
        (edited(look=3), "look: "), (edited(look="1"), "look: "), (edited(soft=1.5), "soft: "), (edited(more=1), "more: unknown key"),
        ("{}", "prompt: missing; every key needs a value"), ("[]", "expected a JSON object, found list"), ("{", "not a line of JSON"),
        ("\xff", "not a line of JSON"), ("[" * 100_000, "not a line of JSON"), ('{"soft": NaN}', "prompt: missing"), ("x" * 10**6, "not a line"),
        (edited(check=None, soft=0.2), "with the answer A"), (edited(check=None, answer="B", soft=0.6), "with the answer B"),
        (edited(round=True), "round: "), (edited(prompt=""), "prompt: "), (edited(kind="\x1b[2J"), "kind: "),
    ],
)  # fmt: skip
def test_a_file_that_was_edited_by_hand(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, label(prompt="1"))
    path.write_text(
        path.read_text() + line + "\n" + line_of(label(prompt="3")), encoding="utf-8", errors="surrogateescape"
    )
    with pytest.raises(UserError) as caught:
        read_labels(tmp_path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_lines_of_other_programs_need_no_check_sum_and_may_end_in_any_way(tmp_path: Path) -> None:
    values = {
        name: value for name, value in json.loads(line_of(label())).items() if name not in ("check", "soft", "look")
    }
    (tmp_path / "own.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(values).encode() + b"\r\n\r\n  \r\n")
    assert read_labels(tmp_path).answers == [label()]


def test_an_edit_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(edited(check=None, answer="B") + "\n")
    assert [one.answer for one in read_labels(tmp_path).answers] == ["B"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/x", "a\\b", "-x", "a b", "ä", "x" * 41, "a\n", "a\x00", "con.jsonl"]
)
def test_names_with_a_path_in_them(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"label: annotator .*: a name has letters, digits, - and _") as caught:
        label_file(tmp_path, "people", name)
    assert "\n" not in str(caught.value)


def test_where_there_is_nothing_and_where_nothing_can_be_read(tmp_path: Path) -> None:
    assert read_labels(tmp_path).answers == []
    with pytest.raises(UserError, match=r"data.labels: .*none: no such file or folder"):
        read_labels(tmp_path / "none")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=r"folder.jsonl: cannot be read: Is a directory"):
        read_labels(tmp_path)


def test_a_link_in_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "people-ann.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises((UserError, OSError)):
        append(tmp_path / "labels", label())
    assert (tmp_path / "victim").read_text() == "precious"


def test_many_writers_at_once(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for k in range(20):
            append(tmp_path, label(prompt=f"{number}-{k}"))

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_labels(tmp_path).answers) == 80


SCRIPT = """
import sys
from pathlib import Path
from rlhf.labels.store import append
from tests.labels.made import label
for k in range(100000):
    append(Path(sys.argv[1]), label(prompt=str(k)))
    print(k, flush=True)
"""


def test_what_was_said_to_be_saved_survives_a_kill(tmp_path: Path) -> None:
    for round_ in range(3):
        folder = tmp_path / str(round_)
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ}
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 * round_)
        process.send_signal(signal.SIGKILL)
        said = 1 + len(process.stdout.read().split())
        process.wait()
        process.stdout.close()
        found = [int(one.prompt) for one in read_labels(folder).answers]
        assert found[:said] == list(range(said))
        assert len(found) <= said + 1


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from rlhf.core.errors import UserError
from rlhf.labels.read import read_labels
from rlhf.labels.store import append
from tests.labels.made import label
folder = Path(sys.argv[1])
append(folder, label())
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    append(folder, label(prompt="2"))
except UserError as error:
    print(error)
print(read_labels(folder).summary())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    first, second = done.stdout.splitlines()
    assert "people-ann.jsonl: the disk is full" in first
    assert second == "1 answers"
