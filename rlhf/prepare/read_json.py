"""Read rows out of JSON: one object a line, one array of objects, or one object that holds the rows under a key."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.prepare.columns import USUAL
from rlhf.prepare.encodings import CannotDecode, as_utf8
from rlhf.prepare.notes import Notes
from rlhf.prepare.replies import CONVERT
from rlhf.prepare.rows import BadRow, RawRow
from rlhf.prepare.turns import is_conversation

Rows = Iterator[RawRow | BadRow]
_SHOWN = 500  # characters of an unreadable line that are kept in set_aside.jsonl
_DEPTH = 3  # levels at which rows are looked for under keys
_TRIED = 20  # lines that are tried as rows where the file as a whole is no JSON
_SPLITS = {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval", "evaluation"}
_ROW_NAMES = {name for usual in USUAL.values() for name in usual}
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)  # by a file that is cut off


class NoRows(Exception):  # noqa: N818 - turned into a note or an error by the caller
    """The file is valid JSON, but no list of rows."""


def json_rows(path: Path, file: BufferedIOBase, notes: Notes) -> Rows:
    """Yield the rows of a file of JSON, whether its name says lines or not.

    Raises:
        NoRows: the JSON is valid and holds no rows.
        UserError: the JSON is valid, and which rows are meant does not show.
    """
    try:
        file = as_utf8(path, file, notes)
        start = file.tell()
        first, several = _begin(file)
        file.seek(start)
    except CannotDecode as error:
        yield BadRow(f"{path}:1", "broken_file", str(error))
        return
    except BROKEN as error:
        yield broken(path, 1, error)
        return
    if first.startswith(b"["):
        yield from _array(path, file)
    elif first.startswith(b"{") and not ((several or ".jsonl" in path.name.lower()) and _object_of(first) is not None):
        yield from _whole(path, file, notes)
    elif first and not several and not first.startswith(b"{") and _is_json(first):
        raise NoRows(f"{path}: valid JSON, but no list of rows: {first[:40].decode('utf-8', 'replace')}")
    else:
        yield from _lines(path, file)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _begin(file: BufferedIOBase) -> tuple[bytes, bool]:
    """The first line with anything in it, and whether another follows."""
    lines = (line.strip() for line in file)
    filled = (line for line in lines if line)
    return next(filled, b""), next(filled, None) is not None


def _whole(path: Path, file: BufferedIOBase, notes: Notes) -> Rows:
    """A file that begins with an object that is not a line of its own: a row, or rows under a key, or bad lines."""
    start = file.tell()
    try:
        data = file.read()
        value = _DECODER.decode(data.decode("utf-8"))
    except BROKEN as error:
        yield broken(path, 1, error)
    except (ValueError, RecursionError) as error:
        if not any(_object_of(line) is not None for line in data.splitlines()[:_TRIED]):
            if isinstance(error, UnicodeDecodeError):
                reason = f"not UTF-8 at byte {error.start} of the file (0x{data[error.start]:02X}); {CONVERT}"
                yield BadRow(f"{path}:1", "not_utf8", reason)
            else:
                yield BadRow(f"{path}:1", "broken_file", f"cannot be read as JSON: {one_line(error)}")
            return
        file.seek(start)
        yield from _lines(path, file)
    else:
        if _is_row(value):
            yield _object(f"{path}:1", value)
        else:
            yield from _under_a_key(path, value, notes)


def _lines(path: Path, file: BufferedIOBase) -> Rows:
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _line(f"{path}:{number}", line)
    except BROKEN as error:
        yield broken(path, number + 1, error)


def _line(origin: str, line: bytes) -> RawRow | BadRow:
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 at byte {error.start} of the line (0x{line[error.start]:02X}); {CONVERT}"
        return BadRow(origin, "not_utf8", reason, _shown(line))
    try:
        value = _DECODER.decode(text.strip())
    except (ValueError, RecursionError) as error:
        return BadRow(origin, "not_json", f"not a line of JSON: {one_line(error)}", _shown(line))
    return _object(origin, value)


def _object(origin: str, value: object) -> RawRow | BadRow:
    if not isinstance(value, dict):
        return BadRow(origin, "not_json", f"expected a JSON object, found {type(value).__name__}", value)
    return RawRow(origin, value)


def _array(path: Path, file: BufferedIOBase) -> Rows:
    """A file that is one JSON array of objects."""
    try:
        text = file.read().decode("utf-8")
    except BROKEN as error:
        yield broken(path, 1, error)
    except UnicodeDecodeError as error:
        yield BadRow(f"{path}:1", "not_utf8", f"not UTF-8 at byte {error.start} of the file; {CONVERT}")
    else:
        yield from _elements(path, text)


def _elements(path: Path, text: str) -> Rows:
    """The elements of an array one by one, each with the line on which it begins."""
    at, line, counted = text.index("[") + 1, 1, 0
    while True:
        start = _skip(text, at)
        line, counted = line + text.count("\n", counted, start), start
        origin = f"{path}:{line}"
        if text[start : start + 1] == "]":
            if rest := text[start + 1 :].strip():
                yield BadRow(origin, "broken_file", f"more follows after the JSON array: {rest[:40]!r}")
            return
        try:
            value, at = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            yield BadRow(origin, "broken_file", f"the JSON array cannot be read on: {one_line(error)}")
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


def _is_row(value: object) -> bool:
    """Tell whether an object is a row itself: it has a column of a usual name, and no column by column layout."""
    if not isinstance(value, dict) or not any(str(name).strip().lower() in _ROW_NAMES for name in value):
        return False
    return by_columns(value) is None


def _under_a_key(path: Path, value: object, notes: Notes) -> Rows:
    """Yield the rows that stand under a key of an object; the number after the key counts them from 1."""
    if isinstance(value, dict) and (names := by_columns(value)):
        raise UserError(
            f"{path}: valid JSON, but by columns ({names}) and not by rows; from pandas, save with "
            "to_json(orient='records', lines=True)"
        )
    found = _lists(value)
    if not found:
        names = ", ".join(map(repr, list(value)[:6])) if isinstance(value, dict) else ""
        keys = f"an object with {names}" if names else "nothing in it"
        raise NoRows(f"{path}: valid JSON, but no list of rows: {keys}")
    if len(found) > 1 and _are_splits(found):
        shown = " and ".join(f"{len(rows)} under {key!r}" for key, rows in found.items())
        notes.say(f"{path}: all its rows are read, {shown}; prepare makes splits of its own")
        for key, rows in found.items():
            for number, row in enumerate(rows, start=1):
                yield _object(f"{path}:{key}:{number}", row)
        return
    if len(found) > 1:
        shown = " and ".join(f"{key!r} ({len(rows)})" for key, rows in found.items())
        raise UserError(
            f"{path}: valid JSON with rows under several keys, {shown}; save each list as a file of its own "
            "(data.path may be a folder)"
        )
    ((key, rows),) = found.items()
    notes.say(f"{path}: {len(rows)} rows under {key!r}")
    for number, row in enumerate(rows, start=1):
        yield _object(f"{path}:{key}:{number}", row)


def by_columns(value: Mapping[str, object]) -> str | None:
    """Name the columns of an object that holds a list, or numbered values, for each of them; None for another."""
    names = [str(name) for name in value if str(name).strip().lower() in _ROW_NAMES]
    inside = [value[name] for name in names if name in value]
    numbered = [one for one in inside if isinstance(one, Mapping) and one and all(str(key).isdigit() for key in one)]
    listed = [
        one for one in inside if isinstance(one, list) and len(one) > 1 and not any(isinstance(x, Mapping) for x in one)
    ]
    same = len({len(one) for one in listed}) == 1 and len(listed) == len(value)
    return ", ".join(names) if len(inside) > 1 and (len(numbered) == len(inside) or same) else None


def _lists(value: object, depth: int = _DEPTH) -> dict[str, list[object]]:
    """Lists of objects under keys, at the first level that has any; turns of a conversation are no rows."""
    if not isinstance(value, dict) or not depth:
        return {}
    found = {str(key): one for key, one in value.items() if isinstance(one, list) and _are_rows(one)}
    if found:
        return found
    return {f"{key}.{name}": rows for key, one in value.items() for name, rows in _lists(one, depth - 1).items()}


def _are_splits(found: Mapping[str, list[object]]) -> bool:
    """Tell whether lists under several keys are splits of one data set: by their names, and of the same columns."""
    columns = {frozenset(row) for rows in found.values() for row in rows[:1] if isinstance(row, dict)}
    return len(columns) == 1 and all(key.rpartition(".")[2].strip().lower() in _SPLITS for key in found)


def _are_rows(one: list[object]) -> bool:
    return bool(one) and all(isinstance(row, dict) for row in one) and not is_conversation(one)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if [name for name, _ in pairs].count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def _object_of(line: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def broken(path: Path, line: int, error: Exception) -> BadRow:
    """Make the bad row of a file that cannot be read on."""
    return BadRow(f"{path}:{line}", "broken_file", f"cut off or damaged from here on: {one_line(error)}")


def one_line(error: Exception) -> str:
    """Return the first line of an error, or its name."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _shown(line: bytes) -> str:
    return line[:_SHOWN].decode("utf-8", "replace").rstrip("\n")


_DECODER = json.JSONDecoder(object_pairs_hook=_once)
