"""GELU in its tanh form, as GPT-2 has it; the forward pass computes the slope for the backward pass.

PyTorch's CPU kernel spends four times as long on tanh as on a sigmoid, once forward and once backward. Here
0.5 x (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) (Hendrycks & Gimpel 2016), block by block so that
the blocks stay in the cache, and the backward pass is one product.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 2**17  # elements: half a megabyte of float32, the size of a core's second-level cache
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = _LINEAR * 0.044715


def tanh_gelu(x: Tensor) -> Tensor:
    """Compute GELU(x) in its tanh form, elementwise."""
    plain = x.numel() <= _BLOCK and not (torch.is_grad_enabled() and x.requires_grad)
    if plain or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return functional.gelu(x, approximate="tanh")
    output: Tensor = _TanhGelu.apply(x)  # type: ignore[no-untyped-call] # autograd's
    return output


class _TanhGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        output = torch.empty_like(x, memory_format=torch.contiguous_format)
        slope = torch.empty_like(output) if ctx.needs_input_grad[0] else None
        blocks = zip(
            torch.split(x.reshape(-1), _BLOCK),
            torch.split(output.view(-1), _BLOCK),
            torch.split((output if slope is None else slope).view(-1), _BLOCK),
            strict=True,
        )
        for part, out, steep in blocks:
            square = part * part
            gate = (square * _CUBIC).add_(_LINEAR).mul_(part).sigmoid_()
            torch.mul(part, gate, out=out)
            if slope is not None:  # gate + x gate (1 - gate) d(2u)/dx
                inner = square.mul_(3 * _CUBIC).add_(_LINEAR).mul_(out)
                torch.addcmul(inner, inner, gate, value=-1, out=steep).add_(gate)
        ctx.save_for_backward(slope)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor | None:
        (slope,) = ctx.saved_tensors
        return None if slope is None else grads[0] * slope
