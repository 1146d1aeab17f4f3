"""Ratings against a published table, values by hand, and simulated tournaments."""

import itertools
import math

import numpy as np
import pytest

from rlhf.measure.ratings import PER_LOGIT, Match, expected_win_rate, ratings

# American League East 1987 (Agresti 2002, Categorical Data Analysis, table 10.10): the row's wins against the column.
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = (
    (0, 7, 9, 7, 7, 9, 11),
    (6, 0, 7, 5, 11, 9, 9),
    (4, 6, 0, 7, 7, 8, 12),
    (6, 8, 6, 0, 6, 7, 10),
    (6, 2, 6, 7, 0, 7, 12),
    (4, 4, 5, 6, 6, 0, 6),
    (2, 4, 1, 3, 1, 7, 0),
)
FITTED = (1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0)  # table 10.11; its standard errors are about 0.3


def season() -> list[Match]:
    numbers = itertools.count()
    return [
        Match(next(numbers), TEAMS[i], TEAMS[j], 1.0)
        for i, j in itertools.permutations(range(7), 2)
        for _ in range(WINS[i][j])
    ]


def test_agrestis_baseball_table() -> None:
    found = ratings(season(), "Baltimore", prior_ties=0)
    for team, logit in zip(TEAMS, FITTED, strict=True):
        assert (found[team].mean - 1000) / PER_LOGIT == pytest.approx(logit, abs=0.005)
    boston = found["Boston"]
    assert boston.low is not None
    assert boston.high is not None
    assert round((boston.high - boston.low) / PER_LOGIT / (2 * 1.96), 1) == 0.3


def test_two_policies_by_hand() -> None:
    # 30 wins and 10 losses: θ = log 3, 400 log10 3 = 190.85 points
    matches = [Match(k, "ppo", "sft", float(k < 30)) for k in range(40)]
    found = ratings(matches, "sft", prior_ties=0)
    assert found["ppo"].mean == pytest.approx(1190.85, abs=0.01)
    assert (found["sft"].mean, found["sft"].low, found["sft"].high) == (1000, 1000, 1000)
    assert expected_win_rate(found["ppo"].mean, 1000) == pytest.approx(0.75)


def test_a_tie_is_half_a_win_each_and_the_order_of_naming_does_not_matter() -> None:
    tied = [Match(0, "a", "b", 0.5), Match(1, "a", "b", 1.0)]
    split = [Match(0, "b", "a", 0.5), Match(1, "b", "a", 0.0)]
    assert ratings(tied, "a")["b"].mean == pytest.approx(ratings(split, "a")["b"].mean)
    # 1.5 wins to .5, and the prior's one tie: 2 to 1
    assert ratings(tied, "a")["b"].mean == pytest.approx(1000 - 400 * math.log10(2))


def test_who_never_lost_is_rated_finitely() -> None:
    found = ratings([Match(k, "a", "b", 1.0) for k in range(20)], "b")
    assert found["a"].mean == pytest.approx(1000 + 400 * math.log10(20.5 / 0.5))


def test_an_indirect_comparison_goes_through_the_third() -> None:
    # a beats b three to one, b beats c three to one: a and c, who never met, stand at odds of nine to one
    matches = [Match(k, "a", "b", float(k < 3)) for k in range(4)]
    matches += [Match(k, "b", "c", float(k < 3)) for k in range(4)]
    found = ratings(matches, "c", prior_ties=0)
    assert expected_win_rate(found["a"].mean, found["c"].mean) == pytest.approx(0.9)


def test_the_interval_is_that_of_a_bootstrap_over_prompts() -> None:
    draws = np.random.Generator(np.random.PCG64(2))
    prompts = [
        [
            Match(k, "a", "b", float(draws.choice([0, 0.5, 1]))),
            Match(k, "b", "c", float(draws.choice([0, 1]))),
        ]
        for k in range(80)
    ]
    found = ratings([one for prompt in prompts for one in prompt], "c", prior_ties=0)["a"]
    again = []
    for _ in range(300):
        drawn = draws.integers(0, 80, 80)
        again.append(ratings([one for k in drawn for one in prompts[k]], "c", prior_ties=0)["a"].mean)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(np.std(again), rel=0.12)


def test_whole_prompts_are_drawn() -> None:
    """Ten copies of each prompt's comparison are no ten prompts: the interval must not shrink."""
    once = [Match(k, "a", "b", float(k % 3 > 0)) for k in range(60)]
    widths = []
    for copies in (1, 10):
        interval = ratings(once * copies, "b", prior_ties=0)["a"]
        assert interval.low is not None
        assert interval.high is not None
        widths.append(interval.high - interval.low)
    assert widths[0] == pytest.approx(widths[1])


@pytest.mark.parametrize(
    ("matches", "message"),
    [
        ([], "no comparison with 'a'; found none"),
        ([Match(0, "b", "c", 1.0)], "no comparison with 'a'; found b, c"),
        ([Match(0, "a", "b", 1.0), Match(0, "c", "d", 1.0)], "groups: a, b; c, d"),
        ([Match(0, "a", "b", 1.5)], "an outcome from 0 to 1"),
        ([Match(0, "a", "a", 0.5), Match(0, "a", "b", 0.5)], "two policies"),
    ],
)
def test_nonsense_is_refused(matches: list[Match], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ratings(matches, "a")


@pytest.mark.parametrize(
    ("trials", "lowest", "highest"), [(300, 0.91, 0.99), pytest.param(2000, 0.93, 0.97, marks=pytest.mark.thorough)]
)
def test_its_intervals_hold_the_truth_in_95_percent_of_evaluations(trials: int, lowest: float, highest: float) -> None:
    strength = {"base": -1.0, "ppo": 0.6, "sft": 0.0}
    draws = np.random.Generator(np.random.PCG64(5))
    pairs = list(itertools.combinations(strength, 2))
    held = np.zeros(2)
    for _ in range(trials):
        uniform = draws.random((100, 3))
        matches = [
            Match(prompt, a, b, float(uniform[prompt, k] < 1 / (1 + math.exp(strength[b] - strength[a]))))
            for prompt in range(100)
            for k, (a, b) in enumerate(pairs)
        ]
        found = ratings(matches, "sft")
        for k, name in enumerate(("base", "ppo")):
            low, high = found[name].low, found[name].high
            assert low is not None
            assert high is not None
            held[k] += low <= 1000 + PER_LOGIT * strength[name] <= high
    assert ((held / trials >= lowest) & (held / trials <= highest)).all(), held / trials
