"""Records that travel through PPO. Axes: B episodes, R response tokens."""

from dataclasses import dataclass, fields

from jaxtyping import Bool, Float
from torch import Tensor

from rlhf.models.text.tokens import Episodes


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text and as ids."""

    id: str
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Responses with log-probabilities, entropies and values, without gradients. Masked entries are 0."""

    prompts: tuple[Prompt, ...]
    episodes: Episodes
    ended: Bool[Tensor, " B"]  # whether the response has an EOS
    sampler_logprobs: Float[Tensor, "B R"]  # nats at the sampling temperature, as the sampler computed them
    logprobs: Float[Tensor, "B R"]  # nats at the sampling temperature, that ratios are taken against (`respond`)
    entropy: Float[Tensor, "B R"]  # nats
    values: Float[Tensor, "B R"]  # reward units, of the state before each token


@dataclass(frozen=True, slots=True)
class Rollout:
    """Sampled and scored episodes, without gradients. Masked entries are 0."""

    answers: Answers
    ref_logprobs: Float[Tensor, "B R"]  # of the frozen reference, nats at the sampling temperature
    scores: Float[Tensor, " B"]  # as the reward source gave them: neither clipped nor changed by the EOS rule

    @property
    def mask(self) -> Bool[Tensor, "B R"]:
        """Return the mask of the responses: True on real tokens, the first EOS included."""
        return self.answers.episodes.mask


@dataclass(frozen=True, slots=True)
class Advantages:
    """Per-token rewards, advantages and returns, in reward units (advantages without unit if whitened). Masked: 0."""

    rewards: Float[Tensor, "B R"]
    advantages: Float[Tensor, "B R"]
    returns: Float[Tensor, "B R"]


@dataclass(frozen=True, slots=True)
class Measures:
    """Measurements of the policy that sampled a batch: means over its episodes unless said otherwise."""

    score: float  # as the reward source gave it
    score_std: float
    reward: float  # score after clipping and the EOS rule, less the KL penalty
    kl: float  # nats an episode, k1: unbiased, may be below 0 on a batch
    kl_k2: float  # nats an episode
    kl_k3: float  # nats an episode, never below 0
    entropy: float  # nats a token, mean over real tokens
    length: float  # response tokens, EOS included
    ended: float  # share of episodes with an EOS
    explained_variance: float  # of the returns, by the values
    sampler_gap: float  # nats: largest difference between the sampler's and the forward's logprobs


@dataclass(frozen=True, slots=True)
class PPOStats:
    """Measurements of one update: means over its minibatches unless said otherwise."""

    policy_loss: float
    value_loss: float
    clip_fraction: float
    approx_kl: float  # nats a token, KL(old || new) by k3
    grad_norm: float  # of the policy's weights, before clipping
    minibatches: int  # applied; fewer than epochs * batch / minibatch if approx_kl_stop ended the update
    first_ratio_gap: float  # largest |ratio - 1| in the first minibatch: 0 up to rounding
    first_approx_kl: float  # approx-KL there: 0 up to rounding


def as_row(record: Measures | PPOStats) -> dict[str, float]:
    """Return the fields of a record by name, in order."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
