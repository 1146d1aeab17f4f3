"""Best of N: the best of N samples by reward, and how far that goes from the policy that is sampled."""

import math
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def best(candidates: Sequence[T], scores: Sequence[float]) -> T:
    """Choose the candidate with the highest score, the first of several.

    Raises:
        ValueError: no candidates, or not one score each.
    """
    if not candidates or len(candidates) != len(scores):
        raise ValueError(f"best of N needs a score each, got {len(candidates)} candidates and {len(scores)} scores")
    return candidates[max(range(len(scores)), key=scores.__getitem__)]


def kl_bound(n: int) -> float:
    """Compute log n - (n - 1) / n, in nats: an upper bound of KL(best of n || policy).

    It is the KL itself where no two responses have the same score (Stiennon et al. 2020, arXiv 2009.01325, appendix
    G.3; Beirami et al. 2024, arXiv 2401.01879).
    """
    return math.log(n) - (n - 1) / n


def kl_estimate(n: int, logprob: float) -> float:
    """Estimate KL(best of n || policy), in nats, from one response, the best of n.

    With e = exp(`logprob`), its probability under the policy, the estimate is

        (1 - e)^n (log n + (n - 1) log(1 - e) - (n - 1) / n) + (1 - (1 - e)^n) log((1 - (1 - e)^n) / e)

    The mean over responses estimates KL(best of n || policy) where responses have substantial probabilities and the
    bound is far off (Beirami et al. 2024, arXiv 2401.01879, the estimator of section 4). It runs from the bound
    at e = 0 to 0 at e = 1.
    """
    e = math.exp(min(logprob, 0.0))
    if n == 1 or e >= 1.0:
        return 0.0
    none = n * math.log1p(-e)  # log of the probability that none of n samples is this response
    some = -math.expm1(none)
    rest = math.log(n) + (n - 1) * math.log1p(-e) - (n - 1) / n
    return math.exp(none) * rest + (some * (math.log(some) - math.log(e)) if some > 0 and e > 0 else 0.0)
