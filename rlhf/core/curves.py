"""Write training curves as CSV files that DVC, editors and people can read while a run is going on."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from rlhf.core import live
from rlhf.core.artifacts import rounded, write_text
from rlhf.core.errors import UserError
from rlhf.core.sheets import escape, unescape

Cell = float | int | str | None


class Curve:
    """Rows of one curve. The whole file is rewritten at each row: readers never see half a line, and the file of a
    resumed run is the file of a run that was never stopped. Columns are those of the first row."""

    def __init__(self, path: Path, rows: Iterable[Mapping[str, Cell]] = ()) -> None:
        self.path = path
        self.rows: list[dict[str, Cell]] = [dict(row) for row in rows]

    def append(self, row: Mapping[str, Cell]) -> None:
        """Add a row. Raises ValueError if its columns are not those of the first."""
        if self.rows and list(row) != list(self.rows[0]):
            raise ValueError(f"{self.path}: columns {list(row)} do not match {list(self.rows[0])}")
        self.rows.append(dict(row))
        self.write()
        live.show(self.path.stem, self.rows)

    def write(self) -> None:
        """Write the file, even with no rows (a header cannot be known then: the file is empty)."""
        text = io.StringIO()
        if self.rows:
            writer = csv.DictWriter(text, list(self.rows[0]), quoting=csv.QUOTE_ALL, lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _cell(value) for name, value in row.items()} for row in self.rows)
        write_text(self.path, text.getvalue())


def _cell(value: Cell) -> object:
    """Make a cell that no spreadsheet program takes for a formula."""
    return escape(value) if isinstance(value, str) else rounded(value)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a curve as they stand in the file; an empty cell is an empty string.

    Raises:
        UserError: there is no such file, or it is no CSV in UTF-8.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, restval="")
            return [{name: unescape(value) for name, value in row.items() if name is not None} for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
