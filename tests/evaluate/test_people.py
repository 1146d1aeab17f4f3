import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.evaluate.people import COLUMNS, Asked, read_sheet, write_sheet

ASKED = [Asked(f"\n\nHuman: Question {k}?", f" good {k}, with a comma", f' "bad"\n{k}') for k in range(40)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, answer: Callable[[dict[str, str]], str], delimiter: str = ",") -> Path:
    rows = rows_of(path)
    filled = path.with_name("filled.csv")
    with filled.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(row | {"better": answer(row)} for row in rows)
    return filled


def prefers_good(row: dict[str, str]) -> str:
    return "1" if row["response_1"].startswith("good") else "2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sheet(tmp_path, ASKED, ("ppo", "sft"), seed=0)
    return tmp_path


def test_a_sheet_is_blind_and_comes_back(folder: Path) -> None:
    text = (folder / "sheet.csv").read_text()
    assert "ppo" not in text
    assert "sft" not in text
    rows = rows_of(folder / "sheet.csv")
    assert len(rows) == 40
    first = sum(row["response_1"].startswith("good") for row in rows)
    assert 10 < first < 30  # both orders
    assert [row["id"] for row in rows] != sorted(row["id"] for row in rows)
    filled = read_sheet(fill(folder / "sheet.csv", prefers_good), folder / "key.json")
    assert filled.policies == ("ppo", "sft")
    assert set(filled.outcomes.values()) == {1.0}
    assert (len(filled.outcomes), filled.blank) == (40, 0)
    assert filled.metrics("p_")["p_winrate"] == 1


def test_who_takes_the_first_always_says_nothing(folder: Path) -> None:
    filled = read_sheet(fill(folder / "sheet.csv", lambda row: "1"), folder / "key.json")
    rate = filled.metrics("p_")["p_winrate"]
    assert isinstance(rate, float)
    assert 0.2 < rate < 0.8


def test_ties_and_open_rows(folder: Path) -> None:
    answers = iter([" TIE ", "", *["tie"] * 38])
    filled = read_sheet(fill(folder / "sheet.csv", lambda row: next(answers), delimiter=";"), folder / "key.json")
    assert (filled.blank, set(filled.outcomes.values())) == (1, {0.5})
    untouched = read_sheet(folder / "sheet.csv", folder / "key.json")
    assert untouched.metrics("p_") == {"p_judged": 0, "p_blank": 40, "p_winrate": None}


def test_the_same_seed_gives_the_same_sheet(folder: Path, tmp_path: Path) -> None:
    write_sheet(tmp_path / "again", ASKED, ("ppo", "sft"), seed=0)
    assert (tmp_path / "again" / "sheet.csv").read_bytes() == (folder / "sheet.csv").read_bytes()
    write_sheet(tmp_path / "other", ASKED, ("ppo", "sft"), seed=1)
    assert (tmp_path / "other" / "sheet.csv").read_bytes() != (folder / "sheet.csv").read_bytes()


def test_formulas_and_equal_responses(tmp_path: Path) -> None:
    write_sheet(tmp_path, [Asked("Why?", " =HYPERLINK(1)", "-3"), Asked("Why?", "same", "same")], ("a", "b"), seed=0)
    (row,) = rows_of(tmp_path / "sheet.csv")
    assert {row["response_1"], row["response_2"]} == {" =HYPERLINK(1)", " -3"}


HEAD = "id,prompt,response_1,response_2,better\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,prompt\n", r"filled.csv:1: no column 'better'; expected id, prompt"),
        ("", r"filled.csv:1: no column 'id'"),
        (HEAD + "nope,a,b,c,1\n", r"filled.csv:2: id 'nope' is not in .*key.json"),
        (HEAD + "ID,a,b,c,1\nID,a,b,c,2\n", r"filled.csv:3: id .* stands on line 2 already"),
        (HEAD + "ID,a,b,c,both\n", r"filled.csv:2: better: found 'both'; allowed are 1, 2, tie, or nothing"),
        (HEAD + 'ID,"a\nb",b,c,3\n', r"filled.csv:3: better: found '3'"),
        (HEAD + "ID,a,b\n", r"filled.csv:2: the row has more or fewer fields"),
        (HEAD + "ID,a,b,c,1,more\n", r"filled.csv:2: the row has more or fewer fields"),
        (HEAD + 'ID,"a,b,c,1\n', r"filled.csv:\d: not CSV"),
    ],
)
def test_malformed_sheets_name_the_line(folder: Path, text: str, message: str) -> None:
    name = rows_of(folder / "sheet.csv")[0]["id"]
    filled = folder / "filled.csv"
    filled.write_text(text.replace("ID", name))
    with pytest.raises(UserError, match=message) as caught:
        read_sheet(filled, folder / "key.json")
    assert "\n" not in str(caught.value)


def test_files_that_are_not_what_they_should_be(folder: Path) -> None:
    key = folder / "key.json"
    with pytest.raises(UserError, match=r"nowhere.csv: no such file"):
        read_sheet(folder / "nowhere.csv", key)
    (folder / "latin.csv").write_bytes(b"id,better\n\xe4,1\n")
    with pytest.raises(UserError, match="not UTF-8 at byte 10; save it as CSV UTF-8"):
        read_sheet(folder / "latin.csv", key)
    key.write_text(json.dumps({"policies": ["ppo"]}))
    with pytest.raises(UserError, match=r"key.json: not the key of a sheet"):
        read_sheet(folder / "sheet.csv", key)
