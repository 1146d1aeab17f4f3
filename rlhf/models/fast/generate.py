"""Sampling with a static key-value cache: every buffer is made once, and rows that have ended are dropped.

Axes: B episodes, P prompt tokens, R new tokens, S = P + R, G key-value heads, E head size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlhf.models.fast.blocks import Decoder
from rlhf.models.fast.packing import PackedAttention, Packing, Queries, attend
from rlhf.models.policy.logprobs import draw
from rlhf.models.policy.outputs import Generation, ends
from rlhf.models.policy.settings import Sampling


@dataclass(slots=True)
class KeyValueCache:
    """Keys and values of every layer. A row's prompt ends at column P - 1, whatever its length."""

    keys: list[Tensor]  # (B, G, P + R, E) each
    values: list[Tensor]
    visible: Bool[Tensor, "B 1 1 S"] | None  # False on the padding before a prompt; None if there is none
    used: int  # columns filled so far

    @classmethod
    def empty(cls, decoder: Decoder, mask: Bool[Tensor, "B P"], room: int, dtype: torch.dtype) -> "KeyValueCache":
        """Make room for the prompts under `mask` and for `room` new tokens."""
        rows, width = mask.shape
        shape = (rows, decoder.kv_heads, width + room, decoder.head_size)
        keys, values = ([torch.zeros(shape, dtype=dtype, device=mask.device) for _ in decoder.blocks] for _ in range(2))
        visible = torch.nn.functional.pad(mask, (0, room), value=True)[:, None, None]
        return cls(keys, values, None if bool(mask.all()) else visible, width)

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Keep only these rows."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.visible = None if self.visible is None else self.visible[rows]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Append a key and a value (B, G, E) to a layer and attend to all; heads that share a key count as queries."""
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, self.used], values[:, :, self.used] = k, v
        end = self.used + 1
        visible = None if self.visible is None else self.visible[..., :end]
        grouped = q.view(len(q), keys.shape[1], -1, q.shape[-1])
        return attend(grouped, keys[:, :, :end], values[:, :, :end], visible=visible).reshape(len(q), -1)


@torch.no_grad()
def generate(
    decoder: Decoder,
    head: Callable[[Tensor], Tensor],
    prompt_ids: Int[Tensor, "B P"],
    prompt_mask: Bool[Tensor, "B P"],
    sampling: Sampling,
    *,
    adapter: str | None,
    uniforms: Float[Tensor, "B R"] | None,
    end_ids: Sequence[int],
    pad_id: int,
) -> Generation:
    """As `Backbone.generate`."""
    width = sampling.max_new_tokens
    cache, states = _prefill(decoder, prompt_ids, prompt_mask, adapter, width)
    result = _blank(len(prompt_ids), width, states, pad_id)
    rows = torch.arange(len(prompt_ids), device=states.device)  # which episodes the cache's rows are
    alive = torch.ones_like(rows, dtype=torch.bool)
    positions = prompt_mask.sum(1)
    for step in range(width):
        column = None if uniforms is None else uniforms[rows, step]
        drawn = draw(head(states), column, temperature=sampling.temperature)
        now = rows[alive]
        result.mask[now, step] = True
        result.response_ids[now, step] = drawn.ids[alive]
        result.logprobs[now, step] = drawn.logprobs[alive]
        result.entropy[now, step] = drawn.entropy[alive]
        result.states[now, step] = states[alive]
        ended = ends(drawn.ids, end_ids)
        result.ended[now] = ended[alive]
        alive, ids = alive & ~ended, drawn.ids
        left = int(alive.sum())
        if left == 0 or step == width - 1:
            break
        if 2 * left <= len(rows):  # gathering the cache costs about as much as a step: only when it halves
            keep = alive.nonzero().squeeze(1)
            cache.select(keep)
            rows, ids, positions, alive = rows[keep], ids[keep], positions[keep], alive[keep]
        states = decoder(ids, positions, adapter, cache.attend)
        cache.used, positions = cache.used + 1, positions + 1
    return _trimmed(result, step + 1)


def _prefill(
    decoder: Decoder, ids: Int[Tensor, "B P"], mask: Bool[Tensor, "B P"], adapter: str | None, room: int
) -> tuple[KeyValueCache, Float[Tensor, "B D"]]:
    """Run the prompts without their padding; the last layer for each prompt's last token only."""
    packing, layers = Packing.of(mask), len(decoder.blocks)
    queries = _last_tokens(mask, packing)
    within = PackedAttention(packing, layers, queries)
    dtype = next(decoder.norm.parameters()).dtype
    cache = KeyValueCache.empty(decoder, mask, room, dtype)

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        for store, new in ((cache.keys, k), (cache.values, v)):
            store[layer][:, :, : mask.shape[1]].transpose(1, 2)[mask] = new
        return within(layer, q, k, v)

    return cache, decoder(ids[mask], packing.positions, adapter, attention, queries.index)


def _last_tokens(mask: Bool[Tensor, "B P"], packing: Packing) -> Queries:
    lengths = mask.sum(1)
    own = Packing(lengths - 1, None, len(mask), 1)
    keys = torch.arange(packing.width, device=mask.device)
    return Queries(lengths.cumsum(0) - 1, own, (keys < lengths.unsqueeze(1))[:, None, None])


def _blank(count: int, width: int, states: Float[Tensor, "B D"], pad_id: int) -> Generation:
    device, wide = states.device, torch.promote_types(states.dtype, torch.float32)
    return Generation(
        response_ids=torch.full((count, width), pad_id, device=device),
        mask=torch.zeros(count, width, dtype=torch.bool, device=device),
        logprobs=torch.zeros(count, width, dtype=wide, device=device),
        entropy=torch.zeros(count, width, dtype=wide, device=device),
        states=states.new_zeros(count, width, states.shape[1]),
        ended=torch.zeros(count, dtype=torch.bool, device=device),
    )


def _trimmed(result: Generation, width: int) -> Generation:
    return Generation(
        result.response_ids[:, :width],
        result.mask[:, :width],
        result.logprobs[:, :width],
        result.entropy[:, :width],
        result.states[:, :width],
        result.ended,
    )
