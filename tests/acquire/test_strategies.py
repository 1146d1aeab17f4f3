"""Each strategy against brute force on small pools."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.acquire.strategies import STRATEGIES, Pool, choose


def pool(n: int, seed: int, *, width: int = 4, known: int = 0, prompts: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    leads = rng.normal(size=n) * 2
    names = [f"p{k % prompts if prompts else k}" for k in range(n)]
    members = leads[:, None] + rng.normal(size=(n, 3))
    before = np.column_stack((rng.normal(size=(known, width)), rng.normal(size=known)))
    return Pool(names, leads, members, rng.normal(size=(n, width)), before)


def asked(name: str, of: Pool, count: int, *, seed: int = 0, ridge: float = 0.5, per_prompt: int = 0) -> list[int]:
    return choose(name, of, count, np.random.default_rng(seed), ridge=ridge, per_prompt=per_prompt)


def log_det(of: Pool, chosen: list[int], ridge: float) -> float:
    """Of the information matrix of these pairs and of the known ones, summed pair by pair."""
    matrix = ridge * np.eye(of.differences.shape[1])
    rows = [(of.differences[k], of.leads[k]) for k in chosen] + [(row[:-1], row[-1]) for row in of.known]
    for x, lead in rows:
        matrix = matrix + np.outer(x, x) / (2 + np.exp(lead) + np.exp(-lead))  # p (1 - p)
    sign, value = np.linalg.slogdet(matrix)
    assert sign > 0
    return float(value)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("known", [0, 6])
def test_d_optimal_is_greedy_in_log_det(seed: int, known: int) -> None:
    of = pool(12, seed, known=known)
    by_hand: list[int] = []
    for _ in range(7):
        left = [k for k in range(12) if k not in by_hand]
        by_hand.append(max(left, key=lambda k: log_det(of, [*by_hand, k], 0.5)))
    assert asked("d_optimal", of, 7) == by_hand


def test_d_optimal_is_near_the_best_of_all_sets() -> None:
    """A greedy choice reaches 1 - 1/e of the most that any set gains (Nemhauser et al. 1978)."""
    of = pool(9, 3)
    nothing = log_det(of, [], 0.5)
    best = max(log_det(of, list(chosen), 0.5) for chosen in combinations(range(9), 4)) - nothing
    assert log_det(of, asked("d_optimal", of, 4), 0.5) - nothing >= (1 - 1 / np.e) * best


def test_d_optimal_asks_no_pair_like_those_it_has() -> None:
    """Two directions, one of them in many copies and known well: the other comes first, then no two copies in a row
    would tell more than a weaker new direction."""
    x = np.array([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [0, 0.9, 0], [0, 0, 0.8]])
    of = Pool(list("abcde"), np.zeros(5), np.zeros((5, 1)), x, np.empty((0, 4)))
    assert set(asked("d_optimal", of, 3, ridge=0.01)[1:]) == {3, 4}
    known = Pool(list("abcde"), np.zeros(5), np.zeros((5, 1)), x, np.array([[1.0, 0, 0, 0]] * 20))
    assert asked("d_optimal", known, 2, ridge=0.01) == [3, 4]
    sure = Pool(list("abcde"), np.array([0, 0, 0, 9.0, 9.0]), np.zeros((5, 1)), x, np.empty((0, 4)))
    assert asked("d_optimal", sure, 1)[0] in (0, 1, 2)  # a label that is known before tells nothing


def test_margin_asks_what_is_least_sure() -> None:
    of = Pool(list("abcd"), np.array([3.0, -0.1, 0.5, -2.0]), np.zeros((4, 1)), np.zeros((4, 1)), np.empty((0, 2)))
    assert asked("margin", of, 4) == [1, 2, 3, 0]


def test_ensemble_asks_where_probabilities_differ_most() -> None:
    # Probabilities: .5 .5 | .95 .05 | nearly 1 both, though their leads are far apart | .62 .38
    members = np.array([[0.0, 0.0], [3.0, -3.0], [8.0, 16.0], [0.5, -0.5]])
    of = Pool(list("abcd"), members.mean(1), members, np.zeros((4, 1)), np.empty((0, 2)))
    assert asked("ensemble", of, 4)[:3] == [1, 3, 2]


def test_random_is_every_pair_equally_often() -> None:
    of, first = pool(4, 0), Counter[int]()
    for seed in range(400):
        first[asked("random", of, 1, seed=seed)[0]] += 1
    assert all(70 <= first[k] <= 130 for k in range(4))  # 100 expected, deviation 8.7


@given(st.sampled_from(sorted(STRATEGIES)), st.integers(1, 30), st.integers(0, 3), st.integers(0, 5))
def test_what_all_have_in_common(name: str, count: int, per_prompt: int, seed: int) -> None:
    of = pool(20, seed, prompts=7, known=3)
    found = asked(name, of, count, seed=seed, per_prompt=per_prompt)
    most = sum(min(per_prompt or 20, 3 if k < 6 else 2) for k in range(7))  # 20 pairs of 7 prompts
    assert len(found) == len(set(found)) == min(count, most)
    if per_prompt:
        assert max(Counter(of.prompts[k] for k in found).values()) <= per_prompt
    assert found == asked(name, of, count, seed=seed, per_prompt=per_prompt)
    assert asked(name, of, 1, seed=seed, per_prompt=per_prompt) == found[:1]


def test_a_capped_prompt_adds_no_information() -> None:
    """Pairs that the cap leaves out do not count as asked."""
    of = pool(12, 5, prompts=3)
    found = asked("d_optimal", of, 3, per_prompt=1)
    by_hand: list[int] = []
    for _ in range(3):
        left = [k for k in range(12) if of.prompts[k] not in {of.prompts[j] for j in by_hand}]
        by_hand.append(max(left, key=lambda k: log_det(of, [*by_hand, k], 0.5)))
    assert found == by_hand


def test_ties_are_drawn_and_not_by_place() -> None:
    same = Pool(list("abcdefgh"), np.zeros(8), np.zeros((8, 2)), np.ones((8, 2)), np.empty((0, 3)))
    for name in ("margin", "ensemble", "d_optimal"):
        assert len({asked(name, same, 1, seed=seed)[0] for seed in range(20)}) > 2
