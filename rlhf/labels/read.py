"""Read what annotators have answered: every line checked, every rule with a count, nothing guessed."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf.core.errors import UserError
from rlhf.core.params import check
from rlhf.labels.record import CHECK, Label, check_sum

RULES = ("half_written", "repeated", "undone", "contradicting", "unasked")
Key = tuple[str, str, str, int]  # kind, annotator, question, look


@dataclass(frozen=True, slots=True)
class Labels:
    """The answers that count, in the order of files and lines, and how many each rule has left out."""

    answers: list[Label]
    left_out: dict[str, int]  # by RULES
    places: dict[str, str]  # file:line of the first answer to each question, by its id

    def summary(self) -> str:
        """Say in one line what was read."""
        told = [f"{count} {rule.replace('_', ' ')}" for rule, count in self.left_out.items() if count]
        return f"{len(self.answers)} answers" + (f"; left out: {', '.join(told)}" if told else "")


def read_labels(path: Path, *, asked: Collection[str] | None = None) -> Labels:
    """Read a file of labels, or each `.jsonl` in a folder; an empty folder has none.

    Rules, each counted: a last line that a kill has cut off does not count; a line that says the same as an earlier one
    counts once; `undo` takes the last answer back; of answers of one annotator to one question that contradict one
    another, with no undo between them, none counts; an answer to a question that is not in `asked` (ids; None: all
    are) does not count.

    Raises:
        UserError: file:line; nothing is at `path`, a line is no label, or was edited by hand since it was written.
    """
    if not path.exists():
        raise UserError(f"data.labels: {path}: no such file or folder")
    counts = Counter[str]()
    held: dict[Key, list[Label]] = {}
    places: dict[str, str] = {}
    for file in [path] if path.is_file() else sorted(path.glob("*.jsonl")):
        for where, label in _lines(file, counts):
            places.setdefault(label.question.id, where)
            _take(label, held, counts)
    answers: list[Label] = []
    for labels in held.values():
        if len({label.answer for label in labels}) > 1:
            counts["contradicting"] += len(labels)
        elif labels and asked is not None and labels[0].question.id not in asked:
            counts["unasked"] += 1
        elif labels:
            answers.append(labels[-1])
    return Labels(answers, {rule: counts[rule] for rule in RULES}, places)


def _take(label: Label, held: dict[Key, list[Label]], counts: Counter[str]) -> None:
    before = held.setdefault((label.kind, label.annotator, label.question.id, label.look), [])
    if label.answer == "undo":
        counts["undone"] += len(before)
        before.clear()
    elif any(one.answer == label.answer for one in before):
        counts["repeated"] += 1
    else:
        before.append(label)


def _lines(file: Path, counts: Counter[str]) -> Iterator[tuple[str, Label]]:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from None
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield f"{file}:{number}", _label(f"{file}:{number}", line)
        except _NotJson as error:
            if number == len(lines):  # no line end follows
                counts["half_written"] += 1
                return
            raise UserError(str(error)) from None


class _NotJson(Exception):  # noqa: N818 - half of a line is none
    """A line is not JSON."""


def _label(where: str, line: bytes) -> Label:
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise _NotJson(f"{where}: not a line of JSON") from None
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(values).__name__}")
    found = values.pop(CHECK, None)
    try:
        label = check(Label, values, where=where)
    except UserError as error:  # one problem is enough, and a profile has no part in it
        raise UserError(str(error).split("\n")[0].replace(" (null takes the profile's)", "")[:400]) from None
    if found is not None and found != check_sum(label.model_dump(mode="json")):
        raise UserError(
            f"{where}: edited since it was written (its check sum is of other values); put it back, or take {CHECK!r} "
            "out of the line to say that it is meant"
        )
    return label
