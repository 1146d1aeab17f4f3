"""Compute means and rates with 95 % intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rlhf.core.seeding import numpy_rng

T = TypeVar("T")

TIE = 1e-6  # of a score's unit: equal responses get equal scores up to the rounding of a batched forward


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval; `low` and `high` are None where the data cannot give one."""

    mean: float
    low: float | None
    high: float | None

    def named(self, name: str) -> dict[str, float | None]:
        """Name the three numbers as metrics: `name`, `name_low`, `name_high`."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def wins(margins: Sequence[float], *, tie: float = TIE) -> list[float]:
    """Say of each margin whether it is a win: 1 where it is positive, 0 where negative, one half where it is a tie.

    A scorer that cannot tell two responses apart has to earn what guessing earns. Counting ties as wins has let a
    constant reward model report an accuracy of .995 at a loss of log 2.
    """
    return [0.5 if abs(margin) <= tie else float(margin > 0) for margin in margins]


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Compute a rate with Wilson's score interval (Wilson 1927); half successes (ties) are allowed.

    Raises:
        ValueError: n < 1, or successes outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = _normal_quantile(confidence)
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return Interval(rate, max(0.0, centre - half), min(1.0, centre + half))


def tied_rate(outcomes: Sequence[float], confidence: float = 0.95) -> Interval:
    """Compute a win rate with ties, and Tango's score interval (Tango 1998, Statistics in Medicine 17:891, eq. 11 to
    13).

    Wins, ties and losses (1, one half, 0) are a trinomial, and the win rate is (1 + p_win - p_loss) / 2. Without ties
    this is Wilson's interval to the last digit. With ties it is the narrower: a tie varies less than a coin, and
    `wilson`, which cannot know that, then holds the truth more often than it says.

    Raises:
        ValueError: no outcomes, or one that is not 0, one half or 1.
    """
    from scipy.optimize import brentq

    n, wins, losses, ties = len(outcomes), *(sum(o == value for o in outcomes) for value in (1, 0, 0.5))
    if n == 0 or wins + losses + ties != n:
        raise ValueError(f"a rate with ties needs outcomes of 0, 0.5 and 1, at least one; got {n} outcomes")
    z, found = _normal_quantile(confidence), (wins - losses) / n

    def excess(difference: float) -> float:  # below 0 where the score test keeps this difference
        return (found - difference) ** 2 - z * z / n * _trinomial_variance(difference, wins, losses, n)

    near = 1e-9  # beside the estimate the test always keeps; at it both terms may be 0
    low = brentq(excess, -1.0, found - near, xtol=1e-12) if found > -1 else -1.0
    high = brentq(excess, found + near, 1.0, xtol=1e-12) if found < 1 else 1.0
    return Interval((1 + found) / 2, (1 + low) / 2, (1 + high) / 2)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Compute a mean with Student's t interval; a single value has no interval.

    Raises:
        ValueError: no values.
    """
    from scipy import stats

    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise ValueError("a mean needs at least one value")
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, None, None)
    half = float(stats.t.ppf(0.5 + confidence / 2, x.size - 1) * x.std(ddof=1) / math.sqrt(x.size))
    return Interval(mean, mean - half, mean + half)


def paired_difference(
    a: Sequence[float], b: Sequence[float], seed: int, *, confidence: float = 0.95, resamples: int = 2000
) -> Interval:
    """Compute the mean of a - b over pairs with a percentile bootstrap over the pairs (Efron 1979).

    Raises:
        ValueError: no pairs, or sequences of different length.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(a) != len(b) or difference.size == 0:
        raise ValueError(f"a paired difference needs equal, non-empty sequences, got {len(a)} and {len(b)}")
    mean = float(difference.mean())
    if difference.size == 1:
        return Interval(mean, None, None)
    draws = numpy_rng(seed, "paired_difference").integers(0, difference.size, (resamples, difference.size))
    means = difference[draws].mean(axis=1)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(mean, float(low), float(high))


def bootstrap_difference(
    statistic: Callable[[Sequence[T]], float],
    a: Sequence[T],
    b: Sequence[T],
    seed: int,
    *,
    confidence: float = 0.95,
    resamples: int = 500,
) -> Interval:
    """Compute statistic(a) - statistic(b) with a percentile bootstrap over the prompts that a and b share (Efron 1979).

    For what is no mean over prompts, like a compression ratio or a perplexity; `paired_difference` is the fast way
    for means. Both sides are drawn together, so what is hard about a prompt cancels.

    Raises:
        ValueError: no prompts, or sequences of different length.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"a paired difference needs equal, non-empty sequences, got {len(a)} and {len(b)}")
    found = statistic(a) - statistic(b)
    if len(a) == 1:
        return Interval(found, None, None)
    draws = numpy_rng(seed, "bootstrap_difference").integers(0, len(a), (resamples, len(a))).tolist()
    values = [statistic([a[i] for i in draw]) - statistic([b[i] for i in draw]) for draw in draws]
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(found, float(low), float(high))


def _trinomial_variance(difference: float, wins: int, losses: int, n: int) -> float:
    """Compute the variance of one outcome's (win - loss) where p_win - p_loss is `difference` and the rest is most
    likely.

    The most likely p_loss is the larger root of 2n q² + B q + C = 0 (Tango 1998, appendix).
    """
    b = (2 * n - wins + losses) * difference - wins - losses
    c = -losses * difference * (1 - difference)
    loss = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    return 2 * loss + difference * (1 - difference)


def _normal_quantile(confidence: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + confidence / 2)
