"""Finish a comparison: what is common to all forms of files, whatever they hold beside prompt and replies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rlhf.prepare.columns import Columns, value_of
from rlhf.prepare.literals import as_number
from rlhf.prepare.notes import Notes
from rlhf.prepare.replies import check_reply, check_text, same_reply
from rlhf.prepare.rows import Comparison, Prompt, RawRow, RuleBroken


@dataclass(frozen=True, slots=True)
class Beside:
    """What a row says beside prompt and replies."""

    weight: float
    margin: float | None
    annotator: str | None
    kind: str | None


def compared(row: RawRow, prompt: Prompt, chosen: object, rejected: object, columns: Columns) -> Comparison:
    """Make a comparison of two replies, with what the row says beside them.

    Raises:
        RuleBroken: a reply says nothing, both are the same, or weight, margin or annotator are not what they should be.
    """
    replies = check_reply(columns.chosen or "chosen", chosen), check_reply(columns.rejected or "rejected", rejected)
    if same_reply(*replies):
        raise RuleBroken("tie", "chosen and rejected are the same reply")
    said = beside(row, columns)
    return Comparison(prompt, *replies, row.origin, said.kind, said.weight, said.margin, said.annotator)


def beside(row: RawRow, columns: Columns) -> Beside:
    """Read weight, margin, annotator and kind of a row.

    Raises:
        RuleBroken: wrong_type.
    """
    kind = row.values.get("kind")
    return Beside(
        weight=1.0 if columns.weight is None else weight(columns.weight, needed(row.values, columns.weight)),
        margin=None if columns.margin is None else margin(columns.margin, needed(row.values, columns.margin)),
        annotator=annotator(row.values, columns),
        kind=kind if isinstance(kind, str) else None,
    )


def needed(values: Mapping[str, object], name: str) -> object:
    """Return a column's value.

    Raises:
        RuleBroken: missing_column, with the columns that are there.
    """
    try:
        return value_of(values, name)
    except KeyError:
        found = ", ".join(sorted(map(str, values)))
        raise RuleBroken("missing_column", f"no column {name!r}; found {found}") from None


def weight(name: str, value: object) -> float:
    """Return a weight, which must be above 0.

    Raises:
        RuleBroken: wrong_type.
    """
    number = as_number(name, value)
    if number <= 0:
        raise RuleBroken("wrong_type", f"{name}: expected a weight above 0, found {value!r:.60}")
    return number


def margin(name: str, value: object) -> float:
    """Return a margin, which must not be below 0.

    Raises:
        RuleBroken: wrong_type.
    """
    number = as_number(name, value)
    if number < 0:
        raise RuleBroken(
            "wrong_type",
            f"{name}: expected a margin of 0 or more (below 0 the rejected reply leads), found {value!r:.60}",
        )
    return number


def annotator(values: Mapping[str, object], columns: Columns) -> str | None:
    """Return the name of who judged, a text or a whole number (also as a float, which numbers beside gaps become);
    None where the row has none.

    Raises:
        RuleBroken: wrong_type.
    """
    value = values.get(columns.annotator) if columns.annotator else None
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return check_text(str(columns.annotator), value)


def used_for(notes: Notes, columns: Columns) -> None:
    """Say which columns beside prompt and replies change what is learnt."""
    if columns.weight:
        notes.say(f"{columns.weight!r} weighs the pairs in the losses of the reward model, DPO and IPO")
    if columns.margin:
        notes.say(
            f"{columns.margin!r} is the margin, in logits, of the losses of the reward model and DPO (IPO has none)"
        )
