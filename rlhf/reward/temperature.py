"""One number that makes a reward model's probabilities mean what they say."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf.core.seeding import numpy_rng
from rlhf.core.stats import Interval

LOWEST, HIGHEST = 0.01, 100.0  # where margins separate perfectly, or say nothing, the best temperature has no end

Array = NDArray[np.float64]


def fit_temperature(
    margins: Sequence[float], seed: int, *, confidence: float = 0.95, resamples: int = 500
) -> Interval | None:
    """T that minimises the mean of -log sigmoid(margin / T), with a percentile bootstrap over the pairs.

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
    """1/T of each row: where the derivative of the convex loss in 1/T, -mean(m · sigmoid(-m/T)), changes its sign."""
    from scipy.special import expit

    low, high = (np.full(len(margins), math.log(1 / end)) for end in (HIGHEST, LOWEST))
    for _ in range(40):  # halves 9.2 to below 1e-11
        middle = (low + high) / 2
        falling = (margins * expit(-margins * np.exp(middle)[:, None])).sum(1) > 0
        low, high = np.where(falling, middle, low), np.where(falling, high, middle)
    return np.asarray(np.exp((low + high) / 2))
