"""Make up, where there are no real ones, a random GPT-2 and pairs as long as those of HH helpful-base.

Texts are made-up words, one token each, drawn by Zipf's law. Chosen replies hold more words of one half of the
vocabulary, so that there is something to learn. What is learnt means nothing; what it costs does.
"""

import json
import random
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from rlhf.core.artifacts import write_text

END = "<|endoftext|>"
FRAME = ("Human:", "Assistant:")  # every prompt has both
# Lengths in GPT-2 tokens of the 2352 readable pairs of HH helpful-base (test split), at these shares of the pairs.
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
LENGTHS = {
    "prompt": (8, 18, 28, 102, 201, 307, 596, 900),
    "chosen": (2, 11, 22, 43, 77, 126, 259, 400),
    "rejected": (2, 9, 17, 32, 59, 95, 241, 400),
}
_LEAN = 0.75  # share of a chosen reply's words that are of the even half


def draw_length(kind: str, at: float) -> int:
    """Find the length below which a share `at` in [0, 1) of the real ones lie, by lines between the quantiles."""
    place = bisect_right(SHARES, at) - 1
    low, high = LENGTHS[kind][place : place + 2]
    return round(low + (high - low) * (at - SHARES[place]) / (SHARES[place + 1] - SHARES[place]))


def rows(count: int, *, words: int, shrink: int, seed: int) -> Iterator[dict[str, str]]:
    """Draw rows {prompt, chosen, rejected} over `words` words. `shrink` divides the lengths, for dry runs."""
    draw = random.Random(seed)
    weights = list(accumulate(1 / (rank + 2) for rank in range(words)))

    def text(length: int, lean: float) -> str:
        drawn = draw.choices(range(words), cum_weights=weights, k=max(1, length))
        return " ".join(f"w{word & ~1 if draw.random() < lean else word | 1}" for word in drawn)

    for _ in range(count):
        prompt, chosen, rejected = (max(2, draw_length(kind, draw.random()) // shrink) for kind in LENGTHS)
        yield {
            "prompt": f"\n\n{FRAME[0]} {text(prompt - len(FRAME), 0.5)}\n\n{FRAME[1]}",
            "chosen": f" {text(chosen - 1, _LEAN)}",  # the end-of-text token is the last of its length
            "rejected": f" {text(rejected - 1, 1 - _LEAN)}",
        }


def write_pairs(path: Path, count: int, *, vocab: int, shrink: int = 1, seed: int = 0) -> None:
    """Write a file of pairs in the words of `write_model`'s tokenizer."""
    found = rows(count, words=(vocab - 1 - len(FRAME)) // 2 * 2, shrink=shrink, seed=seed)
    write_text(path, "".join(json.dumps(row) + "\n" for row in found))


def write_model(folder: Path, *, layers: int, width: int, heads: int, vocab: int, context: int) -> None:
    """Write a GPT-2 with drawn weights, in save_pretrained form, and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    ids = {f"w{i}": i for i in range(vocab - 1 - len(FRAME))}
    ids |= {word: len(ids) + i for i, word in enumerate([*FRAME, END])}
    made = Tokenizer(models.WordLevel(ids, unk_token=END))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=layers, n_embd=width, n_head=heads, vocab_size=vocab, n_positions=context,
        bos_token_id=vocab - 1, eos_token_id=vocab - 1,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    words = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, bos_token=END, pad_token=END)
    words.save_pretrained(folder)
