"""Files as programs and spreadsheets save them: encodings, separators, JSON of several shapes, folders."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.core.conversation import Turn
from rlhf.core.errors import UserError
from rlhf.prepare.notes import Notes
from rlhf.prepare.readers import find_files, read_rows
from rlhf.prepare.rows import BadRow, RawRow
from rlhf.prepare.sources import Source
from tests.prepare.helpers import data_params, pair_rows, write_lines

ROWS = pair_rows(3)
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = "prompt,chosen,rejected\nq,x,y\nr,é,z\n"
CELLS = [{"prompt": "q", "chosen": "x", "rejected": "y"}, {"prompt": "r", "chosen": "é", "rejected": "z"}]


def read(folder: Path, name: str, content: bytes | str) -> tuple[list[Any], str]:
    """Rows (a bad one as its rule and reason), and all notes."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    notes = Notes()
    rows = [row.values if isinstance(row, RawRow) else (row.rule, row.reason) for row in read_rows(path, notes)]
    return rows, "\n".join(notes.lines())


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_unicode_in_every_encoding_is_read(encoding: str, name: str, tmp_path: Path) -> None:
    text = {"a.jsonl": LINES, "a.json": json.dumps(ROWS), "a.csv": TABLE}[name]
    rows, notes = read(tmp_path, name, text.encode(encoding))
    assert rows == (CELLS if name == "a.csv" else ROWS)
    assert ("read as UTF" in notes) == (encoding != "utf-8-sig")


def test_utf16_that_is_cut_off_is_broken(tmp_path: Path) -> None:
    ((rule, reason),), _ = read(tmp_path, "a.jsonl", LINES.encode("utf-16")[:-3])
    assert (rule, "UTF-16 at its beginning" in reason) == ("broken_file", True)


def test_windows_1252_is_named_in_the_words_of_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TABLE.encode("cp1252"))
    good, bad = Source(data_params(path=str(path)), 0)
    assert not isinstance(good, BadRow)
    assert isinstance(bad, BadRow)
    assert (bad.rule, bad.origin) == ("not_utf8", f"{path}:3")
    for words in ("chosen: byte 0xE9 at character 0", "it is 'é'", "Save As > 'CSV UTF-8 (Comma delimited)'"):
        assert words in bad.reason
    ((rule, reason),), _ = read(tmp_path, "b.jsonl", '{"prompt": "é"}\n'.encode("cp1252"))
    assert rule == "not_utf8"
    assert "0xE9" in reason


