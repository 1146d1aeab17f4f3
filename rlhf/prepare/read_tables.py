"""Read rows out of tables as spreadsheets save them: CSV with commas, semicolons or tabs, and TSV."""

import csv
import io
import math
from io import BufferedIOBase
from itertools import islice
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.prepare.columns import USUAL
from rlhf.prepare.encodings import CannotDecode, as_utf8, text_lines
from rlhf.prepare.notes import Notes
from rlhf.prepare.read_json import BROKEN, Rows, broken, one_line
from rlhf.prepare.rows import BadRow, RawRow

_LONGEST_FIELD = 2**24  # characters in one CSV field
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_SNIFFED = 20  # records from which the separator is known
_HEAD = 2**16  # bytes in which they are looked for
_ABSENT: dict[str, float | None] = {  # marks of absence that pandas and spreadsheets write, and what they stand for
    "nan": math.nan, "#n/a": math.nan, "#value!": math.nan, "#ref!": math.nan, "#name?": math.nan, "#div/0!": math.nan,
    "#num!": math.nan, "null": None, "<na>": None,
}  # fmt: skip
_KNOWN = {name for usual in USUAL.values() for name in usual}


def table_rows(path: Path, file: BufferedIOBase, notes: Notes) -> Rows:
    """Yield the rows of a table. The separator is the one that fits the first rows; a first line `sep=;` names it.

    Raises:
        UserError: two columns have the same name, or two separators fit.
    """
    try:
        yield from _rows(path, as_utf8(path, file, notes), notes)
    except CannotDecode as error:
        yield BadRow(f"{path}:1", "broken_file", str(error))
    except BROKEN as error:
        yield broken(path, 1, error)


def _rows(path: Path, file: BufferedIOBase, notes: Notes) -> Rows:
    csv.field_size_limit(_LONGEST_FIELD)
    start = file.tell()
    head = file.read(_HEAD).decode("utf-8", "surrogateescape")
    file.seek(start)
    lines = text_lines(file)
    separator, before = _declared(head), 0
    if separator is not None:
        next(lines)
        before = 1
    else:
        separator = find_separator(path, head)
    if separator != ("\t" if _is_tsv(path) else ","):
        notes.say(f"{path}: columns separated by {_SEPARATORS.get(separator, repr(separator))}")
    reader = csv.reader(lines, delimiter=separator, strict=True)
    line, blank = 1 + before, 0
    try:
        header = _header(path, next(reader, []), line)
        line = reader.line_num + 1 + before
        for values in reader:
            origin, line = f"{path}:{line}", reader.line_num + 1 + before
            if not any(value.strip() for value in values):
                blank += bool(values)
                continue
            yield _row(origin, header, values)
    except BROKEN as error:
        yield broken(path, line, error)
    except csv.Error as error:
        yield BadRow(f"{path}:{line}", "broken_file", f"not CSV from here on: {one_line(error)}")
    if blank:
        notes.say(f"{path}: empty rows passed over: {blank}")


def _header(path: Path, names: list[str], line: int) -> list[str]:
    twice = [name for name in names if name and names.count(name) > 1]
    if twice:
        places = " and ".join(str(place) for place, name in enumerate(names, start=1) if name == twice[0])
        raise UserError(f"{path}:{line}: two columns are called {twice[0]!r} (columns {places}); rename one")
    return names


def _row(origin: str, header: list[str], values: list[str]) -> RawRow | BadRow:
    """Columns without a name are left out: trailing separators, and the numbers that pandas puts in front."""
    row: dict[str, object] = {
        name: _ABSENT.get(value.strip().lower(), value) for name, value in zip(header, values, strict=False) if name
    }
    if any(value.strip() for value in values[len(header) :]):
        shown = {**row, "": values[len(header) :]}
        reason = f"the row has more fields ({len(values)}) than the header has names ({len(header)})"
        return BadRow(origin, "missing_column", f"{reason}; a text with separators in it must stand in quotes", shown)
    missing = [name for name in header[len(values) :] if name]
    if missing:
        return BadRow(origin, "missing_column", f"the row ends before {missing[0]!r}", row)
    return RawRow(origin, row)


def _is_tsv(path: Path) -> bool:
    return ".tsv" in path.name.lower()[-7:]


def _declared(head: str) -> str | None:
    """The separator that Excel writes into a first line of its own, as `sep=;`."""
    first = head.splitlines()[0].strip('\r\n "') if head else ""
    return first[4] if first.lower().startswith("sep=") and len(first) == 5 else None


def find_separator(path: Path, head: str) -> str:
    """Return the separator under which the header has the most columns of known names, or else the only one that gives
    every row as many fields as the header.

    Raises:
        UserError: several fit.
    """
    usual = "\t" if _is_tsv(path) else ","
    tables = {separator: _parsed(head, separator) for separator in _SEPARATORS}
    wide = {separator: rows for separator, rows in tables.items() if rows and len(rows[0]) > 1}
    known = {separator: sum(name.strip().lower() in _KNOWN for name in rows[0]) for separator, rows in wide.items()}
    best = [separator for separator, count in known.items() if count and count == max(known.values())]
    even = [separator for separator, rows in wide.items() if len({len(row) for row in rows if row}) == 1]
    for found in (best, even):
        if len(found) == 1:
            return found[0]
    if usual in wide or not wide:
        return usual
    shown = " and ".join(_SEPARATORS[separator] for separator in wide)
    raise UserError(
        f"{path}:1: columns could be separated by {shown}; begin the file with a line as sep=; or save it as CSV UTF-8"
    )


def _parsed(head: str, separator: str) -> list[list[str]]:
    """The first records, without the last one, which the head may cut off."""
    try:
        rows = list(islice(csv.reader(io.StringIO(head), delimiter=separator), _SNIFFED + 1))
    except csv.Error:
        return []
    return rows[:-1] if len(rows) > 1 else rows
