"""Verify an export before it is kept: loaded back, it must give the numbers of the run's own model."""

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlhf.core.errors import UserError
from rlhf.core.seeding import rng
from rlhf.models.policy.backbone import Backbone

TOLERANCE = 1e-4  # of logits and scores; of numbers above 1, of their size
_LENGTHS = ((7, 5), (3, 9), (5, 1))  # tokens of prompts and of responses

Row = tuple[list[int], list[int]]


def probe_rows(backbone: Backbone) -> list[Row]:
    """Draw a few prompts and responses of random ordinary tokens, the responses ended by EOS."""
    tokenizer = backbone.tokenizer
    ordinary = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
    draw = rng(0, "export", "probe")
    return [
        ([draw.choice(ordinary) for _ in range(prompt)], [*(draw.choice(ordinary) for _ in range(n)), backbone.eos_id])
        for prompt, n in _LENGTHS
    ]


def padded(rows: list[Row], tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Make the batch of rows that `tokenizer(texts, padding=True)` would give: padded on the right, with a mask."""
    width = max(len(p) + len(r) for p, r in rows)
    blank = [[0] * (width - len(p) - len(r)) for p, r in rows]
    ids = [[*p, *r, *(tokenizer.pad_token_id for _ in b)] for (p, r), b in zip(rows, blank, strict=True)]
    mask = [[1] * (width - len(b)) + b for b in blank]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def must_agree(what: str, found: Float[Tensor, "*N"], ours: Float[Tensor, "*N"]) -> None:
    """Raise UserError if the export's numbers are off by more than the tolerance."""
    gap = float((found.double() - ours.double()).abs().max())
    if not gap <= TOLERANCE * max(1.0, float(ours.abs().max())):
        raise UserError(f"{what}: the exported model's numbers are off by {gap:.3g}; nothing was written")
