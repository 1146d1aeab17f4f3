"""Turn one score an episode into one reward a token."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlhf.core.masked import keep, whiten

MissingEOS = Literal["keep", "replace", "cap"]


def effective_scores(
    scores: Float[Tensor, " B"],
    ended: Bool[Tensor, " B"],
    *,
    clip: float | None,
    missing_eos: MissingEOS,
    penalty: float,
) -> Float[Tensor, " B"]:
    """Clip scores to [-clip, clip] (None: not at all), then apply the EOS rule to episodes that were cut off.

    `missing_eos` is the rule. keep: the score stays. replace: it becomes -penalty (the N details; TL;DR reproduction:
    -1). cap: it becomes min(score, 0) - penalty, which never rewards an episode for not ending and still tells bad from
    worse.
    """
    if clip is not None:
        scores = scores.clamp(-clip, clip)
    if missing_eos == "replace":
        return torch.where(ended, scores, torch.full_like(scores, -penalty))
    if missing_eos == "cap":
        return torch.where(ended, scores, scores.clamp(max=0) - penalty)
    return scores


def last_token(mask: Bool[Tensor, "B R"]) -> Bool[Tensor, "B R"]:
    """Mark the last real token of each episode; an episode without any has none."""
    following = torch.nn.functional.pad(mask[:, 1:], (0, 1), value=False)
    return mask & ~following


def token_rewards(
    scores: Float[Tensor, " B"],
    penalties: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
) -> Float[Tensor, "B R"]:
    """Take the KL penalty off at each real token and add the score at the last one; 0 where masked.

    `penalties`: the coefficient times the estimate of KL(policy || reference) at each token, in reward units. Ziegler
    et al. 2019 (arXiv 1909.08593), eq. 2, spread over tokens as in lm-human-preferences (`compute_rewards`).
    """
    return keep(-penalties, mask) + keep(scores[:, None].expand_as(penalties), last_token(mask))


def whiten_rewards(rewards: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]) -> Float[Tensor, "B R"]:
    """Scale rewards to unit variance over real tokens, keeping their mean.

    A shifted mean would change the task: every token would earn or cost something, and the policy chooses how many
    it writes. lm-human-preferences, train_policy.py: `whiten(rewards, shift_mean=False)`.
    """
    return whiten(rewards, mask, shift_mean=False)
