"""Packing: the real tokens of all sequences in one row, for everything that works token by token.

Only attention needs to know which tokens belong together. For it tokens are laid out as a grid (B, T), each sequence
from column 0, so that a causal mask is enough: padding lies behind the real tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from rlhf.models.text.tokens import Episodes


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the N real tokens of B sequences are. T is the longest sequence's length."""

    positions: Int[Tensor, " N"]  # of each token in its sequence, from 0
    slots: Int[Tensor, " N"] | None  # of each token in the flattened grid (B * T); None if the grid is full
    rows: int  # B
    width: int  # T

    @classmethod
    def of(cls, mask: Bool[Tensor, "B W"]) -> "Packing":
        """Pack the tokens under `mask`; the real tokens of a row must have no gap between them."""
        lengths = mask.sum(1)
        width = int(lengths.max())
        positions = (mask.cumsum(1) - 1)[mask]
        if bool((lengths == width).all()):
            return cls(positions, None, len(mask), width)
        row = torch.arange(len(mask), device=mask.device).repeat_interleave(lengths)
        return cls(positions, row * width + positions, len(mask), width)

    def grid(self, packed: Float[Tensor, "N H E"]) -> Float[Tensor, "B H T E"]:
        """Lay out the heads of packed tokens for attention; zeros where there is no token."""
        full = packed
        if self.slots is not None:
            empty = packed.new_zeros(self.rows * self.width, *packed.shape[1:])
            full = empty.index_copy(0, self.slots, packed)
        return full.view(self.rows, self.width, *packed.shape[1:]).transpose(1, 2)

    def packed(self, grid: Float[Tensor, "B H T E"]) -> Float[Tensor, "N C"]:
        """Undo `grid`, heads side by side: C = H * E."""
        full = grid.transpose(1, 2).reshape(self.rows * self.width, -1)
        return full if self.slots is None else full.index_select(0, self.slots)


@dataclass(frozen=True, slots=True)
class Queries:
    """The tokens, of those in a Packing, for which the last layer is computed."""

    index: Int[Tensor, " M"]  # among the N packed tokens
    packing: Packing  # of the M tokens, on a grid of their own (B, Q)
    visible: Bool[Tensor, "B 1 Q T"]  # which keys each may look at


def before_responses(episodes: Episodes, packing: Packing) -> Queries:
    """Select the states that response tokens are drawn from: the token before each, in the order of `episodes.mask`."""
    prompts, mask = episodes.prompt_mask.sum(1), episodes.mask
    starts = episodes.sequence_mask.sum(1).cumsum(0) - episodes.sequence_mask.sum(1)
    positions = (prompts - 1).unsqueeze(1) + torch.arange(mask.shape[1], device=mask.device)
    keys = torch.arange(packing.width, device=mask.device)
    full = bool(mask.all())
    slots = None if full else mask.flatten().nonzero().squeeze(1)
    return Queries(
        index=(starts.unsqueeze(1) + positions)[mask],
        packing=Packing(positions[mask], slots, *mask.shape),
        visible=(keys <= positions.unsqueeze(2)).unsqueeze(1),
    )


@dataclass(frozen=True, slots=True)
class PackedAttention:
    """Causal attention within each packed sequence; in the last layer for some queries only, if there are any given."""

    packing: Packing
    layers: int
    queries: Queries | None

    def __call__(
        self, layer: int, q: Float[Tensor, "N H E"], k: Float[Tensor, "N G E"], v: Float[Tensor, "N G E"]
    ) -> Float[Tensor, "M C"]:
        """Attend; returns heads side by side (C = H * E), of all N tokens or of the M queries."""
        keys, values = self.packing.grid(k), self.packing.grid(v)
        if self.queries is None or layer < self.layers - 1:
            return self.packing.packed(attend(self.packing.grid(q), keys, values, causal=True))
        own = self.queries.packing
        some = own.grid(q.index_select(0, self.queries.index))
        return own.packed(attend(some, keys, values, visible=self.queries.visible))


def attend(
    q: Float[Tensor, "B H Q E"],
    k: Float[Tensor, "B G T E"],
    v: Float[Tensor, "B G T E"],
    *,
    visible: Bool[Tensor, "B 1 #Q T"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "B H Q E"]:
    """Compute softmax(q k^T / sqrt(E)) v over visible keys, or causally with Q = T. Heads may share keys (G < H)."""
    if (shared := q.shape[1] // k.shape[1]) > 1:
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal)
