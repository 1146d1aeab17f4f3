"""Length-controlled win rates on simulated judges whose taste for length and quality is known."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rlhf.measure.length_controlled import length_controlled_win_rate
from rlhf.measure.winrate import win_rate


def judged(
    draws: np.random.Generator, n: int, *, quality: float, length: float, longer_by: float = 40.0, ties: float = 0.0
) -> tuple[list[float], list[float], list[float]]:
    """Outcomes and lengths where the log odds of a win are quality + length * tanh(scaled difference in length).

    Ties take an equal part of wins and losses, so that the mean outcome stays what it was.
    """
    lengths, others = draws.normal(100 + longer_by, 30, n), draws.normal(100, 30, n)
    scale = np.hypot(30, 30)  # the true standard deviation of the difference
    p = 1 / (1 + np.exp(-quality - length * np.tanh((lengths - others) / scale)))
    tied = ties * 2 * np.minimum(p, 1 - p)
    uniform = draws.random(n)
    outcomes = np.where(uniform < p - tied / 2, 1.0, np.where(uniform < p + tied / 2, 0.5, 0.0))
    return outcomes.tolist(), lengths.tolist(), others.tolist()


def rate(quality: float) -> float:
    return float(1 / (1 + np.exp(-quality)))


@pytest.mark.parametrize("quality", [-0.8, 0.0, 0.5])
def test_it_finds_the_quality_and_leaves_the_length_out(quality: float) -> None:
    made = judged(np.random.Generator(np.random.PCG64(0)), 40_000, quality=quality, length=1.5)
    assert length_controlled_win_rate(*made).mean == pytest.approx(rate(quality), abs=0.012)
    assert win_rate(made[0]).mean > rate(quality) + 0.1  # the plain rate is flattered by the longer responses


def test_without_a_taste_for_length_it_is_the_plain_win_rate() -> None:
    made = judged(np.random.Generator(np.random.PCG64(1)), 20_000, quality=0.4, length=0.0)
    assert length_controlled_win_rate(*made).mean == pytest.approx(win_rate(made[0]).mean, abs=0.01)


def test_by_hand() -> None:
    # Differences in length of ±1 with standard deviation 1: x = ±tanh 1. Three of four won where longer, one of four
    # where shorter: the logits ±log 3 are symmetrical, so at equal length it is one half whatever the slope.
    lengths, others = [2.0] * 4 + [1.0] * 4, [1.0] * 4 + [2.0] * 4
    assert length_controlled_win_rate([1, 1, 1, 0, 1, 0, 0, 0], lengths, others).mean == pytest.approx(0.5)


def test_equal_lengths_by_hand() -> None:
    # No length term: θ is the log odds of the mean outcome with the one tie of the prior: (7 + .5) / (10 + 1)
    interval = length_controlled_win_rate([1.0] * 7 + [0.0] * 3, [5.0] * 10, [5.0] * 10)
    assert interval.mean == pytest.approx(7.5 / 11)


@pytest.mark.parametrize("ties", [0.0, 0.6])
def test_swapping_the_policies_mirrors_it(ties: float) -> None:
    outcomes, a, b = judged(np.random.Generator(np.random.PCG64(2)), 300, quality=0.3, length=1.0, ties=ties)
    here = length_controlled_win_rate(outcomes, a, b)
    there = length_controlled_win_rate([1 - y for y in outcomes], b, a)
    assert here.low is not None
    assert here.high is not None
    assert (there.mean, there.low, there.high) == pytest.approx((1 - here.mean, 1 - here.high, 1 - here.low), abs=1e-7)


def test_the_unit_of_length_does_not_matter() -> None:
    outcomes, a, b = judged(np.random.Generator(np.random.PCG64(3)), 200, quality=0.3, length=1.0)
    scaled = length_controlled_win_rate(outcomes, [7 * x for x in a], [7 * x for x in b])
    assert scaled.mean == pytest.approx(length_controlled_win_rate(outcomes, a, b).mean)


def test_a_policy_against_itself_gets_one_half() -> None:
    interval = length_controlled_win_rate([0.5] * 20, [3.0] * 20, [3.0] * 20)
    assert interval.mean == pytest.approx(0.5)


def test_everything_won_and_length_that_decides_everything_stay_finite() -> None:
    won = length_controlled_win_rate([1.0] * 50, list(range(50)), [10.0] * 50)
    assert won.low is not None
    assert won.high is not None
    assert 0.8 < won.low < won.mean < won.high < 1
    longer_wins = length_controlled_win_rate([1.0] * 30 + [0.0] * 30, [9.0] * 30 + [1.0] * 30, [5.0] * 60)
    assert longer_wins.mean == pytest.approx(0.5)
    one = length_controlled_win_rate([1.0], [4.0], [2.0])
    assert 0.5 < one.mean < 1


@example([(0.0, 0, 2), (1.0, 0, 3)])  # the two length terms are nearly the same
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 99), st.integers(0, 99)), min_size=1))
def test_any_evaluation_gives_a_rate_within_its_interval(rows: list[tuple[float, int, int]]) -> None:
    interval = length_controlled_win_rate([y for y, _, _ in rows], [a for _, a, _ in rows], [b for _, _, b in rows])
    assert interval.low is not None
    assert interval.high is not None
    assert 0 <= interval.low <= interval.mean <= interval.high <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([], [], []), "non-empty"), (([1.0], [1.0], []), "got 1, 1 and 0"), (([1.5], [1.0], [1.0]), "between 0 and 1")],
)
def test_nonsense_is_refused(arguments: tuple[list[float], list[float], list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        length_controlled_win_rate(*arguments)


@pytest.mark.parametrize(
    ("trials", "low", "high"), [(300, 0.91, 0.99), pytest.param(2000, 0.93, 0.97, marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("ties", [0.0, 0.5])
def test_its_interval_holds_the_truth_in_95_percent_of_evaluations(
    ties: float, trials: int, low: float, high: float
) -> None:
    draws = np.random.Generator(np.random.PCG64(11))
    held = 0
    for _ in range(trials):
        interval = length_controlled_win_rate(*judged(draws, 200, quality=0.5, length=1.0, ties=ties))
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= rate(0.5) <= interval.high
    assert low <= held / trials <= high
