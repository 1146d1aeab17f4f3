"""Each form of preferences, as people have them: what is read, and what is refused by which rule."""

from pathlib import Path
from typing import Any

import pytest

from rlhf.core.errors import UserError
from rlhf.prepare.build import make_writer
from rlhf.prepare.row_counts import Ledger
from rlhf.prepare.rows import BadRow, Pair
from rlhf.prepare.sources import Source
from rlhf.prepare.written import write_all
from tests.prepare.helpers import VALUES, data_params, write_lines

Row = dict[str, Any]
Q, A = "\n\nHuman: ", "\n\nAssistant:"


def user(text: Any) -> Row:
    return {"role": "user", "content": text}


def said(text: Any, **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def system(text: str) -> Row:
    return {"role": "system", "content": text}


def human(text: str) -> Row:
    return {"from": "human", "value": text}


def gpt(text: str) -> Row:
    return {"from": "gpt", "value": text}


def read(folder: Path, *rows: Row, form: str = "auto", **columns: str) -> tuple[list[Pair | BadRow], str]:
    """What is made of the rows, and all notes."""
    path = write_lines(folder / "rows.jsonl", rows)
    data = data_params(path=str(path), format=form, columns=VALUES["columns"] | columns)
    source = Source(data, 0)
    return list(write_all(source, make_writer(data, None, None), Ledger())), "\n".join(source.notes.lines())


# What stands in a file -> the form it is taken for, prompt, chosen, rejected.
GOOD: dict[str, tuple[Row, str, tuple[str, str, str]]] = {
    "turns inside both, prompt repeated as text": (
        {"prompt": "Hi", "chosen": [user("Hi"), said("yes")], "rejected": [user("Hi"), said("no")]},
        "messages", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "turns inside both, no prompt": (
        {"chosen": [user("Hi"), said("yes")], "rejected": [user("Hi"), said("no")]},
        "messages", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "prompt a list, with a system turn": (
        {"prompt": [system("Be brief."), user("Hi")], "chosen": [said("yes")], "rejected": [said("no")]},
        "messages", (f"Be brief.{Q}Hi{A}", " yes", " no"),
    ),
    "prompt a list, replies text": (
        {"prompt": [user("Hi"), said("Hello"), user("So?")], "chosen": "yes", "rejected": "no"},
        "messages", (f"{Q}Hi{A} Hello{Q}So?{A}", " yes", " no"),
    ),
    "system turn inside, prompt as text": (
        {"prompt": "Hi", "chosen": [system("S"), user("Hi"), said("yes")], "rejected": [system("S"), user("Hi"), said("no")]},
        "messages", (f"S{Q}Hi{A}", " yes", " no"),
    ),
    "a single turn each": (
        {"prompt": [user("Hi")], "chosen": said("yes"), "rejected": said("no")},
        "messages", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "content in parts": (
        {"chosen": [user([{"type": "text", "text": "H"}, "i"]), said("yes")], "rejected": [user("Hi"), said("no")]},
        "messages", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "roles in capitals and by other names": (
        {"chosen": [{"role": "Human", "content": "Hi"}, {"role": "MODEL", "content": "yes"}],
         "rejected": [{"role": "prompter", "content": "Hi"}, {"role": "bot", "content": "no"}]},
        "messages", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "turns as columns, as datasets keeps them": (
        {"prompt": {"role": ["system", "user"], "content": ["S", "Hi"]}, "chosen": "yes", "rejected": "no"},
        "messages", (f"S{Q}Hi{A}", " yes", " no"),
    ),
    "conversations written as text by Python": (
        {"chosen": "[{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'yes'}]",
         "rejected": '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "no"}]'},
        "messages", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "messages beside chosen that repeat it": (
        {"messages": [user("Hi"), said("yes")], "chosen": [user("Hi"), said("yes")], "rejected": [user("Hi"), said("no")]},
        "messages", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "tools in the prompt": (
        {"prompt": [user("Rain?"), said(None, tool_calls=["f"]), {"role": "tool", "content": "wet"}],
         "chosen": [said("yes")], "rejected": [said("no")]},
        "messages", (f'{Q}Rain?{A} ["f"]\n\nTool: wet{A}', " yes", " no"),
    ),
    "sharegpt": (
        {"conversations": [human("Hi"), gpt("Hello"), human("So?")], "chosen": gpt("yes"), "rejected": gpt("no")},
        "conversations", (f"{Q}Hi{A} Hello{Q}So?{A}", " yes", " no"),
    ),
    "sharegpt with a system column": (
        {"system": "S", "conversations": [human("Hi")], "chosen": gpt("yes"), "rejected": gpt("no")},
        "conversations", (f"S{Q}Hi{A}", " yes", " no"),
    ),
    "instruction and input": (
        {"instruction": "Fix.", "input": "He go.", "output": "yes", "chosen": "yes", "rejected": "no"},
        "pairs", (f"{Q}Fix.\n\nHe go.{A}", " yes", " no"),
    ),
    "system and question": (
        {"system": "S", "question": "Hi", "chosen": "yes", "rejected": "no"}, "pairs", (f"S{Q}Hi{A}", " yes", " no"),
    ),
    "whole dialogues": (
        {"chosen": f"{Q}Hi{A} yes", "rejected": f"{Q}Hi{A} no"}, "hh", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "a winner by letter": (
        {"question": "Hi", "response_a": "no", "response_b": "yes", "winner": "B"},
        "winner", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "a winner by the name of a model": (
        {"conversation_a": [user("Hi"), said("yes")], "conversation_b": [user("Hi"), said("no")], "winner": "model_a"},
        "winner", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "a winner by the name of its column": (
        {"prompt": "Hi", "output_1": "no", "output_2": "yes", "preference": "output_2"},
        "winner", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "a winner by number, counted as the columns are": (
        {"prompt": "Hi", "response_0": "no", "response_1": "yes", "better": 1}, "winner", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "a winner by index into a list, the prompt nested": (
        {"info": {"post": "Hi", "title": "t"}, "summaries": [{"text": " yes"}, {"text": " no"}], "choice": 0.0},
        "winner", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "scores beside replies": (
        {"prompt": "Hi", "responses": ["no", "yes"], "scores": [1, "2.5"]}, "ratings", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "scores inside replies": (
        {"instruction": "Hi", "completions": [{"response": "yes", "overall_score": 9}, {"response": "no", "overall_score": 2}]},
        "ratings", (f"{Q}Hi{A}", " yes", " no"),
    ),
    "ranks": (
        {"prompt": [user("Hi")], "responses": ["no", "yes"], "ranks": [2, 1]}, "rankings", (f"{Q}Hi{A}", " yes", " no"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_form_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    row, form, expected = GOOD[name]
    (made,), notes = read(tmp_path, row)
    assert isinstance(made, Pair), made
    assert (made.prompt, made.chosen, made.rejected) == expected
    assert f"took the rows for {form}, because" in notes
    (again,), _ = read(tmp_path, row, form=form)
    assert again == made


PROMPT: Row = {"prompt": [user("Hi")], "rejected": [said("no")]}
TWO: Row = {"prompt": "Hi", "response_a": "x", "response_b": "y"}
# What stands in a row, beside the form that the user names, -> the rule that it breaks, and words of the reason.
BAD: dict[str, tuple[str, Row, str, str]] = {
    "last turn the user's": (
        "messages", {"chosen": [user("Hi"), said("a"), user("Thanks")], "rejected": [user("Hi"), said("b")]},
        "no_assistant", "chosen[2]: the last turn is a user's turn",
    ),
    "empty conversation": ("messages", PROMPT | {"chosen": []}, "no_assistant", "chosen: an empty conversation"),
    "content null": ("messages", PROMPT | {"chosen": [said(None)]}, "null_reply", "chosen[0].content"),
    "content null in the prompt": (
        "messages", PROMPT | {"prompt": [user(None)], "chosen": [said("x")]}, "wrong_type", "prompt[0].content",
    ),
    "content a number": ("messages", PROMPT | {"chosen": [said(3)]}, "wrong_type", "found 3 (int)"),
    "an image": (
        "messages", PROMPT | {"chosen": [said([{"type": "image_url", "image_url": {}}])]},
        "wrong_type", "chosen[0].content[0]: a part of type 'image_url'; only parts of text are read",
    ),
    "an unknown role": (
        "messages", PROMPT | {"chosen": [{"role": "narrator", "content": "x"}]}, "wrong_type", "found 'narrator'",
    ),
    "a turn without role": ("messages", PROMPT | {"chosen": [{"content": "x"}]}, "wrong_type", "found ['content']"),
    "a turn that is text": ("messages", PROMPT | {"chosen": ["x"]}, "wrong_type", "chosen[0]: expected a turn"),
    "a call as the reply": (
        "messages", PROMPT | {"chosen": [said("", tool_calls=["f"])]}, "tool_reply", "a call of a tool",
    ),
    "a tool as the reply": (
        "messages", PROMPT | {"chosen": [{"role": "tool", "content": "x"}]}, "tool_reply", "a tool answer",
    ),
    "a call as the reply, by ShareGPT": (
        "conversations",
        {"conversations": [human("Hi")], "chosen": {"from": "function_call", "value": "{}"}, "rejected": gpt("no")},
        "tool_reply", "chosen[0]",
    ),
    "prompts that differ": (
        "messages", {"chosen": [user("Hi"), said("x")], "rejected": [user("Ho"), said("y")]},
        "mismatched_prompt", "chosen and rejected differ before the last turn, from turn 0",
    ),
    "prompts of other lengths": (
        "messages", {"chosen": [user("Hi"), said("x")], "rejected": [user("Hi"), said("a"), user("b"), said("y")]},
        "mismatched_prompt", "from turn 1",
    ),
    "a prompt that the turns do not hold": (
        "messages", {"prompt": "Other", "chosen": [user("Hi"), said("x")], "rejected": [user("Hi"), said("y")]},
        "mismatched_prompt", "'Other' against 'Hi'",
    ),
    "a late system turn": (
        "messages", PROMPT | {"prompt": [user("Hi"), system("S")], "chosen": [said("x")]}, "turn_order", "prompt[1]",
    ),
    "two system prompts": (
        "messages", PROMPT | {"prompt": [system("S"), user("Hi")], "system": "T", "chosen": [said("x")]},
        "mismatched_prompt", "differ",
    ),
    "the assistant twice": (
        "messages", PROMPT | {"prompt": [user("Hi"), said("a")], "chosen": [said("x")]}, "turn_order", "assistant's own",
    ),
    "no user": ("messages", PROMPT | {"prompt": [system("S")], "chosen": [said("x")]}, "empty_prompt", "no turn of a user"),
    "no prompt at all": ("messages", {"chosen": [said("x")], "rejected": [said("y")]}, "empty_prompt", "no turn"),
    "half a surrogate pair": ("messages", PROMPT | {"chosen": [said("\ud800")]}, "not_utf8", "half of a surrogate"),
    "a printed numpy array": (
        "pairs", {"prompt": "Hi", "chosen": "[{'role': 'user', 'content': 'a'}\n {'role': 'x', 'content': 'b'}]", "rejected": "y"},
        "wrong_type", "lost its commas",
    ),
    "a tie": ("winner", TWO | {"winner": "Tie (bothbad)"}, "tie", "neither"),
    "no such winner": ("winner", TWO | {"winner": "C"}, "wrong_type", "expected A or B, 1 or 2"),
    "no winner": ("winner", TWO | {"winner": None}, "wrong_type", "found None"),
    "a share as the winner": ("winner", TWO | {"winner": 0.5}, "wrong_type", "found 0.5"),
    "three replies": (
        "winner", {"prompt": "Hi", "responses": ["x", "y", "z"], "winner": "A"}, "wrong_type", "a list of two replies",
    ),
    "a score that is none": (
        "ratings", {"prompt": "Hi", "responses": ["x", "y"], "scores": ["3,5", 1]}, "wrong_type", "write a decimal point",
    ),
    "a score too few": ("ratings", {"prompt": "Hi", "responses": ["x", "y"], "scores": [1]}, "wrong_type", "2 and 1"),
    "equal scores": ("ratings", {"prompt": "Hi", "responses": ["x", "y"], "scores": [1, 1]}, "tie", "same rank"),
    "one rated reply": ("ratings", {"prompt": "Hi", "response": "x", "score": 3}, "lone_reply", "the only reply"),
    "one label": ("unpaired", {"prompt": "Hi", "completion": "x", "label": True}, "lone_reply", "learn from pairs"),
    "a label that is none": (
        "unpaired", {"prompt": "Hi", "completion": "x", "label": "maybe"}, "wrong_type", "expected one of true/false",
    ),
    "a weight of 0": ("pairs", {"prompt": "Hi", "chosen": "x", "rejected": "y", "weight": 0}, "wrong_type", "above 0"),
    "no weight": ("pairs", {"prompt": "Hi", "chosen": "x", "rejected": "y", "weight": None}, "wrong_type", "weight"),
    "a margin below 0": (
        "pairs", {"prompt": "Hi", "chosen": "x", "rejected": "y", "margin": -0.5}, "wrong_type", "the rejected reply leads",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_breaks_its_rule(name: str, tmp_path: Path) -> None:
    form, row, rule, words = BAD[name]
    (bad, *more), _ = read(tmp_path, row, form=form)
    assert isinstance(bad, BadRow), bad
    assert not more
    assert (bad.rule, bad.origin) == (rule, f"{tmp_path / 'rows.jsonl'}:1")
    assert words in bad.reason


def short(found: list[Pair | BadRow]) -> list[str]:
    return [
        f"{one.chosen.strip()}>{one.rejected.strip()} {one.weight:.4f}" if isinstance(one, Pair) else one.rule
        for one in found
    ]


def test_labelled_replies_are_paired_where_a_prompt_has_both(tmp_path: Path) -> None:
    labels = [("Hi", "a", True), ("Ho", "x", False), ("Hi", "b", 0), ("Hi", "c", "TRUE"), ("Ho", "y", "no")]
    rows = [{"prompt": p, "completion": r, "label": label} for p, r, label in labels]
    found, notes = read(tmp_path, *rows)
    assert short(found) == ["a>b 0.3333", "c>b 0.3333", "lone_reply", "lone_reply"]  # a and c tie: one pair of three
    assert [one.origin.rsplit(":")[-1] for one in found] == ["1", "1", "2", "5"]
    assert "1 of 2 prompts have replies to compare" in notes


def test_labels_of_two_annotators_are_not_mixed(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "completion": r, "label": r == "a", "annotator": who} for r, who in (("a", 1), ("b", 2))]
    assert short(read(tmp_path, *rows)[0]) == ["lone_reply", "lone_reply"]


def test_a_weight_of_a_single_reply_is_said_not_to_be_used(tmp_path: Path) -> None:
    rows = [{"prompt": "Hi", "completion": one, "label": one == "x", "weight": 3, "margin": 1} for one in "xy"]
    (made,), notes = read(tmp_path, *rows)
    assert isinstance(made, Pair)
    assert (made.weight, made.margin) == (1, None)
    assert "'weight' and 'margin' belong to single replies here" in notes


def test_labelled_conversations_end_in_the_reply(tmp_path: Path) -> None:
    rows = [{"messages": [user("Hi"), said(text)], "label": text == "yes"} for text in ("no", "yes")]
    assert short(read(tmp_path, *rows)[0]) == ["yes>no 1.0000"]


def test_scored_replies_of_several_rows_are_ranked_by_prompt(tmp_path: Path) -> None:
    scores = [("a", 1), ("b", 3.5), ("c", 3.5), ("d", "-2")]
    found, _ = read(tmp_path, *({"prompt": "Hi", "response": r, "score": score} for r, score in scores))
    assert short(found) == [f"{pair} 0.1667" for pair in ("b>a", "c>a", "a>d", "b>d", "c>d")]


@pytest.mark.parametrize(
    ("names", "winners", "expected"),
    [
        (("answer_a", "answer_b"), (0, 1), ["x>y", "y>x"]),
        (("answer_a", "answer_b"), (1, 2), ["x>y", "y>x"]),
        (("answer_a", "answer_b"), ("2", "1"), ["y>x", "x>y"]),
        (("answer_1", "answer_2"), (1, 1), ["x>y", "x>y"]),
        (("answer_0", "answer_1"), (1, 1), ["y>x", "y>x"]),
        (("answer_a", "answer_b"), (1, 1), None),
        (("answer_1", "answer_2"), (0, 1), None),
        (("answer_a", "answer_b"), (0, 2), None),
    ],
)
def test_numbers_of_winners_are_counted_from_where_it_shows(
    names: tuple[str, str], winners: tuple[object, ...], expected: list[str] | None, tmp_path: Path
) -> None:
    rows = [{"prompt": f"q{k}", names[0]: "x", names[1]: "y", "choice": won} for k, won in enumerate(winners)]
    if expected is None:
        with pytest.raises(UserError, match=r"rows\.jsonl:1: choice: the winners are the numbers .* write A and B"):
            read(tmp_path, *rows)
        return
    assert [one.split()[0] for one in short(read(tmp_path, *rows)[0])] == expected


def test_a_winner_that_is_called_label_says_two_things(tmp_path: Path) -> None:
    rows = [TWO | {"labels": won} for won in (0, 1)]
    with pytest.raises(UserError, match="whether the first one is better"):
        read(tmp_path, *rows, form="winner", winner="labels")


def test_columns_are_found_by_name_whatever_they_are_called(tmp_path: Path) -> None:
    row = {"ask": {"it": "Hi"}, "good one": "yes", "bad one": "no"}
    (made,), _ = read(tmp_path, row, form="pairs", prompt="ask.it", chosen="good one", rejected="bad one")
    assert isinstance(made, Pair)
    assert (made.prompt, made.chosen, made.rejected) == (f"{Q}Hi{A}", " yes", " no")
    (made, _), notes = read(tmp_path, *({" Prompt": f"{k}", "CHOSEN": "yes", "Rejected": "no"} for k in "ab"))
    assert isinstance(made, Pair)
    assert "prompt: ' Prompt', chosen: 'CHOSEN', rejected: 'Rejected'" in notes


def test_weight_and_margin_are_used_and_other_columns_said(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "yes", "rejected": "no", "weight": "0.5", "margin": 2, "annotator": 3,
           "score_chosen": 8.0, "lang": "en"}  # fmt: skip
    (made,), notes = read(tmp_path, row)
    assert isinstance(made, Pair)
    assert (made.weight, made.margin, made.annotator) == (0.5, 2.0, "3")
    assert "columns that are not used: score_chosen, lang" in notes
    assert "'weight' weighs the pairs" in notes
    assert "'margin' is the margin" in notes


def test_kept_turns_of_tools_and_other_keys_of_turns_are_said_once(tmp_path: Path) -> None:
    asked = [user("Rain?") | {"name": "Ann"}, {"role": "tool", "content": "wet"}]
    row = {"prompt": asked, "chosen": [said("yes")], "rejected": [said("no")]}
    _, notes = read(tmp_path, *(row for _ in range(3)))
    assert "3 turns of tools kept in prompts" in notes
    assert notes.count("turns of conversations also have 'name', which is not used") == 1


AMBIGUOUS: dict[str, tuple[Row, str]] = {
    "a prompt before whole dialogues": (
        {"prompt": f"{Q}Hi{A}", "chosen": f"{Q}Hi{A} yes", "rejected": f"{Q}Hi{A} no"},
        r"2 ways: hh \(.*\); pairs \(.*\)\. Choose with data\.format=hh or data\.format=pairs",
    ),
    "label and score": (
        {"prompt": "Hi", "response": "x", "label": 1, "score": 2.0}, r"unpaired \(.*\); ratings \(.*\)\. Choose with",
    ),
    "scores and ranks": (
        {"prompt": "Hi", "responses": ["x", "y"], "scores": [1, 2], "ranks": [1, 2]}, "rankings .* ratings",
    ),
    "pairs and a winner": (TWO | {"chosen": "x", "rejected": "y", "winner": "A"}, "pairs .* winner"),
    "two prompts": (
        {"prompt": "Hi", "question": "Ho", "chosen": "x", "rejected": "y"},
        "the columns 'prompt' and 'question' could each hold it; name one with data.columns.prompt",
    ),
    "two winners": (
        TWO | {"winner": "A", "choice": "B"}, "'winner' and 'choice' could each hold it; name one with data.columns.winner",
    ),
    "no prompt": ({"chosen": "x", "rejected": "y"}, r"fit no form\. There are 'chosen' and 'rejected', but no prompt"),
    "no rejected": ({"prompt": "Hi", "chosen": "x"}, "There is 'chosen', but no column for the worse reply"),
    "no label": ({"prompt": "Hi", "response": "x", "label": "maybe"}, "label: expected one of .* found 'maybe'"),
    "nothing of it": ({"text": "x", "n": 3}, r"Their columns: 'text' \(text\), 'n' \(number\)\. Known are hh: .* winner:"),
}  # fmt: skip


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_rows_that_fit_no_form_or_several_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    row, words = AMBIGUOUS[name]
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, row)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}:1: ")


def test_a_name_that_no_row_has_is_not_guessed_around(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "chosen": "x", "rejected": "y"}
    with pytest.raises(UserError, match=r"data\.columns\.prompt names 'instruction', which no row has"):
        read(tmp_path, row, prompt="instruction")
