import pytest

from rlhf.prepare.dialogues import column_pair, hh_pair
from rlhf.prepare.params import ColumnParams
from rlhf.prepare.rows import BadRow, Comparison, RawRow
from tests.prepare.helpers import ASSISTANT, HUMAN, hh_row

COLUMNS = ColumnParams(prompt="prompt", extra=None, chosen="chosen", rejected="rejected")


def hh(values: dict[str, object]) -> Comparison | BadRow:
    return hh_pair(RawRow("f:1", values))


def test_the_reply_is_what_follows_the_last_marker() -> None:
    first = f"{HUMAN} a{ASSISTANT} b{HUMAN} c{ASSISTANT}"
    pair = hh({"chosen": first + " good ", "rejected": first + " bad\n"})
    assert pair == Comparison(first, " good ", " bad\n", "f:1")


@pytest.mark.parametrize(
    ("values", "rule", "reason"),
    [
        ({"chosen": "\n\nHuman: a", "rejected": hh_row()["rejected"]}, "no_assistant", "chosen"),
        (hh_row() | {"rejected": f"{HUMAN} other{ASSISTANT} no"}, "mismatched_prompt", "differ"),
        (hh_row(rejected="  \n"), "empty_reply", "rejected"),
        (hh_row(chosen=" same", rejected=" same "), "tie", "same"),
        (hh_row() | {"chosen": True}, "wrong_type", "True (bool)"),
        (hh_row() | {"rejected": None}, "wrong_type", "None (NoneType)"),
        (hh_row() | {"rejected": 3.5}, "wrong_type", "3.5 (float)"),
        (hh_row() | {"rejected": ["no"]}, "wrong_type", "list"),
        ({"chosen": hh_row()["chosen"]}, "missing_column", "'rejected'"),
        (hh_row(chosen=" \ud800"), "not_utf8", "surrogate"),
    ],
)
def test_each_rule_names_what_was_found(values: dict[str, object], rule: str, reason: str) -> None:
    bad = hh(values)
    assert isinstance(bad, BadRow)
    assert (bad.rule, bad.origin) == (rule, "f:1")
    assert reason in bad.reason


def test_columns_are_read_as_they_are() -> None:
    row = RawRow("f:1", {"prompt": " Say hi. ", "chosen": "  Hi!", "rejected": "No.\n"})
    assert column_pair(row, COLUMNS) == Comparison(" Say hi. ", "  Hi!", "No.\n", "f:1")


@pytest.mark.parametrize(("extra", "asked"), [("He go.", "Correct this.\n\nHe go."), ("", "Correct this.")])
def test_an_extra_column_follows_the_prompt(extra: str, asked: str) -> None:
    columns = COLUMNS.model_copy(update={"extra": "input"})
    row = RawRow("f:1", {"prompt": "Correct this.", "input": extra, "chosen": "He goes.", "rejected": "No."})
    pair = column_pair(row, columns)
    assert isinstance(pair, Comparison)
    assert pair.prompt == asked


def test_an_empty_prompt_is_bad() -> None:
    bad = column_pair(RawRow("f:1", {"prompt": " ", "chosen": "a", "rejected": "b"}), COLUMNS)
    assert isinstance(bad, BadRow)
    assert bad.rule == "empty_prompt"


def test_braces_in_a_prompt_are_text() -> None:
    row = RawRow("f:1", {"prompt": "What is {chosen} or {0}?", "chosen": "a", "rejected": "b"})
    pair = column_pair(row, COLUMNS)
    assert isinstance(pair, Comparison)
    assert "{chosen} or {0}" in pair.prompt
