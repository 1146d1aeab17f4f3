"""Linear layers with LoRA at no cost in the forward pass: W + (alpha / r) B A is kept merged, one copy an adapter.

The copy is merged again when an adapter's weights have changed, which is once an optimiser step. Gradients are those
of the low-rank form (Hu et al. 2021, eq. 3): the frozen weight gets none.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import Parameter
from transformers.pytorch_utils import Conv1D

from rlhf.core.products import linear, matmul, product


class Linear:
    """y = x W^T + b, and with an adapter + scale (x A^T) B^T. It shares the weights of the module it is made from."""

    def __init__(self, module: nn.Module) -> None:
        base = module.get_base_layer() if isinstance(module, LoraLayer) else module
        weight, bias = cast(Tensor, base.weight), cast(Tensor | None, base.bias)
        self.weight: Float[Tensor, "O I"] = weight.t() if isinstance(base, Conv1D) else weight
        self.bias: Float[Tensor, " O"] | None = bias
        self._adapters = _adapters(module) if isinstance(module, LoraLayer) else {}
        self._merged: dict[str, tuple[tuple[int, int], Tensor]] = {}
        self._packed: dict[str | None, tuple[tuple[int, int], Tensor]] = {}

    def __call__(self, x: Float[Tensor, "N I"], adapter: str | None) -> Float[Tensor, "N O"]:
        """Compute the layer's output under `adapter`; a layer that the adapter does not touch ignores it."""
        if adapter not in self._adapters:
            if _packing_pays(x, self.weight):
                return self._thin(x, None, self.weight, (0, 0))
            return linear(x, self.weight, self.bias)
        a, b, scale = self._adapters[adapter]
        if self.weight.dtype not in (torch.float32, torch.float64):
            # In bf16 a merged weight would round small updates away.
            update = linear(linear(x.to(a.dtype), a), b) * scale
            return linear(x, self.weight, self.bias) + update.to(x.dtype)
        merged = self.merged(adapter)
        if torch.is_grad_enabled() and (x.requires_grad or a.requires_grad):
            given = (x, a, b, merged, self.bias, scale)
            output: Tensor = _MergedLoRA.apply(*given)  # type: ignore[no-untyped-call] # autograd's
            return output
        if _packing_pays(x, merged):
            return self._thin(x, adapter, merged, self._merged[adapter][0])
        return linear(x, merged, self.bias)

    def _thin(
        self, x: Float[Tensor, "N I"], adapter: str | None, weight: Float[Tensor, "O I"], version: tuple[int, int]
    ) -> Float[Tensor, "N O"]:
        """Compute x W^T + b by a copy of W in oneDNN's own order, made once for each version of the weight.

        A decode loop is bound by reading weights. Measured on two cores, 16 rows, weights not in the cache: a head of
        50257 x 768 takes 12 ms instead of 25, a layer of 3072 x 768 takes .8 instead of 1.2.
        """
        known = self._packed.get(adapter)
        if known is None or known[0] != version:
            known = (version, torch.ops.mkldnn._reorder_linear_weight(weight.detach(), len(x)))
            self._packed[adapter] = known
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, known[1], self.bias, "none", [], "")
        return output

    @torch.no_grad()
    def merged(self, adapter: str) -> Float[Tensor, "O I"]:
        """Return W + scale B A, merged again if A or B has changed in place since."""
        a, b, scale = self._adapters[adapter]
        version = (a._version, b._version)
        known = self._merged.get(adapter)
        if known is not None and known[0] == version:
            return known[1]
        weight = torch.empty_like(self.weight) if known is None else known[1]
        torch.addmm(self.weight, b.to(weight.dtype), a.to(weight.dtype), alpha=scale, out=weight)
        self._merged[adapter] = (version, weight)
        return weight


class _MergedLoRA(torch.autograd.Function):
    """Forward with the merged weight; backward to x, A and B.

    With G = dL/dy: dx = G (W + sBA), dB = s G^T (x A^T), dA = s (G B)^T x. Nothing of size O x I is made.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd passes arguments by position
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, merged: Tensor, bias: Tensor | None, scale: float
    ) -> Tensor:
        ctx.save_for_backward(x, a, b, merged)
        ctx.scale = scale
        return product(x, merged, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None, None]:
        (grad,) = grads
        x, a, b, merged = ctx.saved_tensors
        # Each thin product in the order that is fastest on a CPU, up to several times.
        low = product(grad, b.t().contiguous()) * ctx.scale
        grad_x = matmul(grad, merged) if ctx.needs_input_grad[0] else None
        grad_b = matmul(product(x, a).t(), grad).t() * ctx.scale
        return grad_x, matmul(low.t(), x), grad_b, None, None, None


def _packing_pays(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not (torch.is_grad_enabled() and x.requires_grad)
        and 2 <= len(x) <= 64
        and weight.numel() >= 2**18
        and torch.backends.mkldnn.is_available()
    )


def _adapters(module: LoraLayer) -> dict[str, tuple[Parameter, Parameter, float]]:
    return {
        name: (cast(Parameter, a.weight), cast(Parameter, module.lora_B[name].weight), float(module.scaling[name]))
        for name, a in module.lora_A.items()
    }
