"""Labels as sheets and as preferences, there and back."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.errors import UserError
from rlhf.label.export import export, import_preferences, import_sheet
from rlhf.labels.combine import combine, self_agreement
from rlhf.labels.read import read_labels
from rlhf.labels.record import Label
from tests.labels.made import label

HOSTILE = ["=1+1", "a\rb", "x;=1", "'-1", "\x1b[2J", '"', "\ufeff", "\u202e", "z\n- item"]


def test_a_sheet_of_answers_comes_back(tmp_path: Path) -> None:
    labels = [
        label(prompt=f"p{text}", a=text, b=f"b{text}", soft=0.75 if k % 2 else None) for k, text in enumerate(HOSTILE)
    ]
    assert export(labels, tmp_path / "l.csv") == f"{tmp_path / 'l.csv'}: 9 answers"
    (tmp_path / "back.jsonl").write_text(import_sheet(tmp_path / "l.csv"))
    assert read_labels(tmp_path / "back.jsonl").answers == labels
    with (tmp_path / "l.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    with (tmp_path / "excel.csv").open("w", encoding="utf-16", newline="") as file:
        csv.writer(file, delimiter="\t", quoting=csv.QUOTE_ALL).writerows(
            [cell.replace("0.25", "0,25") for cell in row] for row in rows
        )
    assert import_sheet(tmp_path / "excel.csv") == import_sheet(tmp_path / "l.csv")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("answer", "C", ":2: answer: Input should be"), ("round", "x", ":2: round: found 'x'; a number is needed"),
        ("annotator", "../x", ":2: annotator: an annotator's name"), ("look", "", ":2: look: found ''"), ("soft", "nan", ":2: soft: "),
    ],
)  # fmt: skip
def test_a_sheet_that_is_none(tmp_path: Path, column: str, value: str, message: str) -> None:
    path = tmp_path / "l.csv"
    export([label()], path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerow(row | {column: value})
    with pytest.raises(UserError) as caught:
        import_sheet(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def votes(prompt: str, *answers: str, **changes: Any) -> list[Label]:
    return [label(prompt=prompt, annotator=f"n{k}", answer=answer, **changes) for k, answer in enumerate(answers)]


def test_preferences_by_hand(tmp_path: Path) -> None:
    labels = [
        *votes("all", "A", "A"), *votes("most", "B", "B", "tie", "A"), *votes("even", "A", "B"), *votes("one", "skip", "both_bad"),
        *votes("some", "skip", "B"), *votes("soft", "A", soft=0.75), label(prompt="all", annotator="n0", answer="B", look=2),
    ]  # fmt: skip
    found = {one.question.prompt: (one.target, one.winner, one.answers) for one in combine(labels).preferences}
    assert found == {
        "all": (1.0, "A", 2), "most": (1.5 / 4, "B", 4), "even": (0.5, None, 2), "some": (0.0, "B", 1), "soft": (0.75, "A", 1),
    }  # fmt: skip
    assert combine(labels).counts == {"both_bad": 1, "skip": 2, "silent": 1}
    line = export(labels, tmp_path / "p.jsonl")
    assert line.endswith("p.jsonl: 4 preferences; left out: 1 ties, 1 questions with no answer but both bad or skip")
    rows = [json.loads(row) for row in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert rows[0] == {"prompt": "all", "chosen": "Because.", "rejected": "No.", "weight": 1.0, "annotators": 2}
    assert rows[1] == {"prompt": "most", "chosen": "No.", "rejected": "Because.", "weight": 0.25, "annotators": 4}
    with pytest.raises(UserError, match=r"its ending says what it is: .csv or .jsonl"):
        export(labels, tmp_path / "p.xlsx")


def test_second_looks(tmp_path: Path) -> None:
    labels = [
        *votes("1", "A"),
        *votes("2", "B"),
        *votes("1", "A", look=2),
        *votes("2", "tie", look=2),
        *votes("3", "A", look=2),
    ]
    found = self_agreement(labels)
    assert (found["labels_second_looks"], found["labels_self_agreement"]) == (2, 0.5)
    assert self_agreement(votes("1", "A")) == {"labels_second_looks": 0, "labels_self_agreement": None}


def test_preferences_come_back(tmp_path: Path) -> None:
    labels = [*votes("all", "A", "A"), *votes("most", "B", "B", "tie", "A"), *votes("soft", "A", soft=0.75)]
    export(labels, tmp_path / "p.jsonl")
    (tmp_path / "back.jsonl").write_text(import_preferences(tmp_path / "p.jsonl", "ann"))
    found = combine(read_labels(tmp_path / "back.jsonl").answers).preferences
    chosen = {one.question.prompt: (one.question.a, one.target) for one in found}  # the preferred reply is A now
    assert chosen == {"all": ("Because.", 1.0), "most": ("No.", 1 - 1.5 / 4), "soft": ("Because.", 0.75)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "p", "chosen": "x"}, ":1: rejected: found nothing"), ({"prompt": [], "chosen": "x", "rejected": "y"}, ":1: prompt: found list"),
        ({"prompt": "p", "chosen": "x", "rejected": " x"}, "both replies are the same"), ({"prompt": "", "chosen": "x", "rejected": "y"}, ":1: prompt: "),
        ({"prompt": "p", "chosen": "x", "rejected": "y", "weight": 2}, "a number from 0 to 1"), ({"prompt": "p", "chosen": "x", "rejected": "y", "weight": True}, "weight"),
    ],
)  # fmt: skip
def test_preferences_that_are_none(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError) as caught:
        import_preferences(tmp_path / "p.jsonl", "ann")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"--annotator: found '\.\./x'"):
        import_preferences(tmp_path / "p.jsonl", "../x")
