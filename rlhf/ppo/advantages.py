"""Generalised advantage estimation over padded episodes."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlhf.core.masked import keep, masked_var, whiten
from rlhf.ppo.types import Advantages


def estimate_advantages(
    rewards: Float[Tensor, "B R"],
    values: Float[Tensor, "B R"],
    mask: Bool[Tensor, "B R"],
    *,
    gamma: float,
    lam: float,
    whitened: bool,
) -> Advantages:
    """Estimate advantages and returns: generalised advantage estimation.

    A_t = sum_k (gamma lam)^k delta_{t+k}, delta_t = r_t + gamma V_{t+1} - V_t, returns_t = A_t + V_t; Schulman et al.
    2016 (arXiv 1506.02438), eq. 16. V_t is the value of the state BEFORE token t. The value after an episode's last
    token is 0, whether it ended by itself or was cut off (as lm-human-preferences does: the score of a cut-off episode
    is final too). Returns come from the advantages before whitening; whitening uses the mean and biased variance over
    real tokens of the whole batch. All results are 0 where masked.
    """
    values, rewards = keep(values, mask), keep(rewards, mask)
    following = torch.nn.functional.pad(values[:, 1:], (0, 1))
    deltas = rewards + gamma * following - values
    running = torch.zeros_like(deltas[:, 0])
    columns = []
    for delta in reversed(deltas.unbind(dim=1)):  # right-padded: a masked column adds 0 and carries 0
        running = delta + gamma * lam * running
        columns.append(running)
    advantages = torch.stack(columns[::-1], dim=1)
    returns = advantages + values
    if whitened:
        advantages = whiten(advantages, mask, shift_mean=True)
    return Advantages(rewards=rewards, advantages=advantages, returns=returns)


def explained_variance(
    values: Float[Tensor, "B R"], returns: Float[Tensor, "B R"], mask: Bool[Tensor, "B R"]
) -> Float[Tensor, ""]:
    """Compute 1 - Var(returns - values) / Var(returns) over real tokens.

    1 is a perfect value head, 0 no better than a constant, below 0 worse. NaN if the returns do not vary.
    """
    return 1 - masked_var(returns - values, mask, unbiased=False) / masked_var(returns, mask, unbiased=False)
