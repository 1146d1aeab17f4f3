import csv
import gzip
import json
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.prepare.notes import Notes
from rlhf.prepare.readers import find_files, read_rows
from rlhf.prepare.rows import BadRow, RawRow
from tests.prepare.helpers import pair_rows, write_lines

ROWS = pair_rows(3)


def values(path: Path) -> list[object]:
    return [row.values if isinstance(row, RawRow) else row.rule for row in read_rows(path, Notes())]


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def zipped(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    return target


def every_form(folder: Path) -> list[Path]:
    import pyarrow
    import pyarrow.parquet

    lines = write_lines(folder / "a.jsonl", ROWS)
    array = folder / "b.json"
    array.write_text(json.dumps(ROWS, indent=2))
    comma = write_csv(folder / "c.csv", ROWS)
    table = folder / "d.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), table)
    return [lines, array, comma, table]


def test_every_form_gives_the_same_rows_plain_and_zipped(tmp_path: Path) -> None:
    for path in every_form(tmp_path):
        assert values(path) == ROWS, path
        assert values(zipped(path)) == ROWS, path


def test_origins_are_file_and_line(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [ROWS[0], "", ROWS[1]])
    assert [row.origin for row in read_rows(path, Notes())] == [f"{path}:1", f"{path}:3"]
    array = tmp_path / "b.json"
    array.write_text('[\n {"x": "1"},\n\n {"x":\n "2"}, {"x": "3"}\n]')
    assert [row.origin for row in read_rows(array, Notes())] == [f"{array}:2", f"{array}:4", f"{array}:5"]


def test_a_csv_field_may_hold_line_breaks_and_the_line_is_where_the_row_begins(tmp_path: Path) -> None:
    rows = [{"prompt": "a\nb", "chosen": 'x "y"', "rejected": "z, w"}, {"prompt": "c", "chosen": "d", "rejected": "e"}]
    path = write_csv(tmp_path / "c.csv", rows)
    read = list(read_rows(path, Notes()))
    assert [row.values for row in read if isinstance(row, RawRow)] == rows
    assert [row.origin for row in read] == [f"{path}:2", f"{path}:4"]


def test_bad_lines_are_told_and_reading_goes_on(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [ROWS[0], "{oops", "[1]", b'{"prompt": "\xff"}', ROWS[1]])
    assert values(path) == [ROWS[0], "not_json", "not_json", "not_utf8", ROWS[1]]


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS[0]).encode() + b"\r\n")
    assert values(path) == ROWS[:1]


def test_a_gzip_that_is_cut_off_ends_in_one_bad_row(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl.gz", pair_rows(2000))
    path.write_bytes(path.read_bytes()[:-2000])
    read = list(read_rows(path, Notes()))
    assert 0 < len(read) < 2000
    assert all(isinstance(row, RawRow) for row in read[:-1])
    last = read[-1]
    assert isinstance(last, BadRow)
    assert (last.rule, last.origin) == ("broken_file", f"{path}:{len(read)}")


def test_a_gzip_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_text("{}")
    assert values(path) == ["broken_file"]
    array = tmp_path / "b.json.gz"
    array.write_text("[]")
    assert values(array) == ["broken_file"]


def test_an_array_that_is_cut_off_keeps_what_was_whole(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(json.dumps(ROWS)[:-60])
    assert values(path)[0] == ROWS[0]
    assert values(path)[-1] == "broken_file"


def test_csv_rows_of_another_width(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(b"prompt,chosen,rejected\na,b\na,b,c,d\na,b,c\n\xff,b,c\n")
    found = values(path)
    assert found[:3] == ["missing_column", "missing_column", {"prompt": "a", "chosen": "b", "rejected": "c"}]
    assert len(found) == 4  # the row that is not UTF-8 is judged where its text is used


def test_a_parquet_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    path.write_bytes(b"PAR1 but not really")
    assert values(path) == ["broken_file"]


def test_files_of_a_folder_are_read_in_order_and_others_left(tmp_path: Path) -> None:
    for name in ("b.jsonl", "sub/a.csv.gz", "README.md", "LICENSE", "ood.jsonl", "probes.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in find_files(tmp_path, Notes())] == ["b.jsonl", "a.csv.gz"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "no such file or folder"), ("a.txt", r"must end in \.jsonl"), ("empty", "holds no file")],
)
def test_nothing_to_read(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_files(tmp_path / name, Notes())
