"""Dialogues in many spellings, taken apart by hand."""

import pytest

from rlhf.core.conversation import Turn, labelled, role_order
from rlhf.prepare.spellings import open_label, spelled, without_label

U, A, S, T = "user", "assistant", "system", "tool"


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("\n\nHuman: Hi there\n\nAssistant: ", [(U, "Hi there")]),
        ("\n\nHuman: Hi there\n\nAssistant:\n", [(U, "Hi there")]),
        ("Human: Hi there\nAssistant:", [(U, "Hi there")]),
        ("Human: Hi\r\n\r\nAssistant:", [(U, "Hi")]),
        ("human: Hi\nassistant:", [(U, "Hi")]),
        ("User: Hi\nAssistant: \t\n", [(U, "Hi")]),
        ("USER: Hi ASSISTANT:", [(U, "Hi")]),
        ("A chat with an assistant. USER: Hi ASSISTANT:", [(S, "A chat with an assistant."), (U, "Hi")]),
        ("Be brief.\n\nUSER: Hi\nyou ASSISTANT: ", [(S, "Be brief."), (U, "Hi\nyou")]),
        (" " * 200_000 + "USER: Hi ASSISTANT:", [(U, "Hi")]),  # in a time that grows with the length alone
        ("User: a\nAssistant: b\nUser: c", [(U, "a"), (A, "b"), (U, "c")]),
        ("Q: a?\nA: b\n\nQ: c?\nA:", [(U, "a?"), (A, "b"), (U, "c?")]),
        ("Question: a?\n\nAnswer:", [(U, "a?")]),
        ("### Human: a\n### Assistant:", [(U, "a")]),
        ("**User:** a\n**Assistant:**", [(U, "a")]),
        ("### Instruction:\nDo it.\n\n### Response:\n", [(U, "Do it.")]),
        ("Be brief.\n\nHuman: a\n\nAssistant:", [(S, "Be brief."), (U, "a")]),
        ("System: Be brief.\nUser: a\nAI:", [(S, "Be brief."), (U, "a")]),
        ("Human: Tell me", [(U, "Tell me")]),
        ("User\uff1aHi\nAssistant\uff1a", [(U, "Hi")]),
    ],
)
def test_a_dialogue_is_taken_apart(text: str, turns: list[tuple[str, str]]) -> None:
    found = spelled(text)
    assert found is not None
    assert found.unclear is None
    assert [(turn.role, turn.content) for turn in found.turns] == turns


@pytest.mark.parametrize(
    "text",
    [
        "Tell me about the cat.",
        "Which is right?\nA: 3\nB: 4",
        "Q: Which is right?\nA: 3\nB: 4",
        "User: admin\nPassword: hunter2\nWhat is wrong here?",
        "How do I speak to Google Assistant:",
        "Go on:\nUser: hi\nAssistant: hello\nNow write the rest.",
        "The answer:",
        "def f():\n    return {'User': 1}",
        "",
    ],
)
def test_what_is_only_asked_is_no_dialogue(text: str) -> None:
    assert spelled(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Human: a\nAssistant: Sure, ", "ends within an assistant's turn"),
        ("USER: a ASSISTANT: b USER: c ASSISTANT:", "on one line"),
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "begins with '<|im_start|>'"),
        ("Be kind. USER: a ASSISTANT: b USER: c ASSISTANT:", "on one line"),
        ("GPT4 Correct User: Hi<|end_of_turn|>GPT4 Correct Assistant:", "begins with 'GPT4 Correct User:'"),
        ("<s>[INST] Hi [/INST]", "begins with '[INST]'"),
    ],
)
def test_what_cannot_be_taken_apart_says_why(text: str, why: str) -> None:
    found = spelled(text)
    assert found is not None
    assert why in str(found.unclear)


@pytest.mark.parametrize(
    ("roles", "wrong"),
    [
        ([U], None),
        ([S, U, A, U], None),
        ([U, A, T, A, U], None),
        ([U, A, T], None),
        ([], "no turns"),
        ([A], "turn 1: an assistant turn begins the conversation"),
        ([U, U], "turn 2: a user turn follows a user turn"),
        ([U, S, U], "turn 2: a system turn follows a user turn"),
        ([U, A], "ends with an assistant turn, where a reply must be due"),
        ([S], "ends with a system turn"),
        ([U, "robot"], "turn 2 has the role 'robot'"),
    ],
)
def test_the_order_of_roles(roles: list[str], wrong: str | None) -> None:
    found = role_order([Turn(role, "x") for role in roles])
    assert found is None if wrong is None else wrong in str(found)


def test_turns_for_readers() -> None:
    assert labelled([Turn(U, " a "), Turn(A, "b\nc")]) == "User: a\n\nAssistant: b\nc"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Customer: Hi\nAgent:", "Agent"),
        ("Alice: Hi\n\nBob: Ho\n\nAlice: \n", "Alice"),
        ("TITLE: a\nPOST: b\nTL;DR:", "TL;DR"),
        ("Translate this:", None),
        ("Note: one\nList the parts of the following machine, one a line:", None),
        ("Hi", None),
        ("", None),
    ],
)
def test_an_open_label_at_the_end(text: str, label: str | None) -> None:
    assert open_label(text) == label


@pytest.mark.parametrize(
    ("reply", "bare"),
    [
        ("Assistant: yes", " yes"),
        (" \n### ASSISTANT:yes", "yes"),
        ("**Assistant:** yes", " yes"),
        ("Assistants: yes", "Assistants: yes"),
        ("The Assistant: yes", "The Assistant: yes"),
    ],
)
def test_a_reply_without_the_label_that_the_template_writes(reply: str, bare: str) -> None:
    assert without_label(reply) == bare
