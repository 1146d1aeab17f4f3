"""Draw the order in which examples are trained on from the seed."""

import math
import random
from collections.abc import Iterator, Sequence

import torch

from rlhf.core.seeding import generator, rng

_BUCKET = 32  # batches among which examples of like length are brought together


def training_order(
    lengths: Sequence[int], *, epochs: int, batch: int, group_by_length: bool, seed: int, stream: str
) -> list[int]:
    """Draw the order of the examples from the random stream `stream`, as indices into `lengths`.

    It holds `epochs` passes, each in another order, and as much of a further pass as fills the last batch. `lengths`
    are in tokens. With `group_by_length` the examples of a batch are of like length: less padding, less time.
    """
    total = math.ceil(epochs * len(lengths) / batch) * batch
    order: list[int] = []
    for epoch in range(math.ceil(total / len(lengths))):
        drawn = torch.randperm(len(lengths), generator=generator(seed, stream, "order", epoch)).tolist()
        order.extend(_grouped(drawn, lengths, batch, rng(seed, stream, "buckets", epoch)) if group_by_length else drawn)
    return order[:total]


def _grouped(order: list[int], lengths: Sequence[int], batch: int, draw: random.Random) -> Iterator[int]:
    """Sort each bucket by length, cut it into batches, and shuffle those, so that short ones do not come first."""
    for start in range(0, len(order), batch * _BUCKET):
        bucket = sorted(order[start : start + batch * _BUCKET], key=lambda index: lengths[index])
        full = len(bucket) // batch * batch
        batches = [bucket[at : at + batch] for at in range(0, full, batch)]
        draw.shuffle(batches)
        yield from (index for one in batches for index in one)
        yield from bucket[full:]
