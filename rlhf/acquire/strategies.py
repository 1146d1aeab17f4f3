"""Choose which pairs to ask about, of many that could be asked: one interface, a strategy a function.

A strategy ranks; `choose` takes at most so many pairs of one prompt, since pairs of one prompt tell much the same.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pool:
    """N pairs that could be asked about.

    Axes: N pairs, K heads, D features. All in float64.
    """

    prompts: Sequence[str]  # of each pair
    leads: Array  # (N,) reward of reply A less that of B by the current reward model, in logits
    members: Array  # (N, K) the same by each head of an ensemble
    differences: Array  # (N, D) features of A less those of B, as the linear head reads them
    known: Array  # (M, D + 1) differences of the pairs that are labelled already, and the lead of each

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.leads)


Ranking = Iterator[int]
# (pool, draws, ridge) -> indices of all pairs, the one to ask first first. `taken` is told of each that was asked.
Strategy = Callable[[Pool, np.random.Generator, float], "Ranked"]


class Ranked:
    """Indices of pairs in the order in which they should be asked. By default an order that is fixed from the start."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = order

    def __iter__(self) -> Ranking:
        """Yield each index once."""
        return iter(self._order)

    def take(self, index: int) -> None:
        """Note that a pair is asked about."""


def random(pool: Pool, draws: np.random.Generator, ridge: float) -> Ranked:
    """Any pair as soon as any other: the baseline that the others have to beat."""
    return Ranked(draws.permutation(len(pool)).tolist())


def margin(pool: Pool, draws: np.random.Generator, ridge: float) -> Ranked:
    """Pairs whose winner the reward model is least sure of: p nearest to one half (uncertainty sampling, Lewis & Gale
    1994). Ties by the draw."""
    return _largest(-np.abs(pool.leads), draws)


def ensemble(pool: Pool, draws: np.random.Generator, ridge: float) -> Ranked:
    """Pairs on which the heads of an ensemble differ most: the variance of their probabilities (Christiano et al. 2017,
    arXiv 1706.03741, section 2.2.4). Ties by the draw."""
    return _largest(_sigmoid(pool.members).var(axis=1), draws)


def d_optimal(pool: Pool, draws: np.random.Generator, ridge: float) -> Ranked:
    """Pairs that tell most about the head's weights together: greedily those that raise log det of the information
    matrix ridge I + sum p (1 - p) x x' most, x the difference of features and p the current probability (arXiv
    2502.04354, section 3; D-optimal design). What is labelled already is in the sum from the start."""
    return _Greedy(pool, draws, ridge)


STRATEGIES: Mapping[str, Strategy] = {
    "random": random, "margin": margin, "ensemble": ensemble, "d_optimal": d_optimal,
}  # fmt: skip


def choose(
    name: str, pool: Pool, count: int, draws: np.random.Generator, *, ridge: float, per_prompt: int
) -> list[int]:
    """Choose at most `count` pairs, at most `per_prompt` of one prompt (0: any number), in the order of asking."""
    ranked, asked = STRATEGIES[name](pool, draws, ridge), Counter[str]()

    def allowed() -> Iterator[int]:
        for index in ranked:
            prompt = pool.prompts[index]
            if not per_prompt or asked[prompt] < per_prompt:
                asked[prompt] += 1
                ranked.take(index)
                yield index

    return list(islice(allowed(), count))


class _Greedy(Ranked):
    """The greedy order: log det(A + w x x') - log det A = log(1 + w x' A^-1 x) (matrix determinant lemma), A^-1 kept by
    Sherman & Morrison 1950."""

    def __init__(self, pool: Pool, draws: np.random.Generator, ridge: float) -> None:
        self._x, self._weights = pool.differences, information(pool.leads)
        known, leads = pool.known[:, :-1], pool.known[:, -1]
        start = ridge * np.eye(self._x.shape[1]) + (known * information(leads)[:, None]).T @ known
        self._inverse = np.linalg.inv(start)
        self._spread = np.einsum("nd,de,ne->n", self._x, self._inverse, self._x)  # x' A^-1 x
        self._left = np.ones(len(pool), dtype=bool)
        self._jitter = draws.permutation(len(pool))  # the order of ties

    def __iter__(self) -> Ranking:
        while self._left.any():
            gains = np.where(self._left, np.log1p(self._weights * self._spread), -np.inf)
            best = np.flatnonzero(gains >= gains.max() - 1e-12)
            index = int(best[np.argmin(self._jitter[best])])
            self._left[index] = False
            yield index

    def take(self, index: int) -> None:
        row = self._inverse @ self._x[index]
        share = self._weights[index] / (1 + self._weights[index] * self._spread[index])
        self._inverse -= share * np.outer(row, row)
        self._spread = np.maximum(self._spread - share * (self._x @ row) ** 2, 0)


def information(leads: Array) -> Array:
    """Compute p (1 - p) of each pair: what a label tells about its lead, in a Bradley-Terry model."""
    p = _sigmoid(leads)
    return np.asarray(p * (1 - p))


def _largest(values: Array, draws: np.random.Generator) -> Ranked:
    return Ranked(np.lexsort((draws.permutation(len(values)), -values)).tolist())


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))
