"""Rate each policy by all its matches: Bradley-Terry on the Elo scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rlhf.core.stats import Interval

Counts = NDArray[np.float64]

ANCHOR_RATING = 1000.0  # of the policy that the others are measured against
PER_LOGIT = 400 / math.log(10)  # 400 Elo points are odds of ten to one


@dataclass(frozen=True, slots=True)
class Match:
    """The outcome of two policies' responses to one prompt: 1 the first won, 0 the second, one half a tie."""

    prompt: int
    first: str
    second: str
    outcome: float


def ratings(
    matches: Sequence[Match], anchor: str, *, prior_ties: float = 1.0, confidence: float = 0.95
) -> dict[str, Interval]:
    """Compute the Elo rating of every policy, `anchor` at 1000.

    P(i beats j) = σ(θ_i - θ_j) (Bradley and Terry 1952), fitted by choix (I-LSR, Maystre and Grossglauser 2015), ties
    counted as half a win each; a rating is 1000 + 400 / ln 10 · (θ - θ_anchor), so 400 points are odds of ten to one.
    The intervals are θ ± z s.e. with the sandwich variance clustered by prompt (White 1982; Liang and Zeger 1986),
    which allows for ties and for several matches on one prompt. The anchor has no interval: its uncertainty is in those
    of the others.

    `prior_ties` adds that many ties to each pair of policies that met: without any, a policy that never lost would be
    infinitely good.

    Raises:
        ValueError: no matches, an unknown anchor, an outcome outside 0..1, or policies that no chain of
            matches joins.
    """
    import choix

    names = sorted({name for one in matches for name in (one.first, one.second)})
    if anchor not in names:
        raise ValueError(f"ratings: no comparison with {anchor!r}; found {', '.join(names) or 'none'}")
    wins, at = _wins(matches, names), names.index(anchor)
    counts = wins.sum(0) + prior_ties / 2 * _met(wins.sum(0), names)
    theta = choix.ilsr_pairwise_dense(counts, max_iter=10_000, tol=1e-9)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * _errors(theta, counts, wins, at)
    elo = ANCHOR_RATING + PER_LOGIT * (theta - theta[at])
    ends = zip(names, elo.tolist(), (PER_LOGIT * half).tolist(), strict=True)
    return {name: Interval(mean, mean - width, mean + width) for name, mean, width in ends}


def expected_win_rate(rating: float, other: float) -> float:
    """Predict the win rate of a match: 1 / (1 + 10^((other - rating) / 400))."""
    return 1 / (1 + 10 ** ((other - rating) / 400))


def _wins(matches: Sequence[Match], names: Sequence[str]) -> Counts:
    """Count for each prompt how often the policy of the row beat that of the column."""
    rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(one.prompt for one in matches))}
    at = {name: index for index, name in enumerate(names)}
    wins = np.zeros((len(rows), len(names), len(names)))
    for one in matches:
        if not 0 <= one.outcome <= 1 or one.first == one.second:
            raise ValueError(f"ratings: not a comparison of two policies with an outcome from 0 to 1: {one}")
        wins[rows[one.prompt], at[one.first], at[one.second]] += one.outcome
        wins[rows[one.prompt], at[one.second], at[one.first]] += 1 - one.outcome
    return wins


def _met(totals: Counts, names: Sequence[str]) -> Counts:
    """Mark with 1 each two policies that met. Raises ValueError if they fall into groups that never did."""
    from scipy.sparse.csgraph import connected_components

    met = (totals + totals.T > 0).astype(np.float64)
    groups, labels = connected_components(met, directed=False)
    if groups > 1:
        parts = [", ".join(n for n, label in zip(names, labels, strict=True) if label == g) for g in range(groups)]
        raise ValueError(f"ratings: no comparison joins these groups: {'; '.join(parts)}")
    return met


def _errors(theta: Counts, counts: Counts, wins: Counts, anchor: int) -> Counts:
    """Compute standard errors of θ - θ_anchor: the square roots of the diagonal of H⁻¹ M H⁻¹, 0 for the anchor.

    H is the information of all counts, M the sum over prompts of the score's outer product.
    """
    p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    weight = (counts + counts.T) * p * (1 - p)
    information = np.diag(weight.sum(1)) - weight
    scores = (wins - (wins + wins.transpose(0, 2, 1)) * p).sum(2)
    free = [index for index in range(len(theta)) if index != anchor]
    bread = np.linalg.inv(information[np.ix_(free, free)])
    meat = scores[:, free].T @ scores[:, free]
    errors = np.zeros(len(theta))
    variances = np.diag(bread @ meat @ bread)  # of a policy equal to the anchor 0, which rounding may put below
    errors[free] = np.sqrt(np.maximum(variances, 0))
    return errors
