"""Validation: rewards on prompts that PPO never trains on, so that it can stop when the gain is no longer real."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from rlhf.core.errors import UserError
from rlhf.core.seeding import generator
from rlhf.models.reward.encoder_referee import EncoderReferee, reads_encoder
from rlhf.models.reward.referee import NO_REFEREE
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER
from rlhf.ppo.actors import Actors
from rlhf.ppo.reward_sources import EncoderSource, OwnPassSource, RewardSource
from rlhf.ppo.step import Setup, experience
from rlhf.ppo.types import Prompt


def choose_prompts(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """Draw `count` prompts by the seed; all of them, if there are fewer."""
    order = torch.randperm(len(prompts), generator=generator(seed, "ppo", "heldout", "prompts"))
    return [prompts[int(i)] for i in order[:count]]


def validation_reward(setup: Setup, prompts: Sequence[Prompt]) -> float:
    """Measure the mean over episodes of the score, after clipping and the EOS rule, less `ppo.kl_coef` times the KL.

    With `ppo.validation_by: referee` the score is the referee's, and no KL is taken off: PPO does not optimise that
    score, so that it needs no guard. Prompts, random numbers and coefficient (the one that a run starts with) are the
    same every time, so that two results differ by the policy alone.
    """
    size = (len(prompts), setup.params.response_tokens)
    uniforms = torch.rand(size, generator=generator(setup.runtime.seed, "ppo", "heldout", "sample"))
    if setup.actors.referee is None:
        return experience(setup, prompts, uniforms, setup.params.kl_coef).measures.reward
    by_referee = replace(setup, actors=replace(setup.actors, source=setup.actors.referee))
    return experience(by_referee, prompts, uniforms, 0.0).measures.reward


def referee_source(folder: Path, actors: Actors, *, sft: Path) -> RewardSource:
    """Load the referee, the second reward model, as a source of scores.

    It reads logprobs at temperature 1, so that it makes a pass of its own, under the frozen reference adapter; or it
    has an encoder of its own, which reads the texts.

    Raises:
        UserError: there is no referee, or it was fitted on another backbone or encoder.
    """
    if (folder / NO_REFEREE).is_file():
        raise UserError(
            "ppo.validation_by: found 'referee', but there is no referee (reward.referee_share is 0); "
            "allowed: reward, or a share above 0"
        )
    if reads_encoder(folder):
        return EncoderSource(EncoderReferee.load(folder).to(actors.backbone.device))
    model = RewardModel.load(folder, hidden_size=actors.backbone.hidden_size, adapter=sft.as_posix())
    return OwnPassSource(model.to(actors.backbone.device), actors.backbone, ADAPTER)
