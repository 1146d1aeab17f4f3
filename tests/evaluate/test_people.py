import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.evaluate.people import COLUMNS, Asked, Sheet, make_sheet, read_sheet, read_sheets

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
def sheet() -> Sheet:
    return make_sheet(ASKED, ("ppo", "sft"), seed=0)


@pytest.fixture
def folder(tmp_path: Path, sheet: Sheet) -> Path:
    sheet.write(tmp_path)
    return tmp_path


def test_a_sheet_is_blind_and_comes_back(folder: Path, sheet: Sheet) -> None:
    text = (folder / "people.csv").read_text()
    assert "ppo" not in text
    assert "sft" not in text
    rows = rows_of(folder / "people.csv")
    assert len(rows) == 40
    first = sum(row["response_1"].startswith("good") for row in rows)
    assert 10 < first < 30  # both orders
    assert [row["id"] for row in rows] != sorted(row["id"] for row in rows)
    filled = sheet.count([read_sheet(fill(folder / "people.csv", prefers_good))])
    assert set(filled.outcomes.values()) == {1.0}
    assert (len(filled.outcomes), filled.blank) == (40, 0)
    assert filled.metrics("p_")["p_winrate"] == 1
    key = json.loads((folder / "people_key.json").read_text())
    assert key["policies"] == ["ppo", "sft"]
    assert {row["id"]: 1 if row["response_1"].startswith("good") else 2 for row in rows} == key["first_is"]


def test_who_takes_the_first_always_says_nothing(folder: Path, sheet: Sheet) -> None:
    rate = sheet.count([read_sheet(fill(folder / "people.csv", lambda row: "1"))]).metrics("p_")["p_winrate"]
    assert isinstance(rate, float)
    assert 0.2 < rate < 0.8


def test_ties_and_open_rows(folder: Path, sheet: Sheet) -> None:
    answers = iter([" TIE ", "", *["tie"] * 38])
    filled = sheet.count([read_sheet(fill(folder / "people.csv", lambda row: next(answers), delimiter=";"))])
    assert (filled.blank, set(filled.outcomes.values())) == (1, {0.5})
    untouched = sheet.count([read_sheet(folder / "people.csv")]).metrics("p_")
    assert untouched == {"p_sheets": 1, "p_judged": 0, "p_blank": 40, "p_identical": 0, "p_winrate": None}
    assert sheet.count([]).metrics("p_")["p_winrate"] is None


def test_of_several_people_the_majority_counts(folder: Path, sheet: Sheet) -> None:
    """Three look at every row: all prefer the good one, two do and one says tie, or two are of two minds."""
    bad = {"1": "2", "2": "1"}
    kinds = iter(range(1000))
    by_row = {row["id"]: next(kinds) % 3 for row in rows_of(folder / "people.csv")}
    (folder / "in").mkdir()

    def says(person: int) -> Callable[[dict[str, str]], str]:
        def answer(row: dict[str, str]) -> str:
            good, kind = prefers_good(row), by_row[row["id"]]
            return [(good, good, good), (good, "tie", good), (good, bad[good], "")][kind][person]

        return answer

    for person in range(3):
        fill(folder / "people.csv", says(person)).rename(folder / "in" / f"{person}.csv")
    filled = sheet.count(read_sheets(folder / "in"))
    assert filled.people == 3
    assert {name: filled.outcomes[name] for name in by_row} == {n: (1.0, 1.0, 0.5)[kind] for n, kind in by_row.items()}


def test_the_same_seed_gives_the_same_sheet(sheet: Sheet) -> None:
    assert make_sheet(ASKED, ("ppo", "sft"), seed=0) == sheet
    assert make_sheet(ASKED, ("ppo", "sft"), seed=1) != sheet


def test_formulas_and_equal_responses(tmp_path: Path) -> None:
    made = make_sheet([Asked("Why?", " =HYPERLINK(1)", "-3"), Asked("Why?", "same", "same")], ("a", "b"), seed=0)
    made.write(tmp_path)
    (row,) = rows_of(tmp_path / "people.csv")
    assert {row["response_1"], row["response_2"]} == {"'=HYPERLINK(1)", "'-3"}
    assert made.identical == 1


