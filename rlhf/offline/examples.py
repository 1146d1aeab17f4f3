"""Training examples as token ids: preference pairs, and prompts with candidate responses."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.seeding import generator
from rlhf.models.text.tokens import encode_prompt, encode_response
from rlhf.training.batches import Batch, response_batch


@dataclass(frozen=True, slots=True)
class Candidates:
    """A prompt and K responses to it as token ids, and (if they were scored) their rewards. Of a pair: its weight,
    the margin by which the first response should lead, in logits, and the probability that the first is the better."""

    prompt: list[int]
    responses: tuple[list[int], ...]
    scores: tuple[float, ...] = ()
    weight: float = 1.0
    margin: float = 0.0
    target: float = 1.0

    def __len__(self) -> int:
        """Return the tokens of the longest row, prompt and response."""
        return len(self.prompt) + max(map(len, self.responses))

    @property
    def response_tokens(self) -> int:
        """Count the tokens of all K responses."""
        return sum(map(len, self.responses))


def read_pairs(
    path: Path, tokenizer: PreTrainedTokenizerBase, *, context: int, limit: int, seed: int
) -> list[Candidates]:
    """Read preference pairs, chosen first, EOS at each end: a drawn `limit` of them (0: all), in the file's order.

    Raises:
        UserError: the file is empty; a field is missing or no text; a sequence is longer than the context (file:line).
    """
    rows = list(iter_jsonl(path))
    if not rows:
        raise UserError(f"{path}: empty; at least one pair is needed (see the counts in metrics/prepare.json)")
    kept = drawn(len(rows), limit, seed, path.stem)
    return [_pair(rows[index][1], f"{path}:{rows[index][0]}", tokenizer, context) for index in kept]


def drawn(count: int, limit: int, seed: int, name: str) -> list[int]:
    """Draw `limit` of `count` indices (0: all) by the seed, in order."""
    if not 0 < limit < count:
        return list(range(count))
    places = torch.randperm(count, generator=generator(seed, "offline", "examples", name))[:limit]
    return sorted(int(index) for index in places)


def _pair(row: dict[str, object], where: str, tokenizer: PreTrainedTokenizerBase, context: int) -> Candidates:
    texts = []
    for key in ("prompt", "chosen", "rejected"):
        text = row.get(key)
        if not isinstance(text, str):
            raise UserError(f"{where}: {key}: expected text, found {text!r:.40}")
        texts.append(text)
    prompt = encode_prompt(tokenizer, texts[0])
    responses = tuple(encode_response(tokenizer, text) for text in texts[1:])
    weight, margin = (_number(row, key, where, default) for key, default in (("weight", 1.0), ("margin", 0.0)))
    target = _number(row, "target", where, 1.0)
    if not 0.5 <= target <= 1 or (target < 1 and margin):
        raise UserError(f"{where}: target: expected 0.5 to 1, and 1 beside a margin, found {target:g}")
    pair = Candidates(prompt, responses, weight=weight, margin=margin, target=target)
    if len(pair) > context:
        raise UserError(
            f"{where}: prompt and reply have {len(pair)} tokens; the model's context is {context}: "
            "lower data.max_tokens"
        )
    return pair


def _number(row: dict[str, object], key: str, where: str, default: float) -> float:
    """Read a weight, which is above 0, or a margin or target, which are not below 0."""
    value = row.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UserError(f"{where}: {key}: expected a number of 0 or more, found {value!r:.40}")
    return float(value)


def collator(pad_id: int) -> Callable[[list[Candidates]], Batch]:
    """Make a function from B examples of K candidates to a batch of B K rows, an example's rows side by side, padded on
    the right: (B K, T) ids, mask and labels, and where there are scores, (B, K) scores."""

    def collate(examples: list[Candidates]) -> Batch:
        rows = [(example.prompt, response) for example in examples for response in example.responses]
        batch = response_batch(rows, pad_id)
        if examples[0].scores:
            batch["scores"] = torch.tensor([example.scores for example in examples])
        return batch

    return collate
