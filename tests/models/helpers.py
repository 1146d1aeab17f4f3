"""Random episodes, tolerances, and plain-Python oracles in float64 that share no code with the library."""

import math
from collections.abc import Sequence

import torch

from rlhf.models.policy.backbone import Backbone
from rlhf.models.text.tokens import Episodes

# What two float32 passes over the tiny models may differ by, on any processor. Logits at temperature 0.7 and their
# log-sum-exps are below 16, where float32 rounds by up to 4.8e-7 an operation. Some twenty operations in a row (two
# layers, head, softmax), in an order that is the processor's own, make 1e-5, and two passes may err in opposite
# directions: 2e-5. Hidden states are divided by small standard deviations, which multiplies their errors. Seen: 4e-6
# and 1.3e-5. A wrong mask, position or temperature shows from 1e-2 on.
LOGPROBS = {"atol": 2e-5, "rtol": 1e-5}
STATES = {"atol": 1e-4, "rtol": 1e-4}


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
