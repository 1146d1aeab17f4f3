"""Intervals: published tables, values by hand, brute force, and how often they hold the truth."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core import stats
from rlhf.core.stats import Interval

TRIALS = pytest.mark.parametrize(
    ("trials", "low", "high"), [(300, 0.91, 0.99), pytest.param(2000, 0.93, 0.97, marks=pytest.mark.thorough)]
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 (score), 95 %.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_the_published_table(successes: int, n: int, low: float, high: float) -> None:
    interval = stats.wilson(successes, n)
    assert interval.mean == pytest.approx(successes / n)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_wilson_refuses_nonsense() -> None:
    for successes, n in [(1, 0), (-1, 3), (4, 3)]:
        with pytest.raises(ValueError, match="a rate needs"):
            stats.wilson(successes, n)


def test_mean_interval_by_hand() -> None:
    # mean 3, s = sqrt(2.5), t(.975, 4) = 2.776445 (any table): half width 2.776445 * sqrt(2.5 / 5) = 1.963243
    interval = stats.mean_interval([1, 2, 3, 4, 5])
    assert (interval.mean, interval.low, interval.high) == pytest.approx((3, 3 - 1.963243, 3 + 1.963243), abs=1e-5)
    assert stats.mean_interval([2.0]) == stats.Interval(2.0, None, None)
    assert stats.Interval(2.0, None, None).named("x") == {"x": 2.0, "x_low": None, "x_high": None}


def test_paired_difference_of_equal_things_is_zero_wide() -> None:
    interval = stats.paired_difference([1.0, 2.0, 5.0], [1.0, 2.0, 5.0], 0)
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)
    with pytest.raises(ValueError, match="equal, non-empty"):
        stats.paired_difference([1.0], [1.0, 2.0], 0)


OUTCOMES = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=40)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_without_ties_the_tied_rate_is_wilson(outcomes: list[float]) -> None:
    tied, plain = stats.tied_rate(outcomes), stats.wilson(sum(outcomes), len(outcomes))
    for a, b in ((tied.mean, plain.mean), (tied.low, plain.low), (tied.high, plain.high)):
        assert a == pytest.approx(b, abs=1e-8)


def test_only_ties_by_hand() -> None:
    # No win and no loss among n: p_loss = 0 is most likely for a difference d > 0, so its variance is d - d² and
    # d² = z²/n (d - d²) gives d = z² / (n + z²): the win rate is .5 ± 3.841459 / (2 * 103.841459)
    interval = stats.tied_rate([0.5] * 100)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 0.481503, 0.518497), abs=1e-6)


def most_likely_variance(difference: float, wins: int, losses: int, n: int) -> float:
    """Brute force: the trinomial with this difference under which the counts are most likely, on a fine grid."""
    q = np.linspace(max(0.0, -difference), (1 - difference) / 2, 200_001)[1:-1]
    ties = n - wins - losses
    log_likelihood = wins * np.log(q + difference) + losses * np.log(q) + ties * np.log(1 - 2 * q - difference)
    best = q[np.argmax(log_likelihood)]
    return float(2 * best + difference - difference**2)


@pytest.mark.parametrize(("wins", "losses", "n"), [(12, 2, 50), (40, 20, 160), (3, 9, 15), (1, 0, 30)])
def test_the_ends_of_the_tied_rate_are_where_the_score_test_turns(wins: int, losses: int, n: int) -> None:
    interval = stats.tied_rate([1.0] * wins + [0.0] * losses + [0.5] * (n - wins - losses))
    for end in (interval.low, interval.high):
        assert end is not None
        difference = 2 * end - 1
        z = ((wins - losses) / n - difference) / math.sqrt(most_likely_variance(difference, wins, losses, n) / n)
        assert abs(z) == pytest.approx(1.959964, abs=2e-3)


@given(OUTCOMES)
def test_the_other_side_of_a_tied_rate_is_its_mirror_image(outcomes: list[float]) -> None:
    here, there = stats.tied_rate(outcomes), stats.tied_rate([1 - x for x in outcomes])
    assert here.low is not None
    assert here.high is not None
    assert 0 <= here.low <= here.mean <= here.high <= 1
    assert (1 - here.mean, 1 - here.high, 1 - here.low) == pytest.approx((there.mean, there.low, there.high), abs=1e-7)


@pytest.mark.parametrize("outcomes", [[], [0.25], [1.0, 2.0]])
def test_a_tied_rate_of_anything_else_is_refused(outcomes: list[float]) -> None:
    with pytest.raises(ValueError, match=r"0, 0\.5 and 1"):
        stats.tied_rate(outcomes)


def test_a_bootstrap_of_the_mean_is_the_paired_difference() -> None:
    draws = np.random.Generator(np.random.PCG64(3))
    a, b = draws.normal(1, 1, 60).tolist(), draws.normal(0, 1, 60).tolist()

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    general = stats.bootstrap_difference(mean, a, b, 0, resamples=4000)
    fast = stats.paired_difference(a, b, 0, resamples=4000)
    assert general.mean == pytest.approx(fast.mean)
    assert (general.low, general.high) == pytest.approx((fast.low, fast.high), abs=0.04)


def test_a_bootstrap_draws_both_sides_together() -> None:
    prompts = [float(k) for k in range(50)]
    interval = stats.bootstrap_difference(max, [x + 0.5 for x in prompts], prompts, 1)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)
    assert stats.bootstrap_difference(max, [3.0], [1.0], 0) == Interval(2.0, None, None)
    with pytest.raises(ValueError, match="equal, non-empty"):
        stats.bootstrap_difference(max, [1.0], [], 0)


Made = Callable[[np.random.Generator], tuple[Interval, float]]


def a_rate(p: float, n: int) -> Made:
    return lambda draws: (stats.wilson(int(draws.binomial(n, p)), n), p)


def a_tied_rate(win: float, tie: float, n: int) -> Made:
    def made(draws: np.random.Generator) -> tuple[Interval, float]:
        outcomes = draws.choice([1.0, 0.5, 0.0], n, p=[win, tie, 1 - win - tie]).tolist()
        return stats.tied_rate(outcomes), win + tie / 2

    return made


def a_mean(n: int) -> Made:
    return lambda draws: (stats.mean_interval(draws.normal(1.0, 2.0, n).tolist()), 1.0)


def lengths(n: int) -> Made:  # skewed, as lengths are
    return lambda draws: (stats.mean_interval(draws.gamma(4.0, 5.0, n).tolist()), 20.0)


def a_difference(n: int) -> Made:
    def made(draws: np.random.Generator) -> tuple[Interval, float]:
        prompt = draws.normal(0, 2, n)  # what both policies share
        a, b = prompt + draws.normal(1.0, 1.5, n), prompt + draws.gamma(2.0, 0.2, n)
        return stats.paired_difference(a.tolist(), b.tolist(), int(draws.integers(1 << 30)), resamples=1000), 0.6

    return made


KINDS: dict[str, Made] = {
    "rate": a_rate(0.653, 600),
    "rate of few": a_rate(0.3, 60),
    "rate with ties": a_tied_rate(0.5, 0.25, 600),
    "rate with many ties of few": a_tied_rate(0.3, 0.5, 60),
    "mean": a_mean(80),
    "mean of skewed": lengths(200),
    "paired difference": a_difference(100),
}


def coverage(made: Made, trials: int, seed: int = 7) -> float:
    draws = np.random.Generator(np.random.PCG64(seed))
    held = 0
    for _ in range(trials):
        interval, truth = made(draws)
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= truth <= interval.high
    return held / trials


@TRIALS
@pytest.mark.parametrize("kind", KINDS)
def test_95_percent_intervals_hold_the_truth_in_95_percent_of_evaluations(
    kind: str, trials: int, low: float, high: float
) -> None:
    """Three standard errors of a share of .95 are .038 of 300 trials; 2,000 have room for less."""
    assert low <= coverage(KINDS[kind], trials) <= high


def test_wilson_with_half_successes_holds_it_too_often_where_ties_are_many() -> None:
    """Why `tied_rate` is there: the interval is honest, but wider than it need be."""

    def half_successes(draws: np.random.Generator) -> tuple[Interval, float]:
        wins, ties, _ = draws.multinomial(200, [0.3, 0.5, 0.2])
        return stats.wilson(wins + ties / 2, 200), 0.55

    assert coverage(half_successes, 2000) > 0.98
