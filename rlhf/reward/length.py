"""Measure how much of a reward is length."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf.core.seeding import numpy_rng
from rlhf.core.stats import Interval

Array = NDArray[np.float64]

EQUAL = 0.1  # lengths that differ by at most this share of the longer one are about equal


@dataclass(frozen=True, slots=True)
class Sides:
    """One number for the chosen and one for the rejected response of each pair."""

    chosen: Sequence[float]
    rejected: Sequence[float]

    def array(self) -> Array:
        """Stack both sides: (N, 2)."""
        return np.column_stack([np.asarray(side, dtype=np.float64) for side in (self.chosen, self.rejected)])


def length_labels(lengths: Sides) -> list[str]:
    """Label each pair by its chosen response: "shorter", about as long ("equal", within 10 % of it) or "longer"."""
    return [_label(a, b) for a, b in zip(lengths.chosen, lengths.rejected, strict=True)]


def _label(chosen: float, rejected: float) -> str:
    if abs(chosen - rejected) <= EQUAL * max(chosen, rejected):
        return "equal"
    return "longer" if chosen > rejected else "shorter"


def length_metrics(
    rewards: Sides, lengths: Sides, truths: dict[str, Sides], seed: int
) -> dict[str, float | int | None]:
    """Compute `reward_length_r2`, and for each of `truths` a partial correlation `reward_length_partial<name>`.

    R² is the squared correlation of reward and length over all responses. The partial correlation of reward and truth
    given length, (r_rt - r_rl r_tl) / sqrt((1 - r_rl²)(1 - r_tl²)) (Fisher 1924, Metron 3:329), is what they share
    beyond length: 0 for a reward that is length. Intervals are percentile bootstraps over pairs. None where one of the
    numbers is constant.
    """
    r, x = rewards.array(), lengths.array()
    found = _bootstrapped([r, x], lambda c: c[0, 1] ** 2, seed).named("reward_length_r2")
    for name, truth in truths.items():
        columns = [r, x, truth.array()]
        found |= _bootstrapped(columns, _partial, seed).named(f"reward_length_partial{name}")
    return {key: value if value is None or math.isfinite(value) else None for key, value in found.items()}


def correlation(a: Array, b: Array, seed: int) -> Interval:
    """Compute Pearson's r over the responses of pairs, both (N, 2), with a bootstrap over pairs; NaN where one is
    constant."""
    return _bootstrapped([a, b], lambda c: c[0, 1], seed)


def _partial(c: Array) -> Array:
    """Compute the partial correlation of variables 0 and 2 given 1, from their correlations c[i, j]."""
    return np.asarray((c[0, 2] - c[0, 1] * c[1, 2]) / np.sqrt((1 - c[0, 1] ** 2) * (1 - c[1, 2] ** 2)))


def _bootstrapped(
    columns: Sequence[Array],
    statistic: Callable[[Array], Array],
    seed: int,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> Interval:
    """Compute a function of correlations over responses, with a percentile bootstrap over pairs (Efron 1979)."""
    pairs = len(columns[0])
    draws = numpy_rng(seed, "reward", "correlations").multinomial(pairs, [1 / pairs] * pairs, size=resamples)
    counts = np.vstack([np.ones(pairs), draws])
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.asarray(statistic(_correlations(columns, counts)))
    if not math.isfinite(values[0]):
        return Interval(math.nan, math.nan, math.nan)
    usable = values[1:][np.isfinite(values[1:])]
    low, high = np.quantile(usable, [0.5 - confidence / 2, 0.5 + confidence / 2]) if usable.size else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))


def _correlations(columns: Sequence[Array], counts: Array) -> Array:
    """Compute correlations (C, C, S) over responses where pair i counts counts[s, i] times."""
    centred = [column - column.mean() for column in columns]  # no digits are lost to a large mean
    n = 2 * counts.sum(1)
    means = [counts @ column.sum(1) / n for column in centred]
    size = len(centred)
    covariance = np.empty((size, size, len(counts)))
    for i in range(size):
        for j in range(size):
            covariance[i, j] = counts @ (centred[i] * centred[j]).sum(1) / n - means[i] * means[j]
    own = np.array([covariance[i, i] for i in range(size)])
    scale = np.where(own > 1e-18, np.sqrt(own.clip(0)), np.nan)
    return np.asarray(covariance / (scale[:, None] * scale[None, :]))
