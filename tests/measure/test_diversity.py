import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.measure.diversity import compression_ratio, distinct, ngrams, repetition, words


def test_words() -> None:
    assert words(" Don't stop, OK? ") == ["don't", "stop", ",", "ok", "?"]
    assert words("") == []


def test_distinct_by_hand() -> None:
    # words: the cat the dog | the cat -> 3 of 6; pairs: the-cat cat-the the-dog | the-cat -> 3 of 4
    responses = ["the cat the dog", "The cat"]
    assert distinct(responses, 1) == 0.5
    assert distinct(responses, 2) == 0.75
    assert distinct(["", "a"], 2) is None


def test_repetition_by_hand() -> None:
    assert repetition("a b c a b c") == pytest.approx(1 / 4)  # abc bca cab abc
    assert repetition("x x x x x") == pytest.approx(2 / 3)
    assert repetition("a b c d") == 0
    assert repetition("a b") == 0


def test_compression_ratio_by_hand() -> None:
    assert compression_ratio(["abab", "abab"]) == 9 / len(zlib.compress(b"abab\nabab", 9))
    assert compression_ratio(["", " "]) is None
    alike = compression_ratio(["I am sorry, I do not know that."] * 50)
    varied = compression_ratio([f"Answer {k * 7919 % 1009} is {k**3}" for k in range(50)])
    assert alike is not None
    assert varied is not None
    assert alike > 10
    assert varied < 4


@given(st.lists(st.text("ab ", max_size=12), max_size=8))
def test_bounds(responses: list[str]) -> None:
    for n in (1, 2):
        found = distinct(responses, n)
        assert found is None or 0 < found <= 1
    assert all(0 <= repetition(response) < 1 for response in responses)


def test_a_lone_surrogate_does_not_crash() -> None:
    assert compression_ratio(["\ud800 text"]) is not None


def test_ngrams() -> None:
    assert list(ngrams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
    assert list(ngrams(["a"], 2)) == []
