"""K reward heads as one module: linear, or with a hidden layer each."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Mlp(nn.Module):
    """Raw score of head k: outer_k · gelu(inner_k f + inner_bias_k) + bias_k. K heads, H hidden units, D features."""

    def __init__(self, features: int, members: int, units: int) -> None:
        """All weights start at 0; `reward` fits them."""
        super().__init__()
        self.inner = nn.Parameter(torch.zeros(members, units, features))
        self.inner_bias = nn.Parameter(torch.zeros(members, units))
        self.outer = nn.Parameter(torch.zeros(members, units))
        self.bias = nn.Parameter(torch.zeros(members))

    def forward(self, features: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Compute the raw scores."""
        hidden = nn.functional.gelu(torch.einsum("bd,khd->bkh", features, self.inner) + self.inner_bias)
        return (hidden * self.outer).sum(-1) + self.bias


def make_heads(features: int, members: int, units: int) -> nn.Linear | Mlp:
    """Make heads whose weights are 0; linear ones where `units` is 0."""
    if units:
        return Mlp(features, members, units)
    linear = nn.Linear(features, members)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
