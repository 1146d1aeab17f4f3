"""Turn token ids into the batches that models are trained and validated on."""

from collections.abc import Callable, Sequence, Sized
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

S = TypeVar("S", bound=Sized)

IGNORED = -100  # the label of a token that no loss counts
Batch = dict[str, Tensor]  # input_ids, labels and, where a token could see padding, attention_mask, each (B, T)


def response_batch(rows: Sequence[tuple[list[int], list[int]]], pad_id: int) -> Batch:
    """Make a batch of (prompt, response) rows in which the response tokens alone are labels.

    Padded on the right to the longest row: (B, T) ids, mask and labels.
    """
    ids = [torch.tensor([*prompt, *response]) for prompt, response in rows]
    labels = [torch.tensor([IGNORED] * len(prompt) + response) for prompt, response in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }


def in_batches(examples: Sequence[S], size: int, collate: Callable[[list[S]], Batch]) -> list[Batch]:
    """Cut validation examples into batches, shortest examples first, so that little of a batch is padding."""
    ordered = sorted(examples, key=len)
    return [collate(ordered[start : start + size]) for start in range(0, len(ordered), size)]