HOSTILE = [
    "=1+1", "a\rb", "a\r\nb", "\r", 'say "=1"', "'=1", "''-1", "x;=1+1", 'x;""=1', "x,\t@SUM(1)", "line\n- item\n+ item", "＝1",
    "\ufeff=1", "\x1b[2J", "\u202eabc", "\u200b=1", "\ud800", "\x00=1", '"', '""', '";"', "a|=1", "x" * 40_000, "…−–", "9.5", "tie",
]  # fmt: skip


@pytest.fixture
def hostile() -> Sheet:
    return make_sheet([Asked(text, f"good {text}", f"{text} bad") for text in HOSTILE], ("ppo", "sft"), seed=1)


def saved(path: Path, *, delimiter: str, end: str, quoting: int, encoding: str, cells: Callable[[str], str]) -> Path:
    """What a spreadsheet program makes of a sheet when it saves it, with each answer the first response."""

    def quoted(cell: str) -> str:
        needed = quoting == csv.QUOTE_ALL or any(sign in cell for sign in (delimiter, '"', "\r", "\n"))
        return '"' + cell.replace('"', '""') + '"' if needed else cell

    rows = [list(COLUMNS), *([*(cells(row[name]) for name in COLUMNS[:-1]), "1"] for row in rows_of(path))]
    again = path.with_name("again.csv")
    again.write_bytes("".join(delimiter.join(map(quoted, row)) + end for row in rows).encode(encoding))
    return again


def plain(cell: str) -> str:
    return cell


