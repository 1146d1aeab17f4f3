import pytest

from rlhf.core.conversation import Turn
from rlhf.prepare.build import make_writer
from rlhf.prepare.columns import Columns
from rlhf.prepare.dialogues import column_pair, hh_pair
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import Comparison, Pair, RawRow, RuleBroken
from tests.prepare.helpers import ASSISTANT, HUMAN, data_params, hh_row

COLUMNS = Columns(prompt="prompt", chosen="chosen", rejected="rejected")
WRITER = make_writer(data_params(), None, None)


def written(comparison: Comparison) -> Pair:
    made = WRITER.pair(comparison, Ledger())
    assert isinstance(made, Pair)
    return made


def hh(values: dict[str, object]) -> Comparison:
    return hh_pair(RawRow("f:1", values), COLUMNS)


def pair(values: dict[str, object], columns: Columns = COLUMNS) -> Comparison:
    return column_pair(RawRow("f:1", values), columns)


def test_the_reply_is_what_follows_the_last_marker() -> None:
    first = f"{HUMAN} a{ASSISTANT} b{HUMAN} c{ASSISTANT}"
    made = written(hh({"chosen": first + " good ", "rejected": first + " bad\n"}))
    assert (made.prompt, made.chosen, made.rejected, made.origin, made.turns) == (first, " good", " bad", "f:1", 2)


@pytest.mark.parametrize(
    ("values", "rule", "reason"),
    [
        ({"chosen": "\n\nHuman: a", "rejected": hh_row()["rejected"]}, "no_assistant", "chosen"),
        (hh_row() | {"rejected": f"{HUMAN} other{ASSISTANT} no"}, "mismatched_prompt", "differ"),
        (hh_row(rejected=""), "empty_reply", "rejected"),
        (hh_row(rejected=" "), "blank_reply", "rejected"),
        (hh_row(rejected="  \n"), "blank_reply", "rejected"),
        (hh_row(rejected=" \u200b\u200d"), "invisible_reply", "U+200B, U+200D"),
        (hh_row(chosen=" same", rejected=" same "), "tie", "same"),
        (hh_row(chosen=" sa\u200bme", rejected=" same"), "tie", "same"),
        (hh_row() | {"chosen": True}, "wrong_type", "True (bool)"),
        (hh_row() | {"rejected": None}, "null_reply", "None"),
        (hh_row() | {"rejected": float("nan")}, "nan_reply", "NaN"),
        (hh_row() | {"rejected": 3.5}, "wrong_type", "3.5 (float)"),
        (hh_row() | {"rejected": ["no"]}, "wrong_type", "list"),
        ({"chosen": hh_row()["chosen"]}, "missing_column", "'rejected'"),
        (hh_row(chosen=" \ud800"), "not_utf8", "surrogate"),
        ({"chosen": f"{ASSISTANT} yes", "rejected": f"{ASSISTANT} no"}, "empty_prompt", "nobody says anything"),
    ],
)
def test_each_rule_names_what_was_found(values: dict[str, object], rule: str, reason: str) -> None:
    with pytest.raises(RuleBroken) as caught:
        hh(values)
    bad = caught.value.bad_row(RawRow("f:1", values))
    assert (bad.rule, bad.origin) == (rule, "f:1")
    assert reason in bad.reason


def test_an_instruction_becomes_a_dialogue() -> None:
    made = written(pair({"prompt": " Say hi. ", "chosen": "Hi!", "rejected": "No."}))
    assert (made.prompt, made.chosen, made.rejected, made.turns) == (f"{HUMAN} Say hi.{ASSISTANT}", " Hi!", " No.", 1)


def test_a_dialogue_stays_as_it_is() -> None:
    prompt = f"{HUMAN} a{ASSISTANT} b{HUMAN} c{ASSISTANT}"
    made = written(pair({"prompt": prompt, "chosen": "x", "rejected": "y"}))
    assert (made.prompt, made.turns) == (prompt, 2)


@pytest.mark.parametrize(
    ("extra", "asked"), [("He go.", "Correct this.\n\nHe go."), ("", "Correct this."), (None, "Correct this.")]
)
def test_an_extra_column_follows_the_prompt(extra: str | None, asked: str) -> None:
    columns = Columns(prompt="prompt", chosen="chosen", rejected="rejected", extra="input")
    values = {"prompt": "Correct this.", "input": extra, "chosen": "He goes.", "rejected": "No."}
    assert written(pair(values, columns)).prompt == f"{HUMAN} {asked}{ASSISTANT}"


def test_a_system_column_stands_before_the_prompt() -> None:
    columns = Columns(prompt="prompt", chosen="chosen", rejected="rejected", system="system")
    values = {"prompt": "Hi", "system": "Be brief.", "chosen": "a", "rejected": "b"}
    assert pair(values, columns).prompt == (Turn("system", "Be brief."), Turn("user", "Hi"))
    assert written(pair(values, columns)).prompt == f"Be brief.{HUMAN} Hi{ASSISTANT}"
    for nothing in (None, " "):
        assert pair(values | {"system": nothing}, columns).prompt == "Hi"
    dialogue = f"{HUMAN} Hi{ASSISTANT}"
    assert pair(values | {"prompt": dialogue}, columns).prompt == f"Be brief.{dialogue}"


def test_a_system_column_stands_before_a_dialogue_in_another_spelling() -> None:
    columns = Columns(prompt="prompt", chosen="chosen", rejected="rejected", system="system")
    values = {"prompt": "User: Hi\nAssistant: ", "system": "Be brief.", "chosen": "a", "rejected": "b"}
    assert written(pair(values, columns)).prompt == f"Be brief.{HUMAN} Hi{ASSISTANT}"
    with pytest.raises(RuleBroken, match="has begun"):
        pair(values | {"prompt": "User: Hi\nAssistant: Well,"}, columns)


def test_turns_become_a_dialogue() -> None:
    turns = (
        Turn("system", "Be brief."), Turn("user", "Weather?"), Turn("assistant", "[call]"), Turn("tool", "Rain"),
        Turn("user", "And now?\n"),
    )  # fmt: skip
    expected = "Be brief.\n\nHuman: Weather?\n\nAssistant: [call]\n\nTool: Rain\n\nHuman: And now?\n\nAssistant:"
    assert WRITER.prompt(turns).text == expected


def test_an_empty_prompt_is_bad() -> None:
    for empty in (" ", "", "\u200b\ufeff"):
        with pytest.raises(RuleBroken, match="prompt: empty"):
            pair({"prompt": empty, "chosen": "a", "rejected": "b"})


def test_a_conversation_as_text_is_no_reply() -> None:
    with pytest.raises(RuleBroken, match="a conversation written out as text"):
        pair({"prompt": "a", "chosen": "[{'role': 'assistant', 'content': 'x'}]", "rejected": "y"})


def test_braces_in_a_prompt_are_text() -> None:
    made = written(pair({"prompt": "What is {chosen} or {0}?", "chosen": "a", "rejected": "b"}))
    assert "{chosen} or {0}" in made.prompt
