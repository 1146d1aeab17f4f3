"""Turn rows with two replies and the name or number of the better one into comparisons."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rlhf.core.errors import UserError
from rlhf.prepare.columns import SIGNED, Columns, value_of
from rlhf.prepare.conversations import asked_and_answered
from rlhf.prepare.finish import compared, needed
from rlhf.prepare.literals import as_list
from rlhf.prepare.notes import Notes
from rlhf.prepare.read_rankings import text_of
from rlhf.prepare.rows import BadRow, Comparison, RawRow, RuleBroken
from rlhf.prepare.sides import side_of

_TIES = ("tie", "tied", "draw", "equal", "same", "both", "neither", "bothbad", "bothgood", "tiebothbad")
_SIDES = {"a": 0, "b": 1, "first": 0, "second": 1, "left": 0, "right": 1}
_NAMED = re.compile(r"(?:model|assistant|response|answer|reply|output|completion|option|summary|text)([ab012])")
_SIGNED_NUMBER = re.compile(r"[+-]?\d{1,9}(?:\.\d+)?")
ALLOWED = "A or B, 1 or 2, 0 or 1, the name of a column, or tie"


@dataclass(frozen=True, slots=True)
class Winners:
    """How the winner column is read: `first` is the number of the first reply, where numbers are used. `signed`: the
    numbers are on a scale, below 0 for the first reply and above 0 for the second."""

    name: str
    sides: Mapping[str, int]  # names of the reply columns
    first: int | None
    signed: bool = False

    def side(self, value: object) -> int | None:
        """Return 0 for the first reply, 1 for the second, None for a tie.

        Raises:
            RuleBroken: wrong_type; it is none of these.
        """
        word = _word(value)
        if word in _TIES:
            return None
        if word in self.sides or word in _SIDES:
            return self.sides.get(word, _SIDES.get(word))
        match = _NAMED.fullmatch(word)
        number = _number(match[1] if match else word)
        if match and number is None:
            return _SIDES[match[1]]
        if number is not None and self.first is not None and number - self.first in (0, 1):
            return number - self.first
        if self.signed and _SIGNED_NUMBER.fullmatch(word):
            return None if float(word) == 0 else int(float(word) > 0)
        raise RuleBroken("wrong_type", f"{self.name}: expected {ALLOWED}; found {value!r:.60} ({type(value).__name__})")


def winner_pairs(rows: Iterable[RawRow | BadRow], columns: Columns, notes: Notes) -> Iterator[Comparison | BadRow]:
    """Make a comparison of each row's two replies; a row that calls them equal is a tie.

    Raises:
        UserError: the winners are numbers that can be meant in two ways.
    """
    every = list(rows)
    name = columns.winner or "winner"
    winners = None
    if not columns.winner_first:
        winners = read_winners(name, [row for row in every if isinstance(row, RawRow)], columns, notes)
    for row in every:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            side = winners.side(needed(row.values, name)) if winners else _by_columns(row, columns)
            if side is None:
                raise RuleBroken("tie", f"{columns.winner_first or name}: neither reply is the better one")
            replies = _replies(row, columns)
            prompt, texts = asked_and_answered(row, columns, replies, notes)
            made = compared(row, prompt, texts[side], texts[1 - side], columns)
        except RuleBroken as broken:
            yield broken.bad_row(row)
        else:
            yield made


def read_winners(name: str, rows: Sequence[RawRow], columns: Columns, notes: Notes) -> Winners:
    """Learn from all rows how winners are written.

    Raises:
        UserError: they are numbers, and it does not show which number is the first reply.
    """
    names = [one for one in (columns.first, columns.second) if one]
    sides = {_word(one): side for side, one in enumerate(names)} if len(names) == 2 else {}
    found = {_value(row, name) for row in rows}
    below = [word for word in found if word.startswith("-") and _SIGNED_NUMBER.fullmatch(word)]
    if below and all(_SIGNED_NUMBER.fullmatch(word) for word in found if word and word not in _TIES):
        return _on_a_scale(name, sides, below, rows, notes)
    numbers = {number for word in found if word not in sides and (number := _number(_bare(word))) is not None}
    if not numbers:
        return Winners(name, sides, None)
    first = None if name.lower() in SIGNED else _first_number(numbers, names)
    origin = next(row.origin for row in rows if _number(_bare(_value(row, name))) is not None)
    shown = ", ".join(map(str, sorted(numbers)[:6]))
    if first is None:
        raise UserError(
            f"{origin}: {name}: the winners are the numbers {shown}, which do not say whether replies are counted from "
            f"0 or from 1; expected {ALLOWED}: write A and B"
        )
    if "label" in name.lower() and first == 0:
        raise UserError(
            f"{origin}: {name}: 0 and 1 in a column of this name can be the number of the better reply, or say whether "
            "the first one is better; write A and B"
        )
    one, other = names or ("the first reply", "the second")
    notes.say(f"{name!r}: {first} is {one}, {first + 1} is {other}")
    return Winners(name, sides, first)


def _on_a_scale(
    name: str, sides: Mapping[str, int], below: Sequence[str], rows: Sequence[RawRow], notes: Notes
) -> Winners:
    """Read winners as numbers of both signs: HelpSteer's, by its names, whose meaning is known; no others.

    Raises:
        UserError: the column has another name.
    """
    if name.lower() in SIGNED:
        notes.say(f"{name!r}: below 0 the first reply is the better, above 0 the second, as in HelpSteer; 0 is a tie")
        return Winners(name, sides, None, signed=True)
    origin = next(row.origin for row in rows if _value(row, name) in below)
    raise UserError(
        f"{origin}: {name}: the winners are numbers with both signs ({min(below, key=float)} …), which do not say "
        f"whether those below 0 are for the first reply or for the second; expected {ALLOWED}: write A, B and tie, or "
        f"call the column {' or '.join(SIGNED)} where it is as in HelpSteer (below 0 the first is the better)"
    )


def _by_columns(row: RawRow, columns: Columns) -> int | None:
    names = (columns.winner_first, columns.winner_second, columns.winner_tie)
    return side_of({name: needed(row.values, name) for name in names if name})


def _first_number(numbers: set[int], names: list[str]) -> int | None:
    """The number of the first reply: as the reply columns end, or as 0 or 2 gives it away; None where neither does."""
    ends = [name[-1] for name in names if name[-1].isdigit()]
    for first in (0, 1):
        by_name = ends == [str(first), str(first + 1)]
        if numbers <= {first, first + 1} and (by_name or (not ends and 2 * first in numbers)):
            return first
    return None


def _replies(row: RawRow, columns: Columns) -> dict[str, object]:
    if columns.first and columns.second:
        return {name: needed(row.values, name) for name in (columns.first, columns.second)}
    name = columns.replies or "responses"
    value = needed(row.values, name)
    found = as_list(value)
    if found is None or len(found) != 2:
        raise RuleBroken(
            "wrong_type", f"{name}: expected a list of two replies, found {value!r:.60} ({type(value).__name__})"
        )
    return {f"{name}[{index}]": text_of(one) for index, one in enumerate(found)}


def _value(row: RawRow, name: str) -> str:
    try:
        return _word(value_of(row.values, name))
    except KeyError:
        return ""


def _word(value: object) -> str:
    """A winner in one spelling: lower case, without brackets, spaces and underscores; 1.0 is 1, true is no number."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    text = (
        re.sub(r"(?<!^)-|[\s_()\[\]]", "", str(value).strip().lower()) if not isinstance(value, float) else str(value)
    )
    return text if not isinstance(value, bool) else f"bool {text}"


def _bare(word: str) -> str:
    match = _NAMED.fullmatch(word)
    return match[1] if match else word


def _number(word: str) -> int | None:
    return int(word) if re.fullmatch(r"\d{1,9}", word) else None