TABLES: dict[str, tuple[str, str, str]] = {  # file name, content, what is said
    "semicolons": ("a.csv", TABLE.replace(",", ";"), "separated by semicolons"),
    "tabs": ("a.csv", TABLE.replace(",", "\t"), "separated by tabs"),
    "bars": ("a.csv", TABLE.replace(",", "|"), "separated by vertical bars"),
    "tsv": ("a.tsv", TABLE.replace(",", "\t"), ""),
    "TSV": ("a.TSV", TABLE.replace(",", "\t"), ""),
    "commas in tsv": ("a.tsv", TABLE, "separated by commas"),
    "Excel's first line": ("a.csv", "sep=;\r\n" + TABLE.replace(",", ";").replace("\n", "\r\n"), "semicolons"),
    "pandas' row numbers": ("a.csv", ",prompt,chosen,rejected\n0,q,x,y\n1,r,é,z\n", ""),
    "empty rows and columns": ("a.csv", "prompt,chosen,rejected,,\nq,x,y,,\n,,,,\nr,é,z,,\n", "empty rows passed over: 1"),
    "commas in the other texts": ("a.csv", 'prompt;chosen;rejected\nq;x;y\nr;"é";z\n', "semicolons"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_as_spreadsheets_save_them(name: str, tmp_path: Path) -> None:
    file, text, said = TABLES[name]
    rows, notes = read(tmp_path, file, text)
    assert rows == CELLS
    assert said in notes
    assert bool(said) == bool(notes)


def test_separators_inside_texts_and_lines_keep_their_count(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('sep=;\nprompt;chosen;rejected\nq, and r;"x;\nx";y\nr;z;w\n')
    assert [(row.origin, getattr(row, "values", None)) for row in read_rows(path, Notes())] == [
        (f"{path}:3", {"prompt": "q, and r", "chosen": "x;\nx", "rejected": "y"}),
        (f"{path}:5", {"prompt": "r", "chosen": "z", "rejected": "w"}),
    ]


def test_marks_of_absence_in_tables_are_no_replies(tmp_path: Path) -> None:
    words = ["nan", "NULL", "#N/A", "", " ", "\u200b"]
    path = tmp_path / "a.csv"
    path.write_text("prompt,chosen,rejected\nq,x,y\n" + "".join(f"q{k},{word},y\n" for k, word in enumerate(words)))
    rules = [row.rule for row in Source(data_params(path=str(path)), 0) if isinstance(row, BadRow)]
    assert rules == ["nan_reply", "null_reply", "nan_reply", "empty_reply", "blank_reply", "invisible_reply"]
    lines = write_lines(tmp_path / "b.jsonl", [{"prompt": "What is 0/0?", "chosen": "NaN", "rejected": "null"}])
    assert not [row for row in Source(data_params(path=str(lines)), 0) if isinstance(row, BadRow)]  # texts in JSON


REFUSED: dict[str, tuple[str, bytes | str, str]] = {
    "two columns of one name": ("a.csv", "prompt,chosen,chosen\nq,x,y\n", r"a\.csv:1: two columns are called 'chosen' \(columns 2 and 3"),
    "gzip by another name": ("a.jsonl", gzip.compress(LINES.encode()), r"a\.jsonl: compressed by gzip: let its name end in \.gz"),
    "a workbook by another name": ("a.csv", b"PK\x03\x04...", "save the sheet as 'CSV UTF-8'"),
    "Parquet by another name": ("a.json", b"PAR1...", "let its name end in .parquet"),
    "a pointer of Git LFS": ("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid x\n", "run git lfs pull"),
    "a page of HTML": ("a.json", "<!DOCTYPE html>", "a page of HTML"),
    "an object without rows": ("a.json", '{"pairs": {"file_name": "x"}}', "valid JSON, but no list of rows: an object with 'pairs'"),
    "an empty object": ("a.json", "{}", "valid JSON, but no list of rows"),
    "a number": ("a.json", "3", "valid JSON, but no list of rows: 3"),
    "rows under several keys": ("a.json", json.dumps({"cats": ROWS, "dogs": ROWS[:1]}), r"'cats' \(3\) and 'dogs' \(1\); save each list"),
    "splits of other columns": ("a.json", json.dumps({"train": ROWS, "test": [{"id": 1}]}), r"'train' \(3\) and 'test' \(1\); save each list"),
    "columns of lists": ("a.json", '{"prompt": ["q", "r"], "chosen": ["x", "x"], "rejected": ["y", "y"]}', "by columns"),
    "columns of numbered rows": (
        "a.json", '{"prompt": {"0": "q"}, "chosen": {"0": "x"}, "rejected": {"0": "y"}}', "to_json.orient='records'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_no_list_of_rows_are_called_that(name: str, tmp_path: Path) -> None:
    file, content, words = REFUSED[name]
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, file, content)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / file) in str(caught.value)


JSON: dict[str, tuple[str, str, str]] = {
    "under a key": ("a.json", json.dumps({"train": ROWS}), "3 rows under 'train'"),
    "under a key, indented": ("a.json", json.dumps({"version": 1, "data": ROWS}, indent=1), "3 rows under 'data'"),
    "under nested keys": ("a.json", json.dumps({"data": {"train": ROWS}}), "3 rows under 'data.train'"),
    "with pandas' schema": ("a.json", json.dumps({"schema": {"fields": [{"name": "x"}]}, "data": ROWS}), "under 'data'"),
    "under the names of splits": (
        "a.json", json.dumps({"train": ROWS[:2], "test": ROWS[2:]}), "2 under 'train' and 1 under 'test'",
    ),
    "lines of an old Macintosh": ("a.jsonl", LINES.replace("\n", "\r"), "carriage returns alone"),
    "an array called lines": ("a.jsonl", json.dumps(ROWS, indent=1), ""),
    "lines called an array": ("a.json", LINES, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
def test_json_of_several_shapes_holds_the_same_rows(name: str, tmp_path: Path) -> None:
    file, text, said = JSON[name]
    rows, notes = read(tmp_path, file, text)
    assert rows == ROWS
    assert said in notes


def test_a_single_object_is_a_row_where_it_has_its_columns(tmp_path: Path) -> None:
    assert read(tmp_path, "a.json", json.dumps(ROWS[0], indent=1))[0] == ROWS[:1]
    assert read(tmp_path, "a.jsonl", '{"x": [{"y": 1}]}')[0] == [{"x": [{"y": 1}]}]


@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        (json.dumps({"train": ROWS}, indent=1)[:-30], "broken_file", "cannot be read as JSON"),
        ('{"prompt": "a", "chosen": "b", "chosen": "c"}\n{}\n', "not_json", "the key 'chosen' occurs twice"),
        ("{oops\n" + LINES, "not_json", "not a line of JSON"),
        ('[{"a": "b"}] x', None, "more follows after the JSON array"),
    ],
)
def test_json_that_is_broken_says_where(text: str, rule: str | None, words: str, tmp_path: Path) -> None:
    rows, _ = read(tmp_path, "a.json", text)
    found = [row for row in rows if isinstance(row, tuple)]
    assert rule in {None, found[0][0]}
    assert words in found[0][1]


def test_parquet_and_gzip_hold_conversations_too(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    def turns(reply: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": reply}]

    table = pyarrow.Table.from_pylist([{"chosen": turns("yes"), "rejected": turns("no"), "weight": 0.5}])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    zipped = tmp_path / "b.parquet.gz"
    zipped.write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    for path in (tmp_path / "a.parquet", zipped):
        (made,) = Source(data_params(path=str(path), format="auto"), 0)
        assert not isinstance(made, BadRow)
        assert (made.prompt, made.chosen, made.weight) == ((Turn("user", "Hi"),), "yes", 0.5)
    doubled = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["chosen", "chosen"])
    pyarrow.parquet.write_table(doubled, tmp_path / "c.parquet")
    with pytest.raises(UserError, match=r"c\.parquet: two columns are called 'chosen'"):
        list(read_rows(tmp_path / "c.parquet", Notes()))


def test_a_folder_is_read_but_for_what_holds_no_rows(tmp_path: Path) -> None:
    write_lines(tmp_path / "pairs.jsonl", ROWS)
    (tmp_path / "dataset_info.json").write_text('{"pairs": {"file_name": "pairs.jsonl"}}')
    (tmp_path / "more.xlsx").write_bytes(b"PK")
    write_lines(tmp_path / ".ipynb_checkpoints" / "pairs.jsonl", ROWS)
    source = Source(data_params(path=str(tmp_path), format="auto"), 0)
    assert len(list(source)) == 3
    notes = "\n".join(source.notes.lines())
    assert "dataset_info.json: valid JSON, but no list of rows: an object with 'pairs'; left out" in notes
    assert "files that are not read: more.xlsx" in notes


def test_a_table_of_an_old_macintosh_is_read(tmp_path: Path) -> None:
    rows, notes = read(tmp_path, "a.csv", TABLE.replace("\n", "\r"))
    assert rows == CELLS
    assert "carriage returns alone" in notes


def test_a_column_that_python_has_no_place_for_is_empty_and_said(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow.parquet import write_table

    far = pa.array([2**62, 0, 0], pa.timestamp("us"))
    table = pa.table({name: [row[name] for row in ROWS] for name in ROWS[0]} | {"when": far})
    write_table(table, tmp_path / "a.parquet")
    rows, notes = read(tmp_path, "a.parquet", (tmp_path / "a.parquet").read_bytes())
    assert rows == [row | {"when": None} for row in ROWS]
    assert "the column 'when' cannot be read" in notes


def test_a_workbook_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    for path in (tmp_path, tmp_path / "a.xlsx"):
        with pytest.raises(UserError, match=r"a\.xlsx"):
            find_files(path, Notes())


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "doubled": lambda data: data + data,
    "zeros": lambda data: data.replace(b"chosen", b"cho\0en"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv"])
def test_damaged_files_end_in_a_bad_row_or_one_line(change: str, name: str, tmp_path: Path) -> None:
    text = {"a.jsonl": LINES, "a.json": json.dumps(ROWS), "a.csv": TABLE * 9, "a.tsv": TABLE.replace(",", "\t") * 9}[
        name
    ]
    path = tmp_path / name
    path.write_bytes(CHANGES[change](text.encode()))
    refused = ""
    try:
        rows = list(Source(data_params(path=str(path), format="auto"), 0))
    except UserError as error:
        refused = str(error)
    assert (str(path) in refused and "\n" not in refused) if refused else rows
