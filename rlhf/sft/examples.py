"""Turn preference rows into training examples: a response and its EOS are learnt, the prompt is only read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedTokenizerBase

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.conversation import shown
from rlhf.core.errors import UserError
from rlhf.core.seeding import generator
from rlhf.models.text.control import unsigned
from rlhf.models.text.tokens import encode_prompt, encode_response
from rlhf.training.batches import Batch, in_batches, response_batch


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt and the response to learn."""

    id: str
    text: str  # of the prompt
    prompt: list[int]
    response: list[int]  # its end token at its end
    shown: str = ""  # the prompt as readers see it

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


KEYS: dict[str, tuple[str, ...]] = {"chosen": ("chosen",), "both": ("chosen", "rejected")}


def read_examples(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    context: int,
    limit: int,
    seed: int,
    replies: Literal["chosen", "both"] = "chosen",
) -> list[Example]:
    """Read prompts and responses of a pairs file: a drawn `limit` of them (0: all), in the file's order.

    replies: the chosen response of each pair, or both; of both, each is an example of its own.

    Rows that annotators of the project's own questions have labelled are left out: that one of a policy's replies was
    preferred to another makes it no demonstration, and what PPO starts from stays the same when answers are added.

    Raises:
        UserError: the file is empty; a field is missing or no string; a sequence is longer than the context.
    """
    rows = [(number, row) for number, row in iter_jsonl(path) if row.get("labelled_by") is None]
    if not rows:
        raise UserError(f"{path}: empty; at least one pair is needed (see the counts in metrics/prepare.json)")
    found = [(number, row, key) for number, row in rows for key in KEYS[replies]]
    kept = list(range(len(found)))
    if 0 < limit < len(found):
        drawn = torch.randperm(len(found), generator=generator(seed, "sft", "examples", path.stem))[:limit]
        kept = sorted(drawn.tolist())
    return [
        _example(row, key, f"{path}:{number}", tokenizer, context)
        for number, row, key in (found[index] for index in kept)
    ]


def _example(
    row: dict[str, object], reply: str, where: str, tokenizer: PreTrainedTokenizerBase, context: int
) -> Example:
    for key in ("id", "prompt", reply):
        if not isinstance(row.get(key), str):
            raise UserError(f"{where}: {key!r} must be a string, found {row.get(key)!r}")
    prompt = str(row["prompt"])
    ids = encode_prompt(tokenizer, prompt), encode_response(tokenizer, str(row[reply]))
    example = Example(str(row["id"]), prompt, *ids, shown(row, unsigned(prompt)))
    if len(example) > context:
        raise UserError(
            f"{where}: the prompt has {len(example.prompt)} tokens and the {reply} response {len(example.response)}; "
            f"the model's context is {context}: lower data.max_tokens"
        )
    return example


def collator(pad_id: int) -> Callable[[list[Example]], Batch]:
    """Make a function from examples to a batch in which the responses are learnt (`response_batch`)."""
    return lambda examples: response_batch([(example.prompt, example.response) for example in examples], pad_id)


def validation_batches(examples: Sequence[Example], size: int, pad_id: int) -> list[Batch]:
    """Make the batches of a validation loss: by length, then by id."""
    return in_batches(sorted(examples, key=lambda example: example.id), size, collator(pad_id))
