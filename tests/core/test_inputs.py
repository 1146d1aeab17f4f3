"""A folder that a user fills: every file of it is read, or named."""

from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.core.inputs import input_files
from rlhf.evaluate.people import read_sheets
from rlhf.measure.tax import read_benchmarks

ENDINGS = (".jsonl", ".jsonl.gz")


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_endings_in_capitals_count_and_bystanders_do_not(tmp_path: Path) -> None:
    fill(tmp_path, "b.JSONL", "a.jsonl.GZ", "c.jsonl", "README.md", ".gitkeep", ".DS_Store", "._c.jsonl", "~$c.xlsx",
         "c.jsonl.dvc", ".gitignore", "Thumbs.db", "c.jsonl~", ".~lock.c.csv#", "__pycache__/x.pyc")  # fmt: skip
    assert [file.name for file in input_files(tmp_path, ENDINGS, key="k")] == ["a.jsonl.GZ", "b.JSONL", "c.jsonl"]


@pytest.mark.parametrize("name", ["c.xlsx", "c.csv", "c.json", "c", "notes.txt", "c.jsonl.zip", "round 2/c.jsonl"])
def test_what_is_not_read_is_named(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "a.jsonl", name)
    with pytest.raises(UserError) as caught:
        input_files(tmp_path, ENDINGS, key="evaluate.tax.path")
    assert f"evaluate.tax.path: {tmp_path / Path(name).parts[0]}" in str(caught.value)
    assert ".jsonl or .jsonl.gz" in str(caught.value)


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to("gone")
    with pytest.raises(UserError, match="leads nowhere"):
        input_files(tmp_path, ENDINGS, key="k")


def test_a_file_by_its_own_name_may_end_as_it_likes(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    assert input_files(tmp_path / "a.txt", ENDINGS, key="k") == [tmp_path / "a.txt"]


def test_sheets_and_benchmarks_with_line_ends_of_windows_and_names_in_capitals(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "ANN.CSV").write_bytes(
        b'\xef\xbb\xbfid,prompt,better\r\n0-a,"two\r\nlines",1\r\n0-b,x,tie\r\n'
    )
    (sheet,) = read_sheets(tmp_path / "people")
    assert {name: answer.better for name, answer in sheet.items()} == {"0-a": "1", "0-b": "tie"}
    (tmp_path / "tax").mkdir()
    (tmp_path / "tax" / "LAMBADA.JSONL").write_bytes(b'{"context": "a", "continuation": "b"}\r\n\r\n')
    assert list(read_benchmarks(tmp_path / "tax", count=0, seed=0)) == ["lambada"]
