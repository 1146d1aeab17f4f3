"""The sequences on which an engine is held against the model itself."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf.core.seeding import generator, rng

Row = tuple[tuple[int, ...], tuple[int, ...]]  # ids of a prompt and of the response to it

_PROMPTS = (2, 9, 5)  # tokens; unequal, so that a batch of them is padded on the left
_RESPONSES = (5, 3, 4, 2)
STEPS = 5  # tokens sampled after each prompt


@dataclass(frozen=True, slots=True)
class Probe:
    """Prompts with responses to score, and the random numbers of responses to sample."""

    rows: tuple[Row, ...]
    uniforms: Float[Tensor, "B R"]

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Return the prompts' ids."""
        return [prompt for prompt, _ in self.rows]

    def without_longest(self) -> "Probe":
        """Select the short sequences."""
        count = len(_PROMPTS)
        return Probe(self.rows[:count], self.uniforms[:count])

    @property
    def responses(self) -> list[tuple[int, ...]]:
        """Return the responses' ids."""
        return [response for _, response in self.rows]


def draw_probe(tokenizer: PreTrainedTokenizerBase, *, context: int, longest: int | None = None) -> Probe:
    """Draw sequences of ordinary tokens, always the same for a tokenizer.

    Rotary tables that change with length, sliding windows and tables of positions that end show at length alone, so
    that one of them is as long as a run's sequences become.

    Args:
        tokenizer: its tokens are drawn, but for special ones.
        context: tokens that the model promises to take.
        longest: tokens of the longest sequence that the run will make; None for short ones alone.
    """
    special = set(tokenizer.all_special_ids)
    ordinary = sorted(set(tokenizer.get_vocab().values()) - special)
    draw = rng(0, "conformance", "rows")
    lengths = [(prompt, response) for prompt, response in zip(_PROMPTS, _RESPONSES, strict=False)]
    if longest is not None:
        lengths.append((min(longest, context) - STEPS, _RESPONSES[-1]))

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.choice(ordinary) for _ in range(count))

    fitting = [(min(prompt, context - STEPS), response) for prompt, response in lengths]
    numbers = torch.rand(len(fitting), STEPS, generator=generator(0, "conformance", "uniforms"))
    return Probe(tuple((tokens(max(1, prompt)), tokens(response)) for prompt, response in fitting), numbers)
