"""The alignment tax: what a policy has forgotten, on small language benchmarks in JSON lines.

Two forms of rows: {"context": text, "continuation": text}, where the continuation is to be predicted (LAMBADA: the last
word), and {"query": text, "choices": [text, ...], "gold": number}, where the right choice is to be likeliest (COPA).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.stats import paired_difference, wilson
from rlhf.models.backbone import Backbone
from rlhf.models.scoring import Row, length_batches
from rlhf.models.tokens import Episodes, encode_prompt, encode_response

Metrics = dict[str, object]


@dataclass(frozen=True, slots=True)
class Item:
    """A context and what may follow it; with a single choice the question is whether the model would say it."""

    context: str
    choices: tuple[str, ...]  # each begins with a space
    gold: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A policy on a benchmark; one entry an item, in order."""

    correct: tuple[float, ...]  # 1: the gold choice is the likeliest a token; of a single one, greedy decoding says it
    logprob: tuple[float, ...]  # nats a token of the gold choice, below 0


def read_benchmark(path: Path) -> list[Item]:
    """All rows of a benchmark.

    Raises:
        UserError: file:line, what was found and what is expected; or there are no rows.
    """
    items = [_item(f"{path}:{number}", row) for number, row in iter_jsonl(path)]
    if not items:
        raise UserError(f"{path}: no rows; at least one is needed")
    return items


@torch.no_grad()
def score(backbone: Backbone, items: Sequence[Item], *, adapter: str | None, batch_tokens: int) -> Scored:
    """Put a benchmark to one adapter (None: the base model). A context that is too long loses its beginning.

    Raises:
        UserError: a choice alone fills the model's context.
    """
    rows = _rows(backbone, items)
    found: list[list[tuple[float, bool]]] = [[(0.0, False)] * len(item.choices) for item in items]
    order: list[tuple[int, int]] = [(place, k) for place, item in enumerate(items) for k in range(len(item.choices))]
    for batch in length_batches([len(p) + len(r) for p, r in rows], batch_tokens):
        prompts, responses = [rows[i][0] for i in batch], [rows[i][1] for i in batch]
        episodes = Episodes.of(prompts, responses, pad_id=backbone.pad_id, device=backbone.device)
        logprobs = backbone.forward(episodes, adapter=adapter, temperature=1.0).logprobs.double().sum(1).tolist()
        said = _greedy(backbone, episodes, adapter)
        for i, logprob, response, words in zip(batch, logprobs, responses, said, strict=True):
            place, k = order[i]
            found[place][k] = (logprob / len(response), words[: len(response)] == list(response))
    return Scored(
        tuple(float(_right(item, scores)) for item, scores in zip(items, found, strict=True)),
        tuple(scores[item.gold][0] for item, scores in zip(items, found, strict=True)),
    )


def tax_metrics(before: Scored, after: Scored, prefix: str, seed: int) -> Metrics:
    """`<prefix>accuracy_{before,after}` with Wilson's intervals and their difference `accuracy_change`, after less
    before, by a paired bootstrap over items; `perplexity_{before,after}` a token of the gold continuation, and
    `logprob_change` in nats a token, the mean over items."""
    metrics: Metrics = {f"{prefix}items": len(before.correct)}
    for name, scored in (("before", before), ("after", after)):
        metrics |= wilson(sum(scored.correct), len(scored.correct)).named(f"{prefix}accuracy_{name}")
        metrics[f"{prefix}perplexity_{name}"] = math.exp(-sum(scored.logprob) / len(scored.logprob))
    change = paired_difference(after.correct, before.correct, seed)
    nats = paired_difference(after.logprob, before.logprob, seed)
    return metrics | change.named(f"{prefix}accuracy_change") | nats.named(f"{prefix}logprob_change")


def _right(item: Item, scores: Sequence[tuple[float, bool]]) -> bool:
    if len(scores) == 1:
        return scores[0][1]
    return max(range(len(scores)), key=lambda k: scores[k][0]) == item.gold


def _rows(backbone: Backbone, items: Sequence[Item]) -> list[Row]:
    """Ids of each choice behind its context. All contexts are cut to what the longest choice leaves, so that neither
    batches nor neighbours change what a policy is shown."""
    tokenizer = backbone.tokenizer
    choices = [[encode_response(tokenizer, choice, ended=False) for choice in item.choices] for item in items]
    longest = max(len(ids) for each in choices for ids in each)
    if longest >= backbone.context:
        raise UserError(f"a benchmark's choice of {longest} tokens fills the model's context of {backbone.context}")
    room = backbone.context - longest
    contexts = [encode_prompt(tokenizer, item.context)[-room:] for item in items]
    return [(context, ids) for context, each in zip(contexts, choices, strict=True) for ids in each]


def _greedy(backbone: Backbone, episodes: Episodes, adapter: str | None) -> list[list[int]]:
    """What greedy decoding says after each prompt."""
    generation = backbone.generate(
        episodes.prompt_ids,
        episodes.prompt_mask,
        adapter=adapter,
        max_new_tokens=episodes.response_ids.shape[1],
        temperature=1.0,
        uniforms=None,
    )
    lengths = generation.mask.sum(1).tolist()
    return [row[:length] for row, length in zip(generation.response_ids.tolist(), lengths, strict=True)]


def _item(origin: str, row: dict[str, object]) -> Item:
    context = row.get("context", row.get("query"))
    choices = [row["continuation"]] if "continuation" in row else row.get("choices")
    gold = row.get("gold", 0)
    if not isinstance(context, str) or not context.strip():
        raise UserError(f"{origin}: context or query: expected text, found {context!r:.60}")
    if not isinstance(choices, list) or not choices:
        raise UserError(f"{origin}: expected a continuation, or a list of choices, found {choices!r:.60}")
    texts = [f" {choice.strip()}" for choice in choices if isinstance(choice, str) and choice.strip()]
    if len(texts) != len(choices):
        raise UserError(f"{origin}: continuation or choices: expected text, found {choices!r:.60}")
    if not isinstance(gold, int) or isinstance(gold, bool) or not 0 <= gold < len(texts):
        raise UserError(f"{origin}: gold: expected the place of a choice, 0 to {len(texts) - 1}, found {gold!r:.20}")
    if len(texts) > 1 and "gold" not in row:
        raise UserError(f"{origin}: gold: missing; it is the place of the right choice")
    return Item(context.rstrip(), tuple(texts), gold)
