"""The projection's arithmetic, by hand."""

import pytest

from benchmarks.projection import BETWEEN, LATENCY_S, WITHIN, Model, Work, project, table

ONE = Model("one", 1e9, 1e6)
STEP = Work(episodes=64, prompt=10, response=10, passes=2, minibatches=3)


def test_one_card_only_computes() -> None:
    found = project(ONE, STEP, 1, speed=1e12, divided=0.9)
    assert found.computing == pytest.approx(2 * 1e9 * 64 * 20 * (1 + 2 + 6) / 1e12)
    assert (found.sending, found.sent) == (0.0, 0.0)


def test_cards_divide_their_share_and_send_a_level_of_the_tree_for_each_doubling() -> None:
    alone = project(ONE, STEP, 1, speed=1e12, divided=0.9).seconds
    eight = project(ONE, STEP, 8, speed=1e12, divided=0.9)
    assert eight.computing == pytest.approx(alone * (0.1 + 0.9 / 8))
    rollout = 64 * 10 * 7 * 8 * 7 / 8
    assert eight.sending == pytest.approx(6 * 3 * (4e6 / WITHIN + LATENCY_S[WITHIN]) + rollout / WITHIN)
    assert eight.sent == pytest.approx(6 * 3 * 4e6 + rollout / 8)
    many = project(ONE, STEP, 32, speed=1e12, divided=0.9)
    levels = 3 * (4e6 / WITHIN + LATENCY_S[WITHIN]) + 2 * (4e6 / BETWEEN + LATENCY_S[BETWEEN])
    assert many.sending == pytest.approx(6 * levels + 64 * 10 * 7 * 8 * 31 / 32 / BETWEEN)


def test_it_says_that_it_is_a_projection() -> None:
    text = table([ONE], STEP, speed=1e12, divided=0.9)
    assert text.startswith("A projection:")
    assert "| one | 23 s | " in text
    assert "4 x 8" in text
