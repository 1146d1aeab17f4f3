"""Read rows out of files: JSON lines, JSON arrays, CSV and Parquet, plain or gzipped; one at a time where that is
possible.

A row that cannot be read becomes a `BadRow` and reading goes on; where a file is broken the rest of it is one `BadRow`.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.prepare.rows import BadRow, RawRow

Rows = Iterator[RawRow | BadRow]

# In a folder of preferences, but no pairs: prompts from outside the distribution; questions with wrong beliefs.
OOD_FILE, PROBES_FILE = "ood.jsonl", "probes.jsonl"
NOT_PAIRS = (OOD_FILE, PROBES_FILE)
_BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)
_SHOWN = 500  # characters of an unreadable line that are kept in set_aside.jsonl
_LONGEST_FIELD = 2**24  # characters in one CSV field


def find_files(path: Path) -> list[Path]:
    """Find the file at `path`, or all readable files under the folder `path`, in sorted order.

    Raises:
        UserError: nothing is there, or nothing in a form that can be read.
    """
    if path.is_file():
        _reader(path)
        return [path]
    if not path.is_dir():
        raise UserError(f"data.path: {path}: no such file or folder")
    files = sorted(item for item in path.rglob("*") if item.is_file() and _form(item) and item.name not in NOT_PAIRS)
    if not files:
        raise UserError(f"data.path: {path}: holds no file that ends in {', '.join(_READERS)} (or these with .gz)")
    return files


def read_rows(path: Path) -> Rows:
    """Yield every row of one file, in order.

    Raises:
        UserError: the file is missing or of an unknown form.
    """
    reader = _reader(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with gzip.GzipFile(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        yield from reader(path, file)


def _json_lines(path: Path, file: BufferedIOBase) -> Rows:
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _json_line(f"{path}:{number}", line)
    except _BROKEN as error:
        yield _broken(path, number + 1, error)


def _json_line(origin: str, line: bytes) -> RawRow | BadRow:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return BadRow(origin, "not_utf8", f"not UTF-8 at byte {error.start} of the line", _shown(line))
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadRow(origin, "not_json", f"not a line of JSON: {_one_line(error)}", _shown(line))
    return _object(origin, value)


def _object(origin: str, value: object) -> RawRow | BadRow:
    if not isinstance(value, dict):
        return BadRow(origin, "not_json", f"expected a JSON object, found {type(value).__name__}", value)
    return RawRow(origin, value)


def _json_array(path: Path, file: BufferedIOBase) -> Rows:
    """A file that is one JSON array of objects; one that begins with an object is read as JSON lines."""
    try:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        file.seek(0)
        if not start.startswith(b"["):
            yield from _json_lines(path, file)
            return
        text = file.read().decode("utf-8-sig")
    except _BROKEN as error:
        yield _broken(path, 1, error)
    except UnicodeDecodeError as error:
        yield BadRow(f"{path}:1", "broken_file", f"not UTF-8 at byte {error.start} of the file")
    else:
        yield from _elements(path, text)


def _elements(path: Path, text: str) -> Rows:
    """The elements of an array one by one, each with the line on which it begins."""
    decoder, at, line = json.JSONDecoder(), text.index("[") + 1, 1
    counted = 0
    while True:
        start = _skip(text, at)
        line, counted = line + text.count("\n", counted, start), start
        origin = f"{path}:{line}"
        if text[start : start + 1] == "]":
            return
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            yield BadRow(origin, "broken_file", f"the JSON array cannot be read on: {_one_line(error)}")
            return
        yield _object(origin, value)
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            yield BadRow(origin, "broken_file", "the JSON array is cut off after this element")
            return


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _csv(path: Path, file: BufferedIOBase) -> Rows:
    csv.field_size_limit(_LONGEST_FIELD)
    # Bytes that are not UTF-8 pass as lone surrogates, so that one bad row does not end the file.
    lines = (
        line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape") for number, line in enumerate(file)
    )
    reader = csv.DictReader(lines, restkey="", strict=True)
    line = 1
    try:
        line = 1 + (len(reader.fieldnames or ()) > 0)
        for values in reader:
            origin = f"{path}:{line}"
            line = reader.line_num + 1
            yield _csv_row(origin, values)
    except _BROKEN as error:
        yield _broken(path, line, error)
    except csv.Error as error:
        yield BadRow(f"{path}:{line}", "broken_file", f"not CSV from here on: {_one_line(error)}")


def _csv_row(origin: str, values: dict[str, object]) -> RawRow | BadRow:
    if "" in values and isinstance(values[""], list):
        return BadRow(origin, "missing_column", "the row has more fields than the header has names", values)
    missing = [name for name, value in values.items() if value is None]
    if missing:
        return BadRow(origin, "missing_column", f"the row ends before {missing[0]!r}", values)
    return RawRow(origin, values)


def _parquet(path: Path, file: BufferedIOBase) -> Rows:
    """Rows of a Parquet file; the number after the colon counts rows from 1."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        source = pyarrow.BufferReader(file.read()) if path.suffix == ".gz" else file
        for batch in pyarrow.parquet.ParquetFile(source).iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                number += 1
                yield RawRow(f"{path}:{number}", values)
    except (*_BROKEN, pyarrow.ArrowException, UnicodeDecodeError) as error:
        yield _broken(path, number + 1, error)


_READERS: dict[str, Callable[[Path, BufferedIOBase], Rows]] = {
    ".jsonl": _json_lines,
    ".json": _json_array,
    ".csv": _csv,
    ".parquet": _parquet,
}


READABLE = tuple(_READERS)


def _form(path: Path) -> str | None:
    """The ending that tells how to read a file, if it is one of those known."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix if suffix in _READERS else None


def _reader(path: Path) -> Callable[[Path, BufferedIOBase], Rows]:
    form = _form(path)
    if form is None:
        raise UserError(f"data.path: {path}: must end in {', '.join(_READERS)} (or one of these with .gz)")
    return _READERS[form]


def _broken(path: Path, line: int, error: Exception) -> BadRow:
    return BadRow(f"{path}:{line}", "broken_file", f"cut off or damaged from here on: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _shown(line: bytes) -> str:
    return line[:_SHOWN].decode("utf-8", "replace").rstrip("\n")
