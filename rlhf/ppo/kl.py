"""Estimators of the KL divergence from samples."""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor

Estimator = Literal["k1", "k2", "k3"]


def k1(logprobs: Float[Tensor, "*A"], other: Float[Tensor, "*A"]) -> Float[Tensor, "*A"]:
    """Estimate KL(p || q) at samples of p as log p - log q, in nats: unbiased, negative on about half of the tokens.

    `logprobs` are of p, which sampled; `other` of q. Schulman, "Approximating KL Divergence" (2020), k1 = -log r
    with r = q/p.
    """
    return logprobs - other


def k2(logprobs: Float[Tensor, "*A"], other: Float[Tensor, "*A"]) -> Float[Tensor, "*A"]:
    """Estimate KL(p || q) as (log r)^2 / 2, in nats: biased, of low variance, never negative. Schulman (2020), k2."""
    return (logprobs - other).square() / 2


def k3(logprobs: Float[Tensor, "*A"], other: Float[Tensor, "*A"]) -> Float[Tensor, "*A"]:
    """Estimate KL(p || q) as (r - 1) - log r, in nats: unbiased and never negative. Schulman (2020), k3.

    Computed with expm1, because r - 1 loses its digits where p and q are close, which they mostly are.
    """
    log_ratio = other - logprobs
    return log_ratio.expm1() - log_ratio


ESTIMATORS: dict[Estimator, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
