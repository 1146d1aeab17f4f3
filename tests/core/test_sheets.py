"""Texts in CSV: none is a formula, for whatever program, and all come back."""

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlhf.core.curves import Curve
from rlhf.core.curves import read_rows as read_curve
from rlhf.core.errors import UserError
from rlhf.core.sheets import escape, read_rows, unescape, write_rows

RUNS = "=+-@＝＋－＠"
TEXTS = st.lists(
    st.sampled_from([*RUNS, "'", "''", '"', ",", ";", "\t", "\r", "\n", "\r\n", "|", " ", "\u00a0", "\ufeff", "\x00", "a", "1+1"])
    | st.text(max_size=2)
).map("".join)  # fmt: skip


@given(TEXTS)
@example("'=1")
@example("''=1")
@example("\n\n=")
@example(",'\"'=")
def test_escaping_is_undone_exactly(text: str) -> None:
    assert unescape(escape(text)) == text


@given(TEXTS)
@example("'\t")  # an escape by the look of it: were it left, unescape would take the apostrophe away
def test_ordinary_text_is_left_alone(text: str) -> None:
    if not any(sign in text for sign in RUNS) and text.lstrip("'")[:1] not in ("\t", "\r", "\n"):
        assert escape(text) == text


def cells(text: str) -> list[str]:
    """All that any program may take for a cell: read properly, read with another separator, or split at each of them."""
    found = re.split(r"[,;|\t\r\n]", text)
    for separator in ",;|\t":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
            found += [cell for row in reader for cell in row]
    return found


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
@example([("x;=cmd|' /C calc'!A0", '";\r"=1')])
def test_no_cell_is_a_formula_for_any_program(rows: list[tuple[str, str]]) -> None:
    text = write_rows(("first", "second"), rows)
    for cell in cells(text):
        beginning = cell.lstrip(' "\u00a0\ufeff\x00')
        assert beginning[:1] == "" or beginning[0] not in RUNS, cell


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=3))
def test_a_sheet_that_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "sheet.csv"
    kept = [("key", *(text.encode("utf-8", "replace").decode() for text in row)) for row in rows]
    for mark in ("", "\ufeff"):
        path.write_bytes((mark + write_rows(("id", "a", "b"), kept)).encode())
        assert [tuple(row.fields.values()) for row in read_rows(path, ("id", "b"))] == kept


def test_every_field_is_quoted() -> None:
    assert write_rows(("a", "b"), [(1, None), (-2.5, "x")]) == '"a","b"\n"1",""\n"-2.5","x"\n'


def test_a_curve_comes_back(tmp_path: Path) -> None:
    curve = Curve(tmp_path / "c.csv", [{"name": "=1", "x": -0.5, "y": None}, {"name": "'=1", "x": 1e-7, "y": 3}])
    curve.write()
    assert read_curve(curve.path) == [{"name": "=1", "x": "-0.5", "y": ""}, {"name": "'=1", "x": "1e-07", "y": "3"}]
    with pytest.raises(UserError, match=r"none.csv: cannot be read: No such file"):
        read_curve(tmp_path / "none.csv")
    (tmp_path / "odd.csv").write_bytes(b"a\n\xff\n")
    with pytest.raises(UserError, match=r"odd.csv: cannot be read: 'utf-8' codec"):
        read_curve(tmp_path / "odd.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "1: no column 'id'; the file is empty"), (b"\n\n,,\n", "1: no column 'id'; the file is empty"),
        (b"a;b\n1;2\n", "1: no column 'id'; found a;b"), (b"id,id,b\n", "1: more than one column 'id'; found id, id, b"),
        (b"id,b\n1,2,3\n", "2: the row has more or fewer fields than the header (3, 2)"), (b'id,b\n"1,2\n', "2: not CSV: "),
        (b'id,b\n"1"x,2\n', "2: not CSV: "), (b"sep=;\nid;b\n1;2;3\n", "3: the row has more"), (b"PK\x03\x04\xff", "not UTF-8 at byte 4"),
        ("id,b\n".encode("utf-16") + b"\x00", "not UTF-8 at byte"),
    ],
)  # fmt: skip
def test_what_is_no_sheet(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        list(read_rows(path, ("id", "b")))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
