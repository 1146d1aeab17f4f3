"""Measure how far a policy has drifted from the SFT policy, on its own samples."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.processes import current
from rlhf.measure.responses import Drift
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.scoring import length_batches
from rlhf.models.text.tokens import Episodes, encode_prompt

_ROWS = 512  # of the vocabulary's logits in float64 at once: 200 MB for 50,257 tokens, and several such buffers


@torch.no_grad()
def sampled_drift(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    adapter: str | None,
    reference: str,
    temperature: float,
    batch_tokens: int,
) -> Drift:
    """Estimate the KL to the reference by k1 and k3, and measure entropy and length, of each sample."""

    def of(batch: Sequence[int]) -> list[tuple[float, float, float, int]]:
        episodes = _episodes(backbone, [samples[i] for i in batch])
        policy = backbone.forward(episodes, adapter=adapter, temperature=temperature)
        other = backbone.forward(episodes, adapter=reference, temperature=temperature)
        log_ratio = (policy.logprobs.double() - other.logprobs.double()) * episodes.mask
        k3 = torch.expm1(-log_ratio) + log_ratio
        tokens = episodes.mask.sum(1)
        entropy = policy.entropy.double().sum(1) / tokens.clamp_min(1)
        columns = (log_ratio.sum(1).tolist(), k3.sum(1).tolist(), entropy.tolist(), tokens.tolist())
        return list(zip(*columns, strict=True))

    rows = _by_batches(backbone, samples, batch_tokens, of)
    k1s, k3s, entropies, lengths = zip(*rows, strict=True)
    return Drift(k1s, k3s, entropies, lengths)


@torch.no_grad()
def response_logprobs(
    backbone: Backbone, samples: Sequence[Sample], *, adapter: str | None, temperature: float, batch_tokens: int
) -> list[float]:
    """Compute log p(response | prompt) of each sample at the temperature, in nats."""

    def of(batch: Sequence[int]) -> list[float]:
        episodes = _episodes(backbone, [samples[i] for i in batch])
        forward = backbone.forward(episodes, adapter=adapter, temperature=temperature)
        return forward.logprobs.double().sum(1).tolist()

    return _by_batches(backbone, samples, batch_tokens, of)


@torch.no_grad()
def exact_kl(
    backbone: Backbone,
    samples: Sequence[Sample],
    *,
    adapter: str | None,
    reference: str,
    temperature: float,
    batch_tokens: int,
) -> tuple[float, ...]:
    """Sum KL(policy || reference) over the tokens of each sample, each over the whole vocabulary, in nats.

    The states are the policy's own, so the mean over samples estimates the KL of whole responses as k1 does, with the
    noise of the last draw at each token taken out (a Rao-Blackwell estimate).
    """

    def of(batch: Sequence[int]) -> list[float]:
        episodes = _episodes(backbone, [samples[i] for i in batch])
        policy = _states(backbone, episodes, adapter)
        other = _states(backbone, episodes, reference)
        logits = backbone.logits(policy, adapter=adapter).float() / temperature
        others = backbone.logits(other, adapter=reference).float() / temperature
        divergence = _in_parts(logits, others)
        spread = torch.zeros(episodes.mask.shape, dtype=torch.float64, device=divergence.device)
        spread[episodes.mask] = divergence
        return spread.sum(1).tolist()

    return tuple(_by_batches(backbone, samples, batch_tokens, of))


def token_kl(logits: Float[Tensor, "N V"], reference: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """Compute KL(softmax(logits) || softmax(reference)) of each row: sum of p (log p - log q), in nats, in float64."""
    logprobs, others = logits.double().log_softmax(-1), reference.double().log_softmax(-1)
    return (logprobs.exp() * (logprobs - others)).sum(-1)


def _in_parts(logits: Float[Tensor, "N V"], reference: Float[Tensor, "N V"]) -> Float[Tensor, " N"]:
    """Compute `token_kl` some rows at a time: whole batches in float64 would be tens of gigabytes on a GPU."""
    parts = zip(torch.split(logits, _ROWS), torch.split(reference, _ROWS), strict=True)
    return torch.cat([token_kl(one, other) for one, other in parts])


def _by_batches(
    backbone: Backbone, samples: Sequence[Sample], batch_tokens: int, of: Callable[[Sequence[int]], list[Any]]
) -> list[Any]:
    """Let `of` measure batches of samples of like length, given by their indices; return what it found of each sample.

    Processes that share a run share the batches.
    """
    lengths = [len(encode_prompt(backbone.tokenizer, sample.prompt)) + len(sample.response_ids) for sample in samples]
    batches = length_batches(lengths, batch_tokens)
    found = dict(zip(chain(*batches), chain(*current().map(batches, of)), strict=True))
    return [found[i] for i in range(len(samples))]


def _episodes(backbone: Backbone, samples: Sequence[Sample]) -> Episodes:
    prompts = [encode_prompt(backbone.tokenizer, sample.prompt) for sample in samples]
    responses = [sample.response_ids for sample in samples]
    return Episodes.of(prompts, responses, pad_id=backbone.pad_id, device=backbone.device)


def _states(backbone: Backbone, episodes: Episodes, adapter: str | None) -> Float[Tensor, "N D"]:
    """Compute the hidden states that the real response tokens are drawn from: one position before each."""
    hidden = backbone.forward(episodes, adapter=adapter, temperature=1.0).hidden
    start, width = episodes.prompt_ids.shape[1] - 1, episodes.response_ids.shape[1]
    return hidden[:, start : start + width][episodes.mask]
