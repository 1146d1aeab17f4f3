"""The clipped losses of PPO, as pure functions of padded tensors."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlhf.core.masked import keep, masked_mean
from rlhf.ppo.kl import k3


def policy_loss(
    logprobs: Float[Tensor, "B R"],
    *,
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    clip_ratio: float,
) -> Float[Tensor, ""]:
    """Average the clipped surrogate over real tokens; Schulman et al. 2017 (arXiv 1707.06347), eq. 7, negated.

    mean of -min(ratio * A, clip(ratio, 1 - eps, 1 + eps) * A), ratio = exp(logprobs - old_logprobs).
    Only `logprobs` carries gradients.
    """
    ratio, advantages = _ratio(logprobs, old_logprobs, mask), keep(advantages, mask)
    clipped = ratio.clamp(1 - clip_ratio, 1 + clip_ratio)
    return masked_mean(torch.maximum(-ratio * advantages, -clipped * advantages), mask)


def value_loss(
    values: Float[Tensor, "B R"],
    *,
    old_values: Float[Tensor, "B R"],
    returns: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    clip: float | None,
) -> Float[Tensor, ""]:
    """Average half the squared error over real tokens, of the value or of the value kept near the old one.

    The larger of the two counts: mean of max((V - ret)^2, (old + clip(V - old, -c, c) - ret)^2) / 2, as in
    lm-human-preferences, train_policy.py, `loss`. `clip` (reward units) None: the plain squared error. Only `values`
    carries gradients.
    """
    values, old_values, returns = keep(values, mask), keep(old_values, mask), keep(returns, mask)
    errors = (values - returns).square()
    if clip is not None:
        errors = torch.maximum(errors, (_near(values, old_values, clip) - returns).square())
    return masked_mean(errors, mask) / 2


def clip_fraction(
    logprobs: Float[Tensor, "B R"],
    *,
    old_logprobs: Float[Tensor, "B R"],
    advantages: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    clip_ratio: float,
) -> Float[Tensor, ""]:
    """Compute the share of real tokens at which the clipped term counts, so that they give no gradient."""
    ratio = _ratio(logprobs, old_logprobs, mask)
    clipped = ratio.clamp(1 - clip_ratio, 1 + clip_ratio)
    return masked_mean((-clipped * advantages > -ratio * advantages).to(logprobs.dtype), mask)


def approx_kl(
    logprobs: Float[Tensor, "B R"], *, old_logprobs: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]
) -> Float[Tensor, ""]:
    """Estimate KL(old || new) in nats a token by k3, at tokens that the old policy sampled: never negative."""
    return masked_mean(k3(old_logprobs, logprobs), mask)


def ratio_gap(
    logprobs: Float[Tensor, "B R"], *, old_logprobs: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]
) -> Float[Tensor, ""]:
    """Compute the largest |ratio - 1| over real tokens: 0 up to rounding before anything was updated."""
    return (_ratio(logprobs, old_logprobs, mask) - 1).abs().amax()


def _ratio(logprobs: Tensor, old_logprobs: Tensor, mask: Tensor) -> Tensor:
    """Divide new by old probability; exactly 1 where masked: padding neither overflows nor carries a gradient."""
    return keep(logprobs - old_logprobs, mask).exp()


def _near(values: Tensor, old_values: Tensor, clip: float) -> Tensor:
    return old_values + (values - old_values).clamp(-clip, clip)
