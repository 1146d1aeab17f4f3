"""Which documents of the corpus a base model that is pretrained here never learns from."""

from collections.abc import Sequence

import torch

from rlhf.core.errors import UserError
from rlhf.core.seeding import generator


def split_documents(texts: Sequence[str], *, validation_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Training and held-out documents: a drawn share of whole documents is held out, at least one.

    Raises:
        UserError: fewer than two documents.
    """
    if len(texts) < 2:
        raise UserError(f"artifacts/prepare/corpus.jsonl: found {len(texts)} documents; pretraining needs at least 2")
    order = torch.randperm(len(texts), generator=generator(seed, "base", "held out")).tolist()
    count = max(1, round(validation_share * len(texts)))
    held_out = set(order[:count])
    return (
        [text for index, text in enumerate(texts) if index not in held_out],
        [text for index, text in enumerate(texts) if index in held_out],
    )
