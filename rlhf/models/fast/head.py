"""Logprobs straight from hidden states: the language-model head fused with the log-softmax, a few rows at a time.

Logits of a whole batch are never in memory, neither forward nor for the backward pass: the gradient of a token's
logprob by its hidden state depends on nothing later, so it is computed while the logits are at hand.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlhf.core.products import matmul, product

# Logits exist for so many tokens at once, and in blocks of the vocabulary that keep them in the last-level cache (2^22
# floats are 16 MB). Few and wide products run at twice the speed of one with the whole vocabulary.
_CHUNK_ROWS = 1024
_CHUNK_ELEMENTS = 2**22


def fused_logprobs(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    ids: Int[Tensor, " N"],
    *,
    temperature: float,
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Compute log softmax((hidden W^T + b) / temperature)[ids] and the entropy, in nats, at least in float32.

    Gradients flow to `hidden` alone: d logprob / d hidden = (W[id] - p W) / temperature, where p is the softmax.
    """
    found = _FusedLogprobs.apply(hidden, weight, bias, ids, temperature)  # type: ignore[no-untyped-call] # autograd's
    logprobs, entropy = found
    return logprobs, entropy


class _FusedLogprobs(torch.autograd.Function):
    """Softmax in one pass over blocks of the vocabulary (Milakov & Gimelshein 2018).

    Totals are kept relative to the largest logit so far, and scaled down when a larger one comes.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes arguments by position
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        logprobs, entropy = (torch.empty(len(hidden), dtype=wide, device=hidden.device) for _ in range(2))
        slope = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), _CHUNK_ROWS):
            part = slice(start, start + _CHUNK_ROWS)
            done = _softmax(hidden[part], weight, bias, temperature, mix=slope is not None)
            own = weight[ids[part]]
            chosen = torch.linalg.vecdot(hidden[part].to(wide), own.to(wide))
            chosen = (chosen if bias is None else chosen + bias[ids[part]]) / temperature
            logprobs[part], entropy[part] = chosen - done.log_total, done.entropy
            if slope is not None and done.mixed is not None:
                slope[part] = (own - done.mixed.to(own.dtype)) / temperature
        ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return None if slope is None else slope * grads[0].unsqueeze(1).to(slope.dtype), None, None, None, None


class _Totals(NamedTuple):
    log_total: Tensor  # (N,) log of the sum of exp(logit / temperature)
    entropy: Tensor  # (N,)
    mixed: Tensor | None  # (N, D) p W, the mean row of W under the softmax


def _softmax(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float, *, mix: bool) -> _Totals:
    wide = torch.promote_types(hidden.dtype, torch.float32)
    count = max(1, _CHUNK_ELEMENTS // max(1, len(hidden)))
    top = hidden.new_full((len(hidden),), -torch.inf, dtype=wide)
    total, moment = torch.zeros_like(top), torch.zeros_like(top)
    mixed = torch.zeros_like(hidden, dtype=wide) if mix else None
    for start in range(0, len(weight), count):
        block = weight[start : start + count]
        logits = _logits(hidden, block, None if bias is None else bias[start : start + count], temperature).to(wide)
        before, top = top, torch.maximum(top, logits.amax(1))
        shrink = (before - top).exp()
        odds = (logits - top.unsqueeze(1)).exp_()
        total = total * shrink + odds.sum(1)
        moment = moment * shrink + torch.linalg.vecdot(odds, logits)
        if mixed is not None:
            mixed.mul_(shrink.unsqueeze(1)).add_(matmul(odds.to(block.dtype), block))
    log_total = top + total.log()
    return _Totals(log_total, log_total - moment / total, None if mixed is None else mixed / total.unsqueeze(1))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Divide by the temperature before the product where that is exact enough: `hidden` is smaller than the logits."""
    if temperature == 1.0 or (bias is None and hidden.dtype in (torch.float32, torch.float64)):
        return product(hidden / temperature if temperature != 1.0 else hidden, weight, bias)
    logits = product(hidden, weight, bias)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
