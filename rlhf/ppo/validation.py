"""A look at prompts that PPO never trains on, to stop when the gain is no longer real."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from rlhf.core.errors import UserError
from rlhf.core.seeding import generator
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, NO_REFEREE
from rlhf.ppo.actors import Actors
from rlhf.ppo.reward_sources import OwnPassSource, RewardSource
from rlhf.ppo.step import Setup, experience
from rlhf.ppo.types import Prompt


def choose(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """`count` prompts drawn by the seed (all, if there are fewer)."""
    order = torch.randperm(len(prompts), generator=generator(seed, "ppo", "heldout", "prompts"))
    return [prompts[int(i)] for i in order[:count]]


def validation_reward(setup: Setup, prompts: Sequence[Prompt]) -> float:
    """Mean over episodes of the score, after clipping and the EOS rule, less `ppo.kl_coef` times the KL.

    With `ppo.validation_by: referee` the score is the referee's, and no KL is taken off: it was not optimised, so
    that it needs no guard. Always the same prompts with the same random numbers, and the starting coefficient, so that
    two looks differ by the policy alone.
    """
    size = (len(prompts), setup.params.response_tokens)
    uniforms = torch.rand(size, generator=generator(setup.runtime.seed, "ppo", "heldout", "sample"))
    if setup.actors.referee is None:
        return experience(setup, prompts, uniforms, setup.params.kl_coef).measures.reward
    judged = replace(setup, actors=replace(setup.actors, source=setup.actors.referee))
    return experience(judged, prompts, uniforms, 0.0).measures.reward


def referee_source(folder: Path, actors: Actors, *, sft: Path) -> RewardSource:
    """The second reward model, under the frozen reference adapter; a pass of its own, since it reads logprobs.

    Raises:
        UserError: there is none, or it was fitted on another backbone.
    """
    if (folder / NO_REFEREE).is_file():
        raise UserError(
            "ppo.validation_by: found 'referee', but there is no referee (reward.referee_share is 0); "
            "allowed: reward, or a share above 0"
        )
    model = RewardModel.load(folder, hidden_size=actors.backbone.hidden_size, adapter=sft.as_posix())
    return OwnPassSource(model.to(actors.backbone.device), actors.backbone, ADAPTER)
