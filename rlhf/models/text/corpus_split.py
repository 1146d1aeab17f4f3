"""Read the corpus of a base model that is pretrained here, and split it into training and validation documents."""

from collections.abc import Sequence
from pathlib import Path

import torch

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.seeding import generator


def read_documents(path: Path) -> list[str]:
    """Read the documents of a corpus, in order.

    Raises:
        UserError: the file is missing, or a row has no text (file:line).
    """
    texts = []
    for number, row in iter_jsonl(path):
        text = row.get("text")
        if not isinstance(text, str):
            raise UserError(f"{path}:{number}: text: expected text, found {text!r:.40}")
        texts.append(text)
    return texts


def split_documents(texts: Sequence[str], *, validation_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Draw a share of the documents for validation, at least one; return training and validation documents, in order.

    Raises:
        UserError: fewer than two documents.
    """
    if len(texts) < 2:
        raise UserError(f"artifacts/prepare/corpus.jsonl: found {len(texts)} documents; pretraining needs at least 2")
    order = torch.randperm(len(texts), generator=generator(seed, "base", "held out")).tolist()
    count = max(1, round(validation_share * len(texts)))
    validation = set(order[:count])
    return (
        [text for index, text in enumerate(texts) if index not in validation],
        [text for index, text in enumerate(texts) if index in validation],
    )
