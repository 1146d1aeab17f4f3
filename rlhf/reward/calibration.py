"""Measure how well a reward model's probabilities are calibrated: reliability bins, calibration error, temperature."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlhf.core.seeding import numpy_rng
from rlhf.core.stats import Interval, wins


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs whose confidence lies in [low, high), the last bin's end included."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean probability given to the response held for better
    accuracy: float | None  # how often it was the one preferred


def reliability(margins: Sequence[float], bins: int) -> list[Bin]:
    """Sort pairs into equal-width bins of confidence over [.5, 1].

    A pair has no first and second by nature, so the probability is taken of the response that the model holds for
    better: max(p, 1 - p) with p = sigmoid(r_chosen - r_rejected). It is right if that is the chosen one.
    """
    rows = [(_sigmoid(abs(margin)), win) for margin, win in zip(margins, wins(margins), strict=True)]
    width = 0.5 / bins
    members: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for row in rows:
        members[min(bins - 1, int((row[0] - 0.5) / width))].append(row)
    return [_bin(0.5 + k * width, 0.5 + (k + 1) * width, inside) for k, inside in enumerate(members)]


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Average |accuracy - confidence| of the bins, weighted by pairs (Naeini et al. 2015; Guo et al. 2017, eq. 3)."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs((one.accuracy or 0.0) - (one.confidence or 0.0)) for one in bins) / total


def _bin(low: float, high: float, inside: Sequence[tuple[float, float]]) -> Bin:
    if not inside:
        return Bin(low, high, 0, None, None)
    n = len(inside)
    return Bin(low, high, n, sum(c for c, _ in inside) / n, sum(right for _, right in inside) / n)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


LOWEST, HIGHEST = 0.01, 100.0  # where margins separate perfectly, or say nothing, the best temperature has no end

Array = NDArray[np.float64]


def fit_temperature(
    margins: Sequence[float], seed: int, *, confidence: float = 0.95, resamples: int = 500
) -> Interval | None:
    """Find the T that minimises the mean of -log sigmoid(margin / T), with a percentile bootstrap over the pairs.

    Temperature scaling (Guo et al. 2017, section 4.2) for pairs: it changes no ranking. Above 1 the model was too sure
    of itself. Between LOWEST and HIGHEST. None where all margins are 0.
    """
    x = np.asarray(margins, dtype=np.float64)
    if not x.any():
        return None
    draws = numpy_rng(seed, "reward", "temperature").integers(0, x.size, (resamples, x.size))
    found = 1 / _inverse(np.vstack([x[None], x[draws]]))
    low, high = np.quantile(found[1:], [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(found[0]), float(low), float(high))


def _inverse(margins: Array) -> Array:
    """Find 1/T of each row: where the derivative of the convex loss in 1/T, -mean(m · sigmoid(-m/T)), changes its
    sign."""
    from scipy.special import expit

    low, high = (np.full(len(margins), math.log(1 / end)) for end in (HIGHEST, LOWEST))
    for _ in range(40):  # halves 9.2 to below 1e-11
        middle = (low + high) / 2
        falling = (margins * expit(-margins * np.exp(middle)[:, None])).sum(1) > 0
        low, high = np.where(falling, middle, low), np.where(falling, high, middle)
    return np.asarray(np.exp((low + high) / 2))
