"""Measure the alignment tax, what a policy has forgotten, on small language benchmarks in JSON lines.

Two forms of rows: {"context": text, "continuation": text}, where the continuation is to be predicted (LAMBADA: the last
word), and {"query": text, "choices": [text, ...], "gold": number}, where the right choice is to be likeliest (COPA).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.inputs import input_files
from rlhf.core.processes import current
from rlhf.core.seeding import rng
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.scoring import Row, length_batches
from rlhf.models.text.tokens import Episodes, encode_response, encode_text

Metrics = dict[str, object]

RESERVED = ("perplexity", "documents")  # other metrics of the tax have these names


@dataclass(frozen=True, slots=True)
class Item:
    """A context and its possible continuations; with a single one the question is whether the model would say it."""

    context: str
    choices: tuple[str, ...]  # each begins with a space
    gold: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A policy's results on a benchmark; one entry an item, in order."""

    correct: tuple[float, ...]  # 1: the gold choice is the likeliest a token; of a single one, greedy decoding says it
    logprob: tuple[float, ...]  # nats a token of the gold choice, below 0


def read_benchmarks(path: Path, *, count: int, seed: int) -> dict[str, list[Item]]:
    """Read at most `count` items, drawn by the seed (0: all), of a benchmark file, or of each `.jsonl` and `.jsonl.gz`
    in a folder, by its name in lower case as it stands in metrics; an empty folder has none.

    Raises:
        UserError: nothing is at `path`, something in the folder is no benchmark, two files have the same name in
            metrics or a reserved one, or as `read_benchmark`.
    """
    files = input_files(path, (".jsonl", ".jsonl.gz"), key="evaluate.tax.path")
    found: dict[str, list[Item]] = {}
    for file in files:
        name = re.sub(r"[^a-z0-9]+", "_", file.name.partition(".")[0].lower()).strip("_")
        if not name or name in found or name in RESERVED:
            raise UserError(f"{file}: its metrics would be called {name!r}, which is empty or taken; rename the file")
        items = read_benchmark(file)
        drawn = rng(seed, "evaluate", "tax", name).sample(range(len(items)), min(count or len(items), len(items)))
        found[name] = [items[index] for index in sorted(drawn)]
    return found


def read_benchmark(path: Path) -> list[Item]:
    """Read all rows of a benchmark.

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
    order: list[tuple[int, int]] = [(index, k) for index, item in enumerate(items) for k in range(len(item.choices))]
    batches = length_batches([len(p) + len(r) for p, r in rows], batch_tokens)

    def of(batch: Sequence[int]) -> list[tuple[float, bool]]:
        prompts, responses = [rows[i][0] for i in batch], [rows[i][1] for i in batch]
        episodes = Episodes.of(prompts, responses, pad_id=backbone.pad_id, device=backbone.device)
        logprobs = backbone.forward(episodes, adapter=adapter, temperature=1.0).logprobs.double().sum(1).tolist()
        single = any(len(items[order[i][0]].choices) == 1 for i in batch)  # others are not asked what they would say
        said = _greedy(backbone, episodes, adapter) if single else [[]] * len(batch)
        return [
            (logprob / len(response), words[: len(response)] == list(response))
            for logprob, response, words in zip(logprobs, responses, said, strict=True)
        ]

    for i, (logprob, right) in zip(chain(*batches), chain(*current().map(batches, of)), strict=True):
        index, k = order[i]
        found[index][k] = (logprob, right)
    return Scored(
        tuple(float(_right(item, scores)) for item, scores in zip(items, found, strict=True)),
        tuple(scores[item.gold][0] for item, scores in zip(items, found, strict=True)),
    )


def _right(item: Item, scores: Sequence[tuple[float, bool]]) -> bool:
    if len(scores) == 1:
        return scores[0][1]
    return max(range(len(scores)), key=lambda k: scores[k][0]) == item.gold


def _rows(backbone: Backbone, items: Sequence[Item]) -> list[Row]:
    """Encode each choice behind its context. All contexts are cut to the room that the longest choice leaves, so that
    neither batches nor neighbours change what a policy is shown."""
    tokenizer = backbone.tokenizer
    choices = [[encode_response(tokenizer, choice, ended=False) for choice in item.choices] for item in items]
    longest = max(len(ids) for each in choices for ids in each)
    if longest >= backbone.context:
        raise UserError(f"a benchmark's choice of {longest} tokens fills the model's context of {backbone.context}")
    room = backbone.context - longest
    contexts = [encode_text(tokenizer, item.context)[-room:] for item in items]
    return [(context, ids) for context, each in zip(contexts, choices, strict=True) for ids in each]


def _greedy(backbone: Backbone, episodes: Episodes, adapter: str | None) -> list[list[int]]:
    """Decode greedily after each prompt."""
    generation = backbone.generate(
        episodes.prompt_ids,
        episodes.prompt_mask,
        Sampling(episodes.response_ids.shape[1], temperature=1.0),
        adapter=adapter,
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
        raise UserError(f"{origin}: gold: expected the index of a choice, 0 to {len(texts) - 1}, found {gold!r:.20}")
    if len(texts) > 1 and "gold" not in row:
        raise UserError(f"{origin}: gold: missing; it is the index of the right choice")
    return Item(context.rstrip(), tuple(texts), gold)
