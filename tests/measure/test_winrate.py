import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.measure.winrate import outcomes, win_rate

SCORES = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=30)


def test_ties_count_half() -> None:
    found = outcomes([1.0, 2.0, 3.0, 0.5], [0.0, 2.0, 4.0, 0.5 + 1e-9])
    assert found == [1.0, 0.5, 0.0, 0.5]
    assert win_rate(found).mean == 0.5


def test_of_half_won() -> None:
    # n = 100, no ties, rate .5: centre .5, half width 1.96 / 1.038416 * sqrt(.0025 + .000096) = .0962 (Wilson)
    interval = win_rate([1.0] * 50 + [0.0] * 50)
    assert (interval.low, interval.high) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    # with 20 ties the score test of a difference of 0 has variance .8 / 100: narrower by about sqrt(.8)
    tied = win_rate([1.0] * 40 + [0.0] * 40 + [0.5] * 20)
    assert tied.mean == 0.5
    assert tied.high == pytest.approx(0.5 + 0.0962 * 0.8**0.5, abs=0.003)


@given(SCORES)
def test_both_sides_sum_to_one(pairs: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    assert win_rate(outcomes(a, b)).mean + win_rate(outcomes(b, a)).mean == pytest.approx(1)
    assert win_rate(outcomes(a, a)).mean == 0.5


@given(SCORES)
def test_any_increasing_scale_gives_the_same_verdicts(pairs: list[tuple[float, float]]) -> None:
    a, b = [round(x) for x, _ in pairs], [round(y) for _, y in pairs]
    assert outcomes(a, b) == outcomes([3 * x + 7 for x in a], [3 * y + 7 for y in b])


def test_one_prompt_gives_a_wide_interval_and_none_is_an_error() -> None:
    interval = win_rate([1.0])
    assert interval.mean == 1
    assert interval.low == pytest.approx(0.2065, abs=1e-4)  # 1 / (1 + 1.96²)
    with pytest.raises(ValueError, match="at least one; got 0"):
        win_rate([])
    with pytest.raises(ValueError, match="zip"):
        outcomes([1.0], [])
