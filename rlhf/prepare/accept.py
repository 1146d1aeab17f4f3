"""Accept pairs and put bad rows aside, or stop at the first one; where most rows are bad alike, say what they look
like instead of advising to skip them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice

from rlhf.core.errors import UserError
from rlhf.prepare.columns import find_columns
from rlhf.prepare.params import DataParams
from rlhf.prepare.recognise import described, fitting
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import BadRow, Pair

_LOOKED_ON = 10_000  # rows after the first bad one that are looked at before stopping
_KIND = 3  # bad rows that are enough for a kind


def accepted(rows: Iterable[Pair | BadRow], ledger: Ledger, data: DataParams) -> Iterator[Pair]:
    """Keep pairs that broke no rule, each once; bad rows and duplicates go into the ledger.

    Raises:
        UserError: a bad row where `data.on_bad_row` is stop; no row at all that is not bad.
    """
    seen: set[tuple[str, str, str, str | None]] = set()
    rest = iter(rows)
    good, file = 0, ""
    for row in rest:
        if isinstance(row, BadRow) and data.on_bad_row == "stop":
            raise UserError(_Look(good, [row], rest, data).sentence(file))
        ledger.read += 1
        if isinstance(row, BadRow):
            ledger.set_aside.append(row)
            continue
        good, file = good + 1, _file(row)
        key = (row.prompt, row.chosen, row.rejected, row.annotator)  # two who say the same are no duplicates
        if key in seen:
            ledger.dropped["duplicate"] += 1
            continue
        seen.add(key)
        yield row
    if not good and ledger.set_aside:
        raise UserError(_Look(0, ledger.set_aside, iter(()), data).sentence())


class _Look:
    """A look at the rows around the first bad one."""

    def __init__(self, good: int, bad: list[BadRow], rest: Iterator[Pair | BadRow], data: DataParams) -> None:
        self._data, self._first = data, bad[0]
        rows: list[Pair | BadRow] = [*bad]
        self._ended = False
        with suppress(UserError):  # of a row or file further on: the first one is what is told
            rows.extend(islice(rest, _LOOKED_ON))
            self._ended = next(rest, None) is None
        self._rows_on = rows
        self._bad = [row for row in rows if isinstance(row, BadRow)]
        self._total = good + len(rows)

    def sentence(self, good_file: str = "") -> str:
        """Return one line: place, what was found, rule, and what to do about it. `good_file`: of the last good row."""
        first = self._first
        own = [row for row in self._rows_on if _file(row) == _file(first)]
        alike = sum(row.rule == first.rule for row in self._bad)
        text = f"{first.origin}: {first.reason} (rule {first.rule})"
        if alike >= min(_KIND, self._total) and 2 * alike >= self._total and self._total > 1:
            return (
                f"{text}; {self._share(alike)} break this rule, so skipping them is no help. {self._advice(first.rule)}"
            )
        if len(own) >= _KIND and _file(first) != good_file and all(_breaks(row, first.rule) for row in own):
            return f"{text}; all {len(own)} rows of this file break this rule. {self._advice(first.rule)}"
        if self._data.on_bad_row == "skip":
            return f"{text}; none of the {self._total} rows can be used: {_counts(self._bad)}"
        return (
            f"{text}; data.on_bad_row=skip sets such rows aside and counts them "
            f"(here {len(self._bad)} of {self._rows()}: {_counts(self._bad)})"
        )

    def _share(self, alike: int) -> str:
        return f"all {self._rows()}" if alike == self._total else f"{alike} of {self._rows()}"

    def _rows(self) -> str:
        return f"{self._total} rows" if self._ended else f"the first {self._total} rows"

    def _advice(self, rule: str) -> str:
        """Say what the rows look like, and what would read them."""
        values = [row.row for row in self._bad if row.rule == rule and isinstance(row.row, Mapping)][:200]
        if not values:
            return _HINTS.get(rule, "data.path must name rows (docs/own-data.md shows each form)")
        looks = f"{described(values)}."
        found = fitting(values, find_columns(values, self._data.columns))
        others = {name: why for name, why in found.items() if name != self._data.format}
        if rule in _OF_FORM and others and self._data.format != "auto":
            ways = " or ".join(f"data.format={name} ({why})" for name, why in others.items())
            return f"{looks} They would be read with {ways}."
        return f"{_HINTS.get(rule, 'See docs/own-data.md for each form')}. {looks}"


# Rules that rows of another form break.
_OF_FORM = {"missing_column", "wrong_type", "no_assistant", "mismatched_prompt", "null_reply"}
_HINTS = {
    "not_json": "JSON lines hold one object a line; save other JSON as a file that ends in .json",
    "not_utf8": "The whole file is in another encoding",
    "missing_column": "data.columns names the columns where they have other names than usual",
    "tie": "Check that data.columns.chosen and data.columns.rejected name different columns",
    "lone_reply": "Pairs need a true and a false reply (or two scores) to the same prompt",
}


def _file(row: Pair | BadRow) -> str:
    return row.origin.rpartition(":")[0]


def _breaks(row: Pair | BadRow, rule: str) -> bool:
    return isinstance(row, BadRow) and row.rule == rule


def _counts(bad: list[BadRow]) -> str:
    return ", ".join(f"{number} {rule}" for rule, number in Counter(row.rule for row in bad).items())
