"""CSV for spreadsheet programs: no text in it is ever run as a formula, and what was written is read back exactly, also
after such a program has saved it in its own way."""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rlhf.core.errors import UserError

# A cell begins at the beginning of a field; for a program that splits at another separator, or that takes quotes for
# text, behind each of these too. Some programs take wide and small forms of a sign for the plain one.
_STARTS = r"(?:\A|[,;|\t\r\n])[\s\"\x00-\x1f\u200b-\u200f\u2060\ufeff]*"
_RUNS = "=+\\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b"
_FORMULA = re.compile(rf"({_STARTS})('*)(?=[{_RUNS}])|\A('*)(?=[\t\r\n])")
_ESCAPED = re.compile(rf"({_STARTS})'('*)(?=[{_RUNS}])|\A'('*)(?=[\t\r\n])")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_SEPARATORS = ",;\t|"
LONGEST = 1 << 28  # characters of a field

Value = str | int | float | None


class SheetRow(NamedTuple):
    """A row of a file: the line on which it ends, from 1, and its fields by the names of the header."""

    line: int
    fields: dict[str, str]


def write_rows(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """Format rows as CSV with every field quoted. Numbers stay numbers; texts are escaped (`escape`)."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in (columns, *rows):
        writer.writerow([escape(value) if isinstance(value, str) else value for value in row])
    return text.getvalue()


def escape(text: str) -> str:
    """Put an apostrophe before each sign that makes a spreadsheet program take the rest for a formula.

    That is = + - @ at the beginning of a field and behind anything that some program takes for a separator, whatever
    blanks and quotes lie between (OWASP, CSV injection), and before a tab or a line end that begins a field.
    """
    return _FORMULA.sub(lambda found: f"{found[1] or ''}'{found[2] or found[3] or ''}", text)


def unescape(text: str) -> str:
    """Undo `escape`, exactly."""
    return _ESCAPED.sub(lambda found: f"{found[1] or ''}{found[2] or found[3] or ''}", text)


def read_rows(path: Path, needed: Sequence[str]) -> Iterator[SheetRow]:
    """Yield the rows of a sheet, texts as they were before `escape`.

    Spreadsheet programs save with commas, semicolons or tabs, in UTF-8 or UTF-16, with any line ends, a line "sep=;" in
    front, empty rows and columns behind, and without the last field of a row where it is empty: all of that is read.
    Names of columns are in any case.

    Raises:
        UserError: file:line, what was found and what is allowed: not text, not CSV, no column of a name in `needed`, or
            a row with more or fewer fields than the header.
    """
    text, skipped = _decoded(path), 0
    if re.match(r"sep=.\r?\n", text, re.IGNORECASE):
        text, skipped = text.partition("\n")[2], 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text, needed), strict=True)
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    names: list[str] | None = None
    try:
        for found in reader:
            if not any(field.strip() for field in found):
                continue
            line = reader.line_num + skipped
            if names is None:
                names = _header(path, line, found, needed)
                continue
            while len(found) > len(names) and not found[-1].strip():
                found.pop()
            if len(found) == len(names) - 1:
                found.append("")
            if len(found) != len(names):
                raise UserError(
                    f"{path}:{line}: the row has more or fewer fields than the header ({len(found)}, {len(names)})"
                )
            yield SheetRow(line, {name: unescape(field) for name, field in zip(names, found, strict=True) if name})
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num + skipped}: not CSV: {error}") from None
    if names is None:
        raise UserError(f"{path}:1: no column {needed[0]!r}; the file is empty")


def _header(path: Path, line: int, found: Sequence[str], needed: Sequence[str]) -> list[str]:
    names = [unescape(field).strip().lower() for field in found]
    while names and not names[-1]:
        names.pop()
    for name in needed:
        if names.count(name) != 1:
            much = "no" if name not in names else "more than one"
            raise UserError(f"{path}:{line}: {much} column {name!r}; found {', '.join(names)[:200] or 'none'}")
    return names


def _separator(text: str, needed: Sequence[str]) -> str:
    """Find the separator by which the header has the names that are needed; a comma where none does."""
    head = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    for separator in _SEPARATORS:
        names = {name.strip(' "').lower() for name in head.split(separator)}
        if names.issuperset(needed):
            return separator
    return ","


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save it as CSV UTF-8") from None
