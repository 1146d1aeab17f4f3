"""Hand labels on: as a sheet with a row an answer, or as preferences in the usual JSON lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf.core import sheets
from rlhf.core.artifacts import iter_jsonl, write_jsonl, write_text
from rlhf.core.errors import UserError
from rlhf.core.params import check
from rlhf.labels.combine import combine
from rlhf.labels.record import BOTH_ORDERS, NAME, NAME_RULE, Label, line_of

COLUMNS = tuple(Label.model_fields)
NEEDED = tuple(name for name in COLUMNS if name not in BOTH_ORDERS)  # of a sheet that is read
_NUMBERS = {"round": int, "look": int, "soft": float, **dict.fromkeys(BOTH_ORDERS, float)}


def export(labels: Sequence[Label], to: Path) -> str:
    """Write `to`: .csv holds every answer, .jsonl a row {prompt, chosen, rejected, weight, annotators} a question that
    has a winner. Return a line on what was left out.

    Raises:
        UserError: another ending.
    """
    if to.suffix == ".csv":
        rows = [[getattr(label, name) for name in COLUMNS] for label in labels]
        write_text(to, "\ufeff" + sheets.write_rows(COLUMNS, rows))
        return f"{to}: {len(labels)} answers"
    if to.suffix != ".jsonl":
        raise UserError(f"label: --to: found {str(to)!r}; its ending says what it is: .csv or .jsonl")
    combined = combine(labels)
    won = [one for one in combined.preferences if one.winner]
    write_jsonl(
        to,
        (
            {
                "prompt": one.question.prompt,
                "chosen": one.question.a if one.winner == "A" else one.question.b,
                "rejected": one.question.b if one.winner == "A" else one.question.a,
                "weight": abs(2 * one.target - 1),  # 1 where all agree
                "annotators": one.answers,
            }
            for one in won
        ),
    )
    ties, counts = len(combined.preferences) - len(won), combined.counts
    return (
        f"{to}: {len(won)} preferences; left out: {ties} ties, {counts['silent']} questions with no answer but both "
        "bad or skip"
    )


def import_sheet(path: Path) -> str:
    """Read a sheet that `export` wrote, also as a spreadsheet program has saved it, and return lines of labels.

    Raises:
        UserError: file:line, what was found and what is allowed.
    """
    lines = []
    for line, fields in sheets.read_rows(path, NEEDED):
        values: dict[str, object] = {name: fields.get(name, "") for name in COLUMNS}
        for name, kind in _NUMBERS.items():
            text = str(values[name]).strip().replace(",", ".")
            try:
                values[name] = None if not text and kind is float else kind(text)
            except ValueError:
                raise UserError(f"{path}:{line}: {name}: found {text!r:.40}; a number is needed") from None
        try:
            lines.append(line_of(check(Label, values, where=f"{path}:{line}")))
        except UserError as error:
            raise UserError(str(error).split("\n")[0][:400]) from None
    return "".join(lines)


def import_preferences(path: Path, annotator: str) -> str:
    """Read preferences in the usual JSON lines (prompt, chosen, rejected, all texts; weight from 0 to 1 where there is
    one) as answers of one person, and return lines of labels. A weight w becomes the probability (1 + w) / 2.

    Raises:
        UserError: file:line, what was found and what is allowed; or this is no annotator's name.
    """
    if not NAME.fullmatch(annotator):
        raise UserError(f"label: --annotator: found {annotator!r:.60}; a name has {NAME_RULE}")
    lines = []
    for number, row in iter_jsonl(path):
        for name in ("prompt", "chosen", "rejected"):
            if not isinstance(row.get(name), str):
                found = type(row[name]).__name__ if name in row else "nothing"
                raise UserError(
                    f"{path}:{number}: {name}: found {found}; a text is needed (data.path reads other forms)"
                )
        if row["chosen"].strip() == row["rejected"].strip():
            raise UserError(f"{path}:{number}: both replies are the same: nothing is preferred")
        weight: Any = row.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise UserError(f"{path}:{number}: weight: found {weight!r:.40}; a number from 0 to 1 is needed")
        values = {
            "prompt": row["prompt"], "a": row["chosen"], "b": row["rejected"], "policy_a": "", "policy_b": "",
            "round": 0, "answer": "A", "annotator": annotator, "kind": "people", "first": "A",
            "soft": None if weight == 1 else (1 + weight) / 2,
        }  # fmt: skip
        try:
            lines.append(line_of(check(Label, values, where=f"{path}:{number}")))
        except UserError as error:
            raise UserError(str(error).split("\n")[0][:400]) from None
    return "".join(lines)
