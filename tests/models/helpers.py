"""Random episodes, and plain-Python oracles in float64 that share no code with the library."""

import math
from collections.abc import Sequence

import torch

from rlhf.models.policy.backbone import Backbone
from rlhf.models.text.tokens import Episodes


def ragged(backbone: Backbone, *, count: int = 5, seed: int = 0, pad_id: int | None = None) -> Episodes:
    """Random episodes whose prompts have 3 to 9 tokens and whose responses have 1 to 8."""
    generator = torch.Generator().manual_seed(seed)

    def row(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (), generator=generator))
        return torch.randint(3, 300, (length,), generator=generator).tolist()

    return Episodes.of(
        [row(3, 10) for _ in range(count)],
        [row(1, 9) for _ in range(count)],
        pad_id=backbone.pad_id if pad_id is None else pad_id,
        device="cpu",
    )


def rows(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """The real tokens of each row."""
    return [[i for i, real in zip(r, m, strict=True) if real] for r, m in zip(ids.tolist(), mask.tolist(), strict=True)]


def log_softmax(logits: Sequence[float], temperature: float) -> list[float]:
    """By the definition, with exact summation."""
    scaled = [value / temperature for value in logits]
    top = max(scaled)
    log_total = top + math.log(math.fsum(math.exp(value - top) for value in scaled))
    return [value - log_total for value in scaled]


def entropy(logits: Sequence[float], temperature: float) -> float:
    """- sum p log p, in nats."""
    return -math.fsum(math.exp(value) * value for value in log_softmax(logits, temperature))
