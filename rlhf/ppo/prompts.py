"""Read the prompts, and choose those of each iteration."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.seeding import generator
from rlhf.models.text.tokens import encode_prompt
from rlhf.ppo.types import Prompt


def load_prompts(path: Path, tokenizer: PreTrainedTokenizerBase, *, longest: int | None) -> tuple[list[Prompt], int]:
    """Read the distinct prompts of a file of pairs, in order; also count those left out for more than `longest` tokens.

    Raises:
        UserError: a row has no prompt, or no prompt is left.
    """
    texts: dict[str, str] = {}  # several pairs may share a prompt; each is answered equally often
    for number, row in iter_jsonl(path):
        texts.setdefault(_text(row, "prompt", path, number), _text(row, "id", path, number))
    prompts = [Prompt(id, text, tuple(encode_prompt(tokenizer, text))) for text, id in texts.items()]
    kept = [prompt for prompt in prompts if longest is None or len(prompt.ids) <= longest]
    if not kept:
        raise UserError(f"{path}: no prompts left: {len(prompts)} read, none of at most {longest} tokens")
    return kept, len(prompts) - len(kept)


def check_fits(prompts: Iterable[Prompt], *, response_tokens: int, context: int) -> None:
    """Check that each prompt fits the model's context (tokens) together with its response.

    Raises:
        UserError: one does not, or has no tokens; it is named.
    """
    for prompt in prompts:
        if len(prompt.ids) + response_tokens > context:
            raise UserError(
                f"prompt {prompt.id}: {len(prompt.ids)} tokens and ppo.response_tokens {response_tokens} exceed the "
                f"model's context of {context}; set ppo.max_prompt_tokens to at most {context - response_tokens}"
            )
        if not prompt.ids:
            raise UserError(f"prompt {prompt.id}: it has no tokens")


class PromptStream:
    """An endless stream of prompts: one permutation after another, each drawn anew from the seed.

    Batch i is a function of (seed, i) alone, so that a resumed run sees what an uninterrupted one would.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int) -> None:
        self._prompts, self._seed = prompts, seed

    def batch(self, iteration: int, size: int) -> tuple[Prompt, ...]:
        """Choose the prompts of iteration 0, 1, ...; every prompt once an epoch, across the borders of batches."""
        count = len(self._prompts)
        positions = range(iteration * size, (iteration + 1) * size)
        orders = {epoch: self._order(epoch) for epoch in {position // count for position in positions}}
        return tuple(self._prompts[orders[position // count][position % count]] for position in positions)

    def _order(self, epoch: int) -> list[int]:
        order = torch.randperm(len(self._prompts), generator=generator(self._seed, "ppo", "prompts", epoch))
        return [int(i) for i in order]


def _text(row: Mapping[str, object], key: str, path: Path, number: int) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{path}:{number}: {key}: found {value!r}; text is needed")
    return value
