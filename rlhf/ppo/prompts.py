"""Which prompts each iteration sees."""

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
    """The distinct prompts of a file of pairs, in order, and how many of them were left out for being over `longest`.

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
    """Raises UserError, naming the prompt, if one and its response do not fit the model's context together."""
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
        """The prompts of iteration 0, 1, ...; every prompt once an epoch, across the borders of batches."""
        places = range(iteration * size, (iteration + 1) * size)
        epochs = {place // len(self._prompts) for place in places}
        orders = {epoch: self._order(epoch) for epoch in epochs}
        return tuple(self._prompts[orders[p // len(self._prompts)][p % len(self._prompts)]] for p in places)

    def _order(self, epoch: int) -> list[int]:
        order = torch.randperm(len(self._prompts), generator=generator(self._seed, "ppo", "prompts", epoch))
        return [int(i) for i in order]


def _text(row: Mapping[str, object], key: str, path: Path, number: int) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise UserError(f"{path}:{number}: {key}: found {value!r}; text is needed")
    return value
