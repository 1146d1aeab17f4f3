"""Sources of scores: each sees texts and the frozen reference's pass, and returns one score an episode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlhf.core.processes import Processes
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.outputs import Forward
from rlhf.models.reward.encoder_referee import EncoderReferee
from rlhf.models.reward.reward_model import RewardModel, response_lengths
from rlhf.models.reward.scoring import pooled_episodes
from rlhf.models.text.tokens import Episodes

ENCODER_TOKENS: Final = 8192  # word pieces that go through a sentence encoder at once
ALONE: Final = Processes()


@dataclass(frozen=True, slots=True)
class Scorable:
    """Prompts with their responses, to be scored. Axes: B episodes."""

    prompts: Sequence[str]
    responses: Sequence[str]  # without special tokens; they begin with a space where the model wrote one
    ended: Bool[Tensor, " B"]  # whether the response has an EOS
    episodes: Episodes
    reference: Forward  # the frozen reference's pass over `episodes`; PPO makes it anyway, so its states cost nothing


@runtime_checkable
class RewardSource(Protocol):
    """Gives each response one number, higher is better. It need not be differentiable, nor a module."""

    def score(self, batch: Scorable) -> Float[Tensor, " B"]:
        """Return the scores, on the device of `batch.episodes`."""
        ...


@dataclass(frozen=True, slots=True)
class OwnPassSource:
    """A reward model that makes a pass of its own, under its own adapter.

    It is for one that the reference's pass is not enough for: its backbone was trained too, or it reads logprobs at
    temperature 1.
    """

    model: RewardModel
    backbone: Backbone
    adapter: str

    def score(self, batch: Scorable) -> Float[Tensor, " B"]:
        """Return scores, normalised as those of RewardModelSource."""
        features = pooled_episodes(self.backbone, batch.episodes, model=self.model, adapter=self.adapter)
        return self.model.score_features(features, response_lengths(batch.episodes))


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """A referee on a sentence encoder, which reads the texts."""

    referee: EncoderReferee

    def score(self, batch: Scorable) -> Float[Tensor, " B"]:
        """Return scores, normalised as those of RewardModelSource.

        Each process has episodes of its own, so that it scores them alone; and nothing is remembered from batch to
        batch: what another batch has shown would hang on how many processes there are.
        """
        scores = self.referee.fresh().score_texts(
            batch.prompts, batch.responses, batch_tokens=ENCODER_TOKENS, among=ALONE
        )
        return torch.tensor(scores, device=batch.episodes.mask.device)


@dataclass(frozen=True, slots=True)
class RewardModelSource:
    """The reward model on the frozen SFT policy, reading the reference pass instead of making one of its own."""

    model: RewardModel

    def score(self, batch: Scorable) -> Float[Tensor, " B"]:
        """Return scores, normalised to mean 0 and standard deviation 1 on the reference policy's own responses."""
        return self.model.score(batch.reference.hidden, batch.episodes)
