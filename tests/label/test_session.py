"""Who is asked what, in which order and with which side first; and what an answer does."""

from collections import Counter
from pathlib import Path

import pytest

from rlhf.core.errors import UserError
from rlhf.label.queue import SECOND_LOOKS
from rlhf.label.session import Session
from rlhf.label.turns import Asked, Said, turns_of
from rlhf.labels.read import read_labels
from rlhf.labels.record import Question

PAIRS = [Question(prompt=f"Question {k}?", a=f"good {k}", b=f"bad {k}") for k in range(30)]


def start(folder: Path, seed: int = 0, overlap: int = 6, pairs: list[Question] = PAIRS) -> Session:
    return Session.start(pairs, folder, seed=seed, overlap=overlap)


def prefers_good(session: Session, name: str) -> bool:
    turn = session.next(name)
    if turn is None:
        return False
    assert session.answer(name, turn.question.id, turn.look, "left" if turn.left == "A" else "right")
    return True


def test_one_person_sees_everything_once_and_ten_answers_again(tmp_path: Path) -> None:
    session = start(tmp_path)
    assert session.progress("ann").left == 30 + SECOND_LOOKS
    count = 0
    while prefers_good(session, "ann"):
        count += 1
        assert session.progress("ann").left == 30 + SECOND_LOOKS - count
    labels = read_labels(tmp_path).answers
    assert Counter(one.look for one in labels) == {1: 30, 2: SECOND_LOOKS}
    assert {one.answer for one in labels} == {"A"}  # the same reply, whichever side it stood on
    assert len({one.prompt for one in labels}) == 30
    assert 5 < sum(one.first == "A" for one in labels if one.look == 1) < 25
    assert session.progress("ann").done == 40


def test_two_people_share_the_overlap_and_divide_the_rest(tmp_path: Path) -> None:
    session = start(tmp_path)
    while any([prefers_good(session, "ann"), prefers_good(session, "ben")]):
        pass
    first = [one for one in read_labels(tmp_path).answers if one.look == 1]
    per_pair = Counter(one.prompt for one in first)
    assert sorted(per_pair.values()) == [1] * 24 + [2] * 6
    sides = {(one.annotator, one.prompt): one.first for one in first}
    both = [prompt for prompt, count in per_pair.items() if count == 2]
    assert any(sides["ann", prompt] != sides["ben", prompt] for prompt in both)


def test_a_restart_at_any_moment_asks_the_same(tmp_path: Path) -> None:
    whole, often = start(tmp_path / "whole"), tmp_path / "often"
    for _ in range(40):
        turn = whole.next("ann")
        session = start(often)
        assert session.next("ann") == turn
        assert turn is not None
        for one in (whole, session):
            assert one.answer("ann", turn.question.id, turn.look, "tie")
    assert start(often).next("ann") is None
    assert (tmp_path / "whole" / "people-ann.jsonl").read_bytes() == (often / "people-ann.jsonl").read_bytes()


def test_undo_shows_the_last_question_again(tmp_path: Path) -> None:
    session = start(tmp_path)
    assert not session.undo("ann")
    first, second = session.next("ann"), None
    assert first is not None
    session.answer("ann", first.question.id, 1, "left")
    second = session.next("ann")
    assert second is not None
    assert second != first
    assert session.undo("ann")
    assert session.next("ann") == first
    session.answer("ann", first.question.id, 1, "both_bad")
    found = read_labels(tmp_path)
    assert [one.answer for one in found.answers] == ["both_bad"]
    assert found.left_out["undone"] == 1
    assert found.left_out["contradicting"] == 0
    assert start(tmp_path).next("ann") == second


def test_an_answer_counts_once(tmp_path: Path) -> None:
    session = start(tmp_path)
    turn = session.next("ann")
    assert turn is not None
    assert session.answer("ann", turn.question.id, 1, "left")
    before = (tmp_path / "people-ann.jsonl").read_bytes()
    assert not session.answer("ann", turn.question.id, 1, "right")  # a second window
    assert (tmp_path / "people-ann.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "question", "look", "said"),
    [
        ("ann", "0" * 16, 1, "left"), ("ann", "", 1, "left"), ("ann", PAIRS[0].id, 3, "left"), ("ann", PAIRS[0].id, 0, "left"),
        ("ann", PAIRS[0].id, 1, "A"), ("ann", PAIRS[0].id, 1, "undo"), ("ann", PAIRS[0].id, 1, ""), ("ann", PAIRS[0].id, 1, "\x1b[2J"),
        ("../ann", PAIRS[0].id, 1, "left"), ("", PAIRS[0].id, 1, "left"), ("a" * 41, PAIRS[0].id, 1, "left"),
    ],
)  # fmt: skip
def test_what_was_not_asked_is_not_written(tmp_path: Path, name: str, question: str, look: int, said: str) -> None:
    with pytest.raises(UserError, match="label: "):
        start(tmp_path / "labels").answer(name, question, look, said)
    assert not (tmp_path / "labels").exists()


def test_pairs_that_cannot_be_asked_about(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pairs to ask about"):
        start(tmp_path, pairs=[])
    with pytest.raises(UserError, match="stands among the pairs twice"):
        start(tmp_path, pairs=[*PAIRS, PAIRS[3]])


def test_the_time_that_is_left_leaves_breaks_out(tmp_path: Path) -> None:
    session = start(tmp_path)
    times = iter([0.0, 10.0, 20.0, 1000.0, 1010.0, 1020.0])
    session.now = lambda: next(times)
    for _ in range(6):
        prefers_good(session, "ann")
    assert session.progress("ann").minutes == pytest.approx((30 + SECOND_LOOKS - 6) * 10 / 60)
    assert session.progress("ben").minutes is None


@pytest.mark.parametrize(
    ("prompt", "turns"),
    [
        ("\n\nHuman: Why?\n\nAssistant:", [("user", "Why?")]), ("Why?", [("user", "Why?")]), (" a\n\nHuman: b", [("user", "a\n\nHuman: b")]),
        ("\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant:", [("user", "a\n\nb"), ("assistant", "c"), ("user", "d")]),
        ("System: s\n\nUser: a\n\nAssistant: b", [("system", "s"), ("user", "a"), ("assistant", "b")]), ("\n\nHuman:", [("user", "")]),
        ("Human: \x1b[2J", [("user", "\\x1b[2J")]),
    ],
)  # fmt: skip
def test_turns_of_a_prompt(prompt: str, turns: list[tuple[str, str]]) -> None:
    assert [(turn.role, turn.content) for turn in turns_of(Question(prompt=prompt, a="", b="x"))] == turns


def test_turns_that_are_known_are_shown_and_not_kept(tmp_path: Path) -> None:
    said = [Said(role="system", content="s"), Said(role="user", content="u")]
    asked = Asked(prompt="<sys>s<u>u", a="x", b="y", conversation=said)
    assert [turn.content for turn in turns_of(asked)] == ["s", "u"]
    session = start(tmp_path, pairs=[asked])
    assert session.answer("ann", asked.id, 1, "left")
    assert [one.prompt for one in read_labels(tmp_path).answers] == ["<sys>s<u>u"]
    with pytest.raises(ValueError, match="ends with a system turn"):
        Asked(prompt="p", a="x", b="y", conversation=said[:1])
