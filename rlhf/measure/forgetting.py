"""Measure the alignment tax of all policies: benchmarks, and documents of the corpus that pretraining never saw."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import torch

from rlhf.core.processes import current
from rlhf.core.seeding import rng
from rlhf.core.stats import bootstrap_difference, paired_difference, wilson
from rlhf.measure.panel import Panel
from rlhf.measure.policies import for_each_policy
from rlhf.measure.tax import Item, Metrics, Scored, score
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.scoring import length_batches
from rlhf.models.text.corpus_split import read_documents, split_documents
from rlhf.models.text.tokens import Episodes, encode_response

Document = tuple[float, int]  # log p of its tokens, summed, in nats; how many these are


def validation_documents(corpus: Path, *, share: float | None, count: int, seed: int) -> list[str]:
    """Draw at most `count` documents that the base model was not pretrained on, in the order of the corpus; `share` is
    pretraining's validation share, None where the base model was not pretrained here.

    Raises:
        UserError: a row has no text (file:line), or there are fewer than two.
    """
    if share is None or not count:
        return []
    _, validation = split_documents(read_documents(corpus), validation_share=share, seed=seed)
    drawn = rng(seed, "evaluate", "documents").sample(range(len(validation)), min(count, len(validation)))
    return [validation[index] for index in sorted(drawn)]


def tax(panel: Panel, benchmarks: Mapping[str, Sequence[Item]], documents: Sequence[str]) -> Metrics:
    """Compute the metrics `eval_tax_*`. Policies read the texts at temperature 1, without any dialogue around them.

    Raises:
        UserError: a benchmark's choice alone fills the model's context.
    """
    backbone, room = panel.backbone, panel.params.batch_tokens
    metrics = _perplexities(backbone, documents, room, panel.seed)
    for name, items in benchmarks.items():
        metrics |= benchmark_metrics(_scored(backbone, items, name, room), f"eval_tax_{name}", panel.seed)
    return metrics


def benchmark_metrics(scored: Mapping[str, Scored], prefix: str, seed: int) -> Metrics:
    """Compute `<prefix>_<policy>`: accuracy (Wilson); `<prefix>_nats_<policy>`: nats a token of the right continuation,
    mean over items; of both `_gain`, PPO less SFT, and `_change`, PPO less base (paired bootstrap over items)."""
    metrics: Metrics = {f"{prefix}_items": len(scored["base"].correct)}
    nats = {policy: [-logprob for logprob in found.logprob] for policy, found in scored.items()}
    for policy, found in scored.items():
        metrics |= wilson(sum(found.correct), len(found.correct)).named(f"{prefix}_{policy}")
        metrics[f"{prefix}_nats_{policy}"] = math.fsum(nats[policy]) / len(nats[policy])
    for name, before in (("gain", "sft"), ("change", "base")):
        accuracy = paired_difference(scored["ppo"].correct, scored[before].correct, seed)
        surprise = paired_difference(nats["ppo"], nats[before], seed)
        metrics |= accuracy.named(f"{prefix}_{name}") | surprise.named(f"{prefix}_nats_{name}")
    return metrics


def perplexity(documents: Sequence[Document]) -> float:
    """Compute exp of the mean nats a token, over all tokens of all documents."""
    return math.exp(-math.fsum(nats for nats, _ in documents) / sum(tokens for _, tokens in documents))


@torch.no_grad()
def document_logprobs(
    backbone: Backbone, texts: Sequence[str], *, adapter: str | None, batch_tokens: int
) -> list[Document]:
    """Read each document as in pretraining: an EOS stands before it and is predicted behind it; text beyond the context
    is cut off."""
    rows = [encode_response(backbone.tokenizer, text)[: backbone.context - 1] for text in texts]
    batches = length_batches([1 + len(row) for row in rows], batch_tokens)

    def of(batch: Sequence[int]) -> list[float]:
        responses = [rows[i] for i in batch]
        start = [[backbone.tokenizer.eos_token_id]] * len(batch)
        episodes = Episodes.of(start, responses, pad_id=backbone.pad_id, device=backbone.device)
        forward = backbone.forward(episodes, adapter=adapter, temperature=1.0, states="response")
        nats: list[float] = (forward.logprobs.double() * episodes.mask).sum(1).tolist()
        return nats

    found = dict(zip(chain(*batches), chain(*current().map(batches, of)), strict=True))
    return [(found[i], len(row)) for i, row in enumerate(rows)]


def _scored(backbone: Backbone, items: Sequence[Item], name: str, batch_tokens: int) -> dict[str, Scored]:
    return for_each_policy(
        f"tax {name}", lambda adapter: score(backbone, items, adapter=adapter, batch_tokens=batch_tokens)
    )


def _perplexities(backbone: Backbone, texts: Sequence[str], batch_tokens: int, seed: int) -> Metrics:
    """Compute `eval_tax_perplexity_<policy>`, and PPO less SFT (`_gain`) and less base (`_change`); None without
    texts."""
    prefix = "eval_tax_perplexity"
    metrics: Metrics = {"eval_tax_documents": len(texts)}
    if not texts:
        return metrics | dict.fromkeys(f"{prefix}_{name}" for name in ("base", "sft", "ppo", "gain", "change"))
    read = for_each_policy(
        "tax documents", lambda adapter: document_logprobs(backbone, texts, adapter=adapter, batch_tokens=batch_tokens)
    )
    metrics |= {f"{prefix}_{policy}": perplexity(documents) for policy, documents in read.items()}
    for name, before in (("gain", "sft"), ("change", "base")):
        difference = bootstrap_difference(perplexity, read["ppo"], read[before], seed)
        metrics |= difference.named(f"{prefix}_{name}")
    return metrics