PROGRAMS = {
    "excel": (",", "\r\n", csv.QUOTE_MINIMAL, "utf-8-sig", lambda cell: cell.replace("\r\n", "\n").replace("\r", "")[:32_767]),
    "excel-germany": (";", "\r\n", csv.QUOTE_MINIMAL, "utf-8-sig", lambda cell: cell.replace("\r", "\n")[:32_767]),
    "excel-unicode-text": ("\t", "\r\n", csv.QUOTE_MINIMAL, "utf-16", lambda cell: cell.replace("\r", "")[:32_767]),
    "excel-mac": (",", "\r", csv.QUOTE_MINIMAL, "utf-8-sig", lambda cell: cell.replace("\r", "\n")[:32_767]),
    "libreoffice": (",", "\n", csv.QUOTE_MINIMAL, "utf-8", plain), "libreoffice-quoted": (";", "\n", csv.QUOTE_ALL, "utf-8", plain),
    "tabs": ("\t", "\n", csv.QUOTE_ALL, "utf-8", plain), "bars": ("|", "\n", csv.QUOTE_ALL, "utf-8", plain),
    "sheets": (",", "\r\n", csv.QUOTE_MINIMAL, "utf-8", lambda cell: cell.removeprefix("'").strip()),
    "numbers": (";", "\r\n", csv.QUOTE_MINIMAL, "utf-8", lambda cell: cell.replace("-", "–").replace("'", "’")),
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_sheet_that_a_spreadsheet_program_has_saved_is_read(tmp_path: Path, hostile: Sheet, program: str) -> None:
    hostile.write(tmp_path)
    delimiter, end, quoting, encoding, cells = PROGRAMS[program]
    keep_id = {row[0] for row in hostile.rows}
    again = saved(
        tmp_path / "people.csv", delimiter=delimiter, end=end, quoting=quoting, encoding=encoding,
        cells=lambda cell: cell if cell in keep_id else cells(cell),
    )  # fmt: skip
    filled = hostile.count([read_sheet(again)])
    assert filled.outcomes == {name: float(first == 1) for name, first in hostile.first_is.items()}
    assert (len(filled.outcomes), filled.blank) == (len(HOSTILE), 0)


def test_what_spreadsheet_programs_leave_and_add(folder: Path, sheet: Sheet) -> None:
    path = fill(
        folder / "people.csv",
        lambda row: {"0000": "1,00", "0001": "２", "0002": " TIE", "0003": "'1"}.get(row["id"][:4], ""),
    )
    text = path.read_text()
    for form in (
        "sep=,\r\n" + text, "\n\n" + text, text + ",,,,\n,,,,\n" * 3, text.replace("better", "Better ").replace("id,", '"ID",'),
        re.sub(r",\n(?=0|\Z)", "\n", text),  # empty last fields are left out
        re.sub(r"\n(?=0|\Z)", ",,\n", text),  # empty columns
    ):  # fmt: skip
        path.write_text(form)
        filled = sheet.count([read_sheet(path)])
        assert (len(filled.outcomes), filled.blank) == (4, 36), form[:200]


@pytest.mark.parametrize("column", ["id", "response_1", "prompt"])
def test_a_column_that_was_sorted_by_itself_is_noticed(folder: Path, sheet: Sheet, column: str) -> None:
    rows = rows_of(folder / "people.csv")
    values = sorted(row[column] for row in rows)
    with (path := folder / "sorted.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {column: value, "better": "1"} for row, value in zip(rows, values, strict=True))
    with pytest.raises(UserError, match=r"sorted.csv:\d+: the texts beside id .* was a column sorted by itself"):
        sheet.count([read_sheet(path)])


def test_answers_alone_are_enough(folder: Path, sheet: Sheet) -> None:
    (folder / "short.csv").write_text(
        "better,id\n" + "".join(f"1,{row['id']}\n" for row in rows_of(folder / "people.csv"))
    )
    assert len(sheet.count([read_sheet(folder / "short.csv")]).outcomes) == 40


def test_nothing_in_a_sheet_commands_a_terminal(tmp_path: Path, hostile: Sheet) -> None:
    hostile.write(tmp_path)
    text = (tmp_path / "people.csv").read_text(encoding="utf-8-sig")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff]", text)


def test_a_sheet_of_other_responses_is_refused(folder: Path) -> None:
    filled = fill(folder / "people.csv", prefers_good)
    later = make_sheet([one._replace(first="new") for one in ASKED], ("ppo", "sft"), seed=0)
    with pytest.raises(UserError, match=r"filled.csv:\d+: id '.*' is not on this run's sheet .* of other responses"):
        later.count([read_sheet(filled)])


HEAD = "id,prompt,response_1,response_2,better\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,prompt\n", r"filled.csv:1: no column 'better'; found id, prompt"),
        ("", r"filled.csv:1: no column 'id'"),
        (HEAD + "ID,a,b,c,1\nID,a,b,c,2\n", r"filled.csv:3: id .* stands on line 2 already"),
        (HEAD + "ID,a,b,c,both\n", r"filled.csv:2: better: found 'both'; allowed are 1, 2, tie, or nothing"),
        (HEAD + 'ID,"a\nb",b,c,3\n', r"filled.csv:3: better: found '3'"),
        (HEAD + "ID,a,b\n", r"filled.csv:2: the row has more or fewer fields"),
        (HEAD + "ID,a,b,c,1,more\n", r"filled.csv:2: the row has more or fewer fields"),
        (HEAD + 'ID,"a,b,c,1\n', r"filled.csv:\d: not CSV"),
    ],
)
def test_malformed_sheets_name_the_line(folder: Path, text: str, message: str) -> None:
    name = rows_of(folder / "people.csv")[0]["id"]
    filled = folder / "filled.csv"
    filled.write_text(text.replace("ID", name))
    with pytest.raises(UserError, match=message) as caught:
        read_sheet(filled)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_what_they_should_be(folder: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate.people.path: .*nowhere.csv: no such file or folder"):
        read_sheets(folder / "nowhere.csv")
    (folder / "latin.csv").write_bytes(b"id,better\n\xe4,1\n")
    with pytest.raises(UserError, match="not UTF-8 at byte 10; save it as CSV UTF-8"):
        read_sheets(folder / "latin.csv")
