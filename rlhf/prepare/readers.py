"""Read rows out of files: JSON, tables and Parquet, plain or gzipped; one at a time where that is possible.

A row that cannot be read becomes a `BadRow` and reading goes on; where a file is broken the rest of it is one `BadRow`.
"""

import gzip
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from rlhf.core.errors import UserError
from rlhf.prepare.encodings import checked_file
from rlhf.prepare.notes import Notes
from rlhf.prepare.read_json import BROKEN, NoRows, Rows, broken, json_rows, one_line
from rlhf.prepare.read_tables import table_rows
from rlhf.prepare.rows import RawRow

# In a folder of preferences, but no pairs: prompts from outside the distribution; questions with wrong beliefs.
OOD_FILE, PROBES_FILE = "ood.jsonl", "probes.jsonl"
NOT_PAIRS = (OOD_FILE, PROBES_FILE)
_OTHER_DATA = (  # endings of files that may hold preferences and are not read
    ".xlsx", ".xls", ".ods", ".numbers", ".zip", ".tar", ".tgz", ".7z", ".bz2", ".xz", ".zst", ".arrow", ".feather",
    ".txt", ".yaml", ".yml", ".xml", ".pkl", ".pickle", ".pt", ".npy", ".npz", ".db", ".sqlite",
)  # fmt: skip


def find_files(path: Path, notes: Notes) -> list[Path]:
    """Find the file at `path`, or all readable files under the folder `path`, in sorted order.

    Hidden files and folders are left out, and files in forms that hold data and are not read are named in the notes.

    Raises:
        UserError: nothing is there, or nothing in a form that can be read.
    """
    if path.is_file():
        _reader(path)
        return [path]
    if not path.is_dir():
        raise UserError(f"data.path: {path}: no such file or folder")
    every = sorted(item for item in path.rglob("*") if item.is_file() and not _hidden(item.relative_to(path)))
    files = [item for item in every if _form(item) and item.name not in NOT_PAIRS]
    left = [item.relative_to(path).as_posix() for item in every if item.suffix.lower() in _OTHER_DATA]
    if not files:
        found = f"; it holds {', '.join(left[:5])}" if left else ""
        raise UserError(
            f"data.path: {path}: holds no file that ends in {', '.join(_READERS)} (or these with .gz){found}"
        )
    if left:
        notes.say(f"{path}: files that are not read: {', '.join(left[:10])}{' and more' if len(left) > 10 else ''}")
    return files


def read_rows(path: Path, notes: Notes, *, alone: bool = True) -> Rows:
    """Yield every row of one file, in order.

    Args:
        path: the file.
        notes: where what is no error is said, as another separator than usual.
        alone: whether the file is all that is read. One among others that is valid JSON and no list of rows is left out
            with a note.

    Raises:
        UserError: the file is missing, of an unknown form, of another kind than its name says, or holds no rows.
    """
    reader = _reader(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with gzip.GzipFile(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        try:
            if reader is not _parquet:
                checked_file(path, cast(BufferedIOBase, file))
            yield from reader(path, cast(BufferedIOBase, file), notes)
        except BROKEN as error:
            yield broken(path, 1, error)
        except NoRows as nothing:
            if alone:
                raise UserError(
                    f"{nothing}; data.path must name a list of rows, or lines with one object each"
                ) from None
            notes.say(f"{nothing}; left out")


def _parquet(path: Path, file: BufferedIOBase, notes: Notes) -> Rows:
    """Rows of a Parquet file; the number after the colon counts rows from 1."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        source = pyarrow.BufferReader(file.read()) if path.suffix.lower() == ".gz" else file
        table = pyarrow.parquet.ParquetFile(source)
        names = table.schema_arrow.names
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one")
        for batch in table.iter_batches(batch_size=1024):
            columns = [_values(path, name, column, notes) for name, column in zip(names, batch.columns, strict=True)]
            for values in zip(*columns, strict=True):
                number += 1
                yield RawRow(f"{path}:{number}", dict(zip(names, values, strict=True)))
    except (*BROKEN, pyarrow.ArrowException, UnicodeDecodeError) as error:
        yield broken(path, number + 1, error)


def _values(path: Path, name: str, column: Any, notes: Notes) -> list[object]:
    """Return the values of a column; none where Python has no place for them, as for dates before the year 1."""
    try:
        found: list[object] = column.to_pylist()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, LookupError, ImportError) as error:
        notes.say(f"{path}: the column {name!r} cannot be read and is taken as empty ({one_line(error)})")
        return [None] * len(column)
    return found


_READERS: dict[str, Callable[[Path, BufferedIOBase, Notes], Rows]] = {
    ".jsonl": json_rows,
    ".json": json_rows,
    ".csv": table_rows,
    ".tsv": table_rows,
    ".parquet": _parquet,
}


READABLE = tuple(_READERS)


def _form(path: Path) -> str | None:
    """The ending that tells how to read a file, if it is one of those known."""
    suffix = (Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix).lower()
    return suffix if suffix in _READERS else None


def _hidden(path: Path) -> bool:
    """Tell whether a file is one that programs keep for themselves."""
    return any(part.startswith((".", "~$", "__MACOSX")) for part in path.parts)


def _reader(path: Path) -> Callable[[Path, BufferedIOBase, Notes], Rows]:
    form = _form(path)
    if form is None:
        sheet = (
            "; save a sheet of a workbook as 'CSV UTF-8'" if path.suffix.lower() in (".xlsx", ".xls", ".ods") else ""
        )
        raise UserError(f"data.path: {path}: must end in {', '.join(_READERS)} (or one of these with .gz){sheet}")
    return _READERS[form]
