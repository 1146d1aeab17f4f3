"""Best of N and its KL against all draws written out."""

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.models.reward.best_of_n import best, kl_bound, kl_estimate


def kl_by_hand(probabilities: list[float], n: int) -> float:
    """KL(best of n || policy) over a handful of responses, the later the better, by writing out all draws."""
    mass: Counter[int] = Counter()
    for draw in itertools.product(range(len(probabilities)), repeat=n):
        mass[max(draw)] += math.prod(probabilities[i] for i in draw)
    return sum(p * math.log(p / probabilities[i]) for i, p in mass.items())


def test_the_best_is_the_highest_and_the_first_of_equals() -> None:
    assert best("abc", [0.1, 0.3, 0.2]) == "b"
    assert best("abc", [0.3, -1.0, 0.3]) == "a"
    for bad in (([], []), (["a"], [])):
        with pytest.raises(ValueError, match="a score each"):
            best(*bad)


def test_the_bound_by_hand() -> None:
    assert kl_bound(1) == 0
    assert kl_bound(2) == pytest.approx(0.1931472)  # ln 2 - 1/2
    assert kl_bound(4) == pytest.approx(0.6362944)
    assert kl_bound(16) == pytest.approx(1.8350887)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_many_equal_responses_come_near_the_bound_and_few_stay_below(n: int) -> None:
    assert kl_by_hand([1 / 12] * 12, n) == pytest.approx(kl_bound(n), abs=0.12)
    assert kl_by_hand([1 / 2, 1 / 2], n) < kl_bound(n)


@given(st.integers(1, 64), st.floats(-60, 0))
def test_the_estimate_lies_between_0_and_the_bound(n: int, logprob: float) -> None:
    assert -1e-9 <= kl_estimate(n, logprob) <= kl_bound(n) + 1e-9


def test_the_estimate_at_its_ends_and_by_hand() -> None:
    assert kl_estimate(8, -200.0) == pytest.approx(kl_bound(8))
    assert kl_estimate(8, 0.0) == 0
    # n = 2, e = 1/2: 1/4 (ln 2 + ln 1/2 - 1/2) + 3/4 ln(3/2)
    assert kl_estimate(2, math.log(0.5)) == pytest.approx(-0.125 + 0.75 * math.log(1.5))


@pytest.mark.parametrize("n", [2, 4, 6])
def test_its_mean_is_nearer_to_the_kl_written_out_than_the_bound_is(n: int) -> None:
    probabilities = [0.5, 0.2, 0.15, 0.1, 0.05]
    below, mean = 0.0, 0.0
    for p in probabilities:
        mean += ((below + p) ** n - below**n) * kl_estimate(n, math.log(p))
        below += p
    exact = kl_by_hand(probabilities, n)
    assert abs(mean - exact) < abs(kl_bound(n) - exact)
