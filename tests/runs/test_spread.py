"""The rule and its error rates, beside intervals worked out elsewhere and beside simulation."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import betaincinv

from rlhf.runs.headlines import SEEDS
from rlhf.runs.spread import exact_rate, judge, largest_change, left_out

VALUES = [10.0, 12.0, 11.0, 9.0, 13.0]  # mean 11, s^2 = 2.5


def test_one_number_by_hand() -> None:
    # Student's quantile with 4 degrees of freedom at .975 is 2.776 (any table of t); 2.776 * sqrt(2.5 * 1.2) = 4.808
    (one,) = judge({"kl": 15.8}, {"kl": VALUES})
    assert (one.low, one.high) == (pytest.approx(11 - 4.808, abs=2e-3), pytest.approx(11 + 4.808, abs=2e-3))
    assert one.within
    assert not judge({"kl": 15.82}, {"kl": VALUES})[0].within
    assert not judge({}, {"kl": VALUES})[0].within  # a number that is not there is not what another seed gives
    assert not judge({"kl": None}, {"kl": VALUES})[0].within


def test_more_numbers_make_each_interval_wider() -> None:
    # .05 / 2 in two tails is .9875: 3.495 with 4 degrees of freedom
    one, _ = judge({"kl": 11.0}, {"kl": VALUES, "gold": VALUES})
    assert one.high - 11 == pytest.approx(3.495 * (2.5 * 1.2) ** 0.5, abs=3e-3)


def test_the_change_between_two_runs_by_hand() -> None:
    assert largest_change(VALUES, 1) == pytest.approx(2.776 * (2.5 * 2) ** 0.5, abs=2e-3)


def test_a_number_that_no_seed_changes_may_not_change() -> None:
    columns = {"parameters": [831.5] * SEEDS}
    assert judge({"parameters": 831.5}, columns)[0].within
    assert not judge({"parameters": 831.6}, columns)[0].within


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_a_run_like_the_tables_is_called_different_in_five_of_a_hundred_cases_at_most(correlation: float) -> None:
    numbers, trials = 6, 1500
    rng = np.random.default_rng(7)
    covariance = np.full((numbers, numbers), correlation) + (1 - correlation) * np.eye(numbers)
    draws = rng.multivariate_normal(np.zeros(numbers), covariance, (trials, SEEDS + 1))
    outside = 0
    for trial in draws:
        columns = {str(k): trial[:-1, k].tolist() for k in range(numbers)}
        outside += not all(one.within for one in judge({str(k): float(trial[-1, k]) for k in range(numbers)}, columns))
    low, high = stats.binomtest(outside, trials).proportion_ci(0.999)
    assert low <= 0.05  # at most the level, beyond what this many trials can tell
    if correlation == 0.0:
        assert high >= 0.04  # and close to it where numbers do not hang together


def test_a_shift_of_one_number_is_seen() -> None:
    rng = np.random.default_rng(1)
    columns = {str(k): rng.normal(size=SEEDS).tolist() for k in range(8)}
    found = {name: float(np.mean(values)) for name, values in columns.items()}
    assert all(one.within for one in judge(found, columns))
    assert [one.name for one in judge(found | {"3": 6.0}, columns) if not one.within] == ["3"]


def test_two_runs_of_one_kind_differ_by_more_in_five_of_a_hundred_cases() -> None:
    rng = np.random.default_rng(3)
    trials = 3000
    draws = rng.normal(5, 2, (trials, SEEDS + 2))
    more = sum(abs(row[-1] - row[-2]) > largest_change(row[:-2].tolist(), 1) for row in draws)
    low, high = stats.binomtest(int(more), trials).proportion_ci(0.999)
    assert low <= 0.05 <= high


def test_leaving_one_out_by_hand() -> None:
    calm = [1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 0.98]
    assert left_out({"kl": calm})[:2] == (0, 8)
    outside, count, share = left_out({"kl": [*calm, 9.0]})  # the wild one, and no other: it widens their intervals
    assert (outside, count) == (1, 9)
    assert (share.low, share.high) == exact_ends(1, 9)
    with pytest.raises(ValueError, match="three"):
        left_out({"kl": [1.0, 2.0]})
    with pytest.raises(ValueError, match="three"):
        left_out({})


def exact_ends(successes: int, n: int) -> tuple[float, float]:
    """By the inverse of the incomplete beta function (Clopper and Pearson's tails as beta quantiles)."""
    low = 0.0 if successes == 0 else betaincinv(successes, n - successes + 1, 0.025)
    high = 1.0 if successes == n else betaincinv(successes + 1, n - successes, 0.975)
    return pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (1, 20), (4, 20), (20, 20), (3, 7)])
def test_the_exact_interval(successes: int, n: int) -> None:
    found = exact_rate(successes, n)
    assert (found.low, found.high) == exact_ends(successes, n)
    assert found.mean == successes / n
