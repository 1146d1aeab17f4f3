"""Judge numbers by what another seed gives: a committed table of runs that differ in the seed alone.

A seed varies everything: data, base model, SFT, reward model and PPO. A run that is made again with other rounding
takes another path from the first sampled token that differs, so the question is not whether its numbers are the same
but whether they could be those of another seed.

The rule: a number lies within if |x - mean| <= t * s * sqrt(1 + 1/n), the interval that holds one further draw from a
normal distribution of which n draws are known (Hahn 1969, JASA 64:878; Hahn and Meeker 1991, section 4.7). s has n - 1
degrees of freedom, and t is Student's quantile, so that few seeds make it wider; its level is .05 / k for k numbers
judged together (Bonferroni; Dunn 1961, JASA 56:52), so that a run like the table's has any of its k numbers outside
with a probability of at most 5 %, however the numbers hang together. What normality is worth is read from the table
itself: each of its seeds is judged by all others, and the share that falls outside is stated with its exact interval
(Clopper and Pearson 1934). A table whose share is above 5 % beyond doubt is not used.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from rlhf.core.stats import Interval
from rlhf.runs.headlines import FAMILYWISE

Columns = Mapping[str, Sequence[float]]  # by metric, a number a seed, in the same order of seeds


@dataclass(frozen=True, slots=True)
class Judged:
    """A number beside what another seed gives. `found` is None where the run has no such number."""

    name: str
    found: float | None
    mean: float
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Say whether another seed may give it."""
        return self.found is not None and self.low <= self.found <= self.high


def judge(found: Mapping[str, float | None], columns: Columns, *, level: float = FAMILYWISE) -> list[Judged]:
    """Judge one run's numbers, all those of `columns` together.

    Raises:
        ValueError: a column has fewer than two numbers, which have no spread.
    """
    judged = []
    for name, values in columns.items():
        n, mean = len(values), float(np.mean(values))
        half = quantile(n, len(columns), level) * _deviation(values) * math.sqrt(1 + 1 / n)
        half = max(half, abs(mean) * 1e-6)  # metrics are written with six digits
        judged.append(Judged(name, found.get(name), mean, mean - half, mean + half))
    return judged


def largest_change(values: Sequence[float], together: int, *, level: float = FAMILYWISE) -> float:
    """Compute by how much two runs that differ in the seed alone may differ in a number: t * s * sqrt(2), as above.

    together: how many numbers are judged at once.
    """
    change = quantile(len(values), together, level) * _deviation(values) * math.sqrt(2)
    return max(change, abs(float(np.mean(values))) * 1e-6)


@cache
def quantile(n: int, together: int, level: float) -> float:
    """Student's two-sided quantile at level / together with n - 1 degrees of freedom."""
    from scipy.stats import t

    return float(t.isf(level / (2 * together), n - 1))


def left_out(columns: Columns, *, level: float = FAMILYWISE) -> tuple[int, int, Interval]:
    """Judge each seed by all others; return how many fall outside, of how many, and the share with its 95 % interval.

    Raises:
        ValueError: fewer than three seeds.
    """
    count = len(next(iter(columns.values()), ()))
    if count < 3:
        raise ValueError(f"leaving one seed out needs three, got {count}")
    outside = 0
    for one in range(count):
        others = {name: [*values[:one], *values[one + 1 :]] for name, values in columns.items()}
        own = {name: values[one] for name, values in columns.items()}
        outside += not all(number.within for number in judge(own, others, level=level))
    return outside, count, exact_rate(outside, count)


def exact_rate(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Compute a rate with the exact binomial interval (Clopper and Pearson 1934, Biometrika 26:404)."""
    from scipy.stats import binomtest

    ends = binomtest(successes, n).proportion_ci(confidence, method="exact")
    return Interval(successes / n, float(ends.low), float(ends.high))


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        raise ValueError(f"a spread needs two numbers, got {len(values)}")
    return float(np.std(values, ddof=1))
