"""Measure a reply: its reward, and its distance from the SFT policy."""

from dataclasses import dataclass

import torch

from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.scoring import ADAPTER, Scorer
from rlhf.models.text.tokens import Episodes, encode_prompt


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one reply. `reward` in standard deviations of SFT replies, None without a reward model; `kl` in nats a token,
    the mean over the reply's tokens of log p - log p_sft at the sampling temperature (the estimator k1: of a single
    reply it may be negative), None without an SFT policy."""

    reward: float | None
    kl: float | None
    tokens: int


@torch.no_grad()
def measure(
    backbone: Backbone, scorer: Scorer | None, sample: Sample, *, adapter: str | None, temperature: float
) -> Measured:
    """Measure a reply that `adapter` gave."""
    reward = None if scorer is None else scorer.score_samples([sample], batch_tokens=backbone.context)[0]
    kl = None
    if ADAPTER in backbone.adapters():
        prompt = encode_prompt(backbone.tokenizer, sample.prompt)
        episodes = Episodes.of([prompt], [sample.response_ids], pad_id=backbone.pad_id, device=backbone.device)
        own, sft = (
            backbone.forward(episodes, adapter=name, temperature=temperature).logprobs for name in (adapter, ADAPTER)
        )
        kl = float((own - sft).mean())
    return Measured(reward, kl, len(sample.response_ids))
