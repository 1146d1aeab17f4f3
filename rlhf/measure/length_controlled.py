"""Compute win rates with the effect of length taken out."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf.core.stats import Interval

Array = NDArray[np.float64]

FLAT = 1e-10  # a gradient a prompt that is no more than rounding
PRIOR_TIES = 1.0  # half a tie where length speaks most for either side: no coefficient runs away to infinity


def length_controlled_win_rate(
    outcomes: Sequence[float], lengths: Sequence[float], others: Sequence[float], confidence: float = 0.95
) -> Interval:
    """Estimate the win rate that would be seen if both policies' responses were equally long.

    A logistic regression in the manner of AlpacaEval 2 (Dubois et al. 2024, arXiv 2404.04475, section 3.1):
    P(win) = σ(θ + φ tanh((length - other) / std(length - other))), and the rate is σ(θ), its value at equal lengths.
    Their third term, the difficulty of each instruction, is fitted over many models and has no estimate from one pair
    of policies; it is left out. The interval is θ ± z s.e. with the sandwich variance (White 1982), which holds with
    ties as well, taken through σ.

    As in the paper: swapping the policies gives 1 - rate, and a policy against itself gets one half.

    Args:
        outcomes: 1 where the first policy won, 0 where it lost, one half for a tie; one a prompt.
        lengths: of the first policy's responses, in any unit.
        others: of the second's.

    Raises:
        ValueError: no prompts, sequences of different length, or an outcome outside 0..1.
    """
    y = np.asarray(outcomes, dtype=np.float64)
    if not len(outcomes) == len(lengths) == len(others) or y.size == 0:
        raise ValueError(
            f"a length-controlled win rate needs equal, non-empty sequences, got {len(outcomes)}, {len(lengths)} and "
            f"{len(others)}"
        )
    if y.min() < 0 or y.max() > 1:
        raise ValueError(f"outcomes must lie between 0 and 1, got {y.min()} to {y.max()}")
    x = _length_term(np.asarray(lengths, dtype=np.float64) - np.asarray(others, dtype=np.float64))
    design = np.column_stack([np.ones_like(x), x])
    design = np.vstack([design, [[1.0, 1.0], [1.0, -1.0]]])
    weights = np.concatenate([np.ones_like(y), [PRIOR_TIES / 2] * 2])
    theta, variance = _fit(design, np.concatenate([y, [0.5, 0.5]]), weights)
    half = _z(confidence) * math.sqrt(variance)
    return Interval(_sigmoid(theta), _sigmoid(theta - half), _sigmoid(theta + half))


def _length_term(difference: Array) -> Array:
    """Compute tanh(difference / std), between -1 and 1; 0 where all differences are the same and 0."""
    spread = difference.std()
    return np.tanh(difference / spread) if spread > 0 else np.sign(difference)


def _fit(design: Array, y: Array, weights: Array) -> tuple[float, float]:
    """Fit a weighted logistic regression; return its intercept and that one's sandwich variance, H⁻¹ M H⁻¹."""
    from scipy.optimize import root
    from scipy.special import expit

    def gradient(beta: Array) -> Array:
        return np.asarray(design.T @ (weights * (expit(design @ beta) - y)))

    def hessian(beta: Array) -> Array:
        p = expit(design @ beta)
        return np.asarray(design.T @ (design * (weights * p * (1 - p))[:, None]))

    solution = root(gradient, np.zeros(2), jac=hessian, tol=1e-10)
    # It also gives up where the solution is as near as rounding allows, so what counts is whether it is one.
    if not solution.success and np.abs(gradient(solution.x)).max() > FLAT * weights.sum():
        raise ValueError(f"the regression on length did not converge: {solution.message}")
    beta = solution.x
    residuals = weights * (y - expit(design @ beta))
    bread = np.linalg.inv(hessian(beta))
    meat = design.T @ (design * (residuals**2)[:, None])
    return float(beta[0]), float((bread @ meat @ bread)[0, 0])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _z(confidence: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(0.5 + confidence / 2)
