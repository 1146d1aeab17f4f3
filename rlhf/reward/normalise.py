"""Put the reward on a scale: mean 0, standard deviation 1 over responses of the policy that PPO starts from."""

import math
from collections.abc import Sequence

from rlhf.core.errors import UserError
from rlhf.core.seeding import rng


def choose_prompts(prompts: Sequence[str], count: int, seed: int) -> list[str]:
    """Draw at most `count` of the prompts, without replacement."""
    return rng(seed, "reward", "normalise").sample(list(prompts), min(count, len(prompts)))


def mean_and_std(scores: Sequence[float]) -> tuple[float, float]:
    """Compute mean and (biased) standard deviation of raw scores of sampled responses.

    Raises:
        UserError: fewer than two scores, or all the same: a reward that cannot tell samples apart teaches nothing,
            and dividing by its spread would blow rounding errors up to rewards.
    """
    if len(scores) < 2:
        raise UserError(f"reward.normalise_prompts: {len(scores)} sampled responses; at least 2 are needed")
    mean = math.fsum(scores) / len(scores)
    std = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
    if not std > 1e-6 * (1 + abs(mean)):
        raise UserError(
            f"reward: all {len(scores)} sampled responses of the SFT policy get the same score ({mean:.4g}); "
            "the policy says one thing only, or the head has learnt nothing (see reward.lr, reward.epochs)"
        )
    return mean, std
