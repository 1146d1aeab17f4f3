"""Multiply matrices by oneDNN where the run is portable: MKL's compatible path has the same bytes and half the speed.

oneDNN with its instruction set fixed gives one result on every processor with AVX2, at the speed of MKL's native path
(docs/portable.md). Elsewhere (native runs, GPUs, other precisions) these are torch's own products.
"""

from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rlhf.core.portable import applied

# Once torch is here the setting stands; asked anew in each layer it took 3 % of a small model's pass.
_PORTABLE = applied() and torch.backends.mkldnn.is_available()

# oneDNN reads a transposed weight of many rows up to 1.7 times as slowly. A copy costs less where it is read often
# enough, and the result has the same bits.
_WIDE, _ROWS = 2**18, 128


def by_onednn(x: Tensor) -> bool:
    """Tell whether products with `x` go through oneDNN: a portable run, on the CPU, in float32."""
    return _PORTABLE and x.device.type == "cpu" and x.dtype == torch.float32


def product(
    x: Float[Tensor, "*N I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None = None
) -> Float[Tensor, "*N O"]:
    """Compute x W^T + b, without gradients where oneDNN does it: `linear` has them."""
    if not by_onednn(x):
        return functional.linear(x, weight, bias)
    if weight.numel() >= _WIDE and not weight.is_contiguous() and x.numel() >= _ROWS * x.shape[-1]:
        weight = weight.contiguous()
    output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return output


def matmul(a: Float[Tensor, "N K"], b: Float[Tensor, "K M"]) -> Float[Tensor, "N M"]:
    """Compute A B without gradients where oneDNN does it."""
    return product(a, b.t()) if by_onednn(a) else a @ b


def linear(
    x: Float[Tensor, "*N I"], weight: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None = None
) -> Float[Tensor, "*N O"]:
    """Compute x W^T + b with gradients of all three, each by the same kind of product."""
    if not by_onednn(x):
        return functional.linear(x, weight, bias)
    output: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call] # autograd's
    return output


class _Linear(torch.autograd.Function):
    """y = x W^T + b; dx = G W, dW = G^T x, db = the sum of G's rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        rows, inputs = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return (
            matmul(rows, weight).reshape(x.shape) if need_x else None,
            matmul(rows.t(), inputs) if need_weight else None,
            rows.sum(0) if need_bias else None,
        )


def through_onednn(model: nn.Module) -> None:
    """Let every linear layer of a model compute by `linear`: torch's Linear and GPT-2's Conv1D, those of adapters too.

    Weights, names and what is saved stay as they are. Nothing happens in a native run.
    """
    from transformers.pytorch_utils import Conv1D

    if not _PORTABLE:
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.forward = partial(_of_linear, module)  # type: ignore[method-assign] # of this instance alone
        elif type(module) is Conv1D:
            module.forward = partial(_of_conv1d, module)  # type: ignore[method-assign] # as above


def _of_linear(module: nn.Linear, input: Tensor) -> Tensor:
    return linear(input, module.weight, module.bias)


def _of_conv1d(module: nn.Module, x: Tensor) -> Tensor:
    """GPT-2 stores its weights the other way round: (I, O)."""
    return linear(x, cast(Tensor, module.weight).t(), cast(Tensor, module.bias))
