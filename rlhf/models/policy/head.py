"""From hidden states to logits, as the model itself does it."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from rlhf.core.errors import UserError
from rlhf.core.seeding import generator

Head = Callable[[Float[Tensor, "N D"]], Float[Tensor, "N V"]]
_SIZES = (1.0, 30.0)  # of the states on which the two ways are compared: a cap on logits shows where they are large
_NEAR = 1e-5  # of the largest logit


def find_head(model: PreTrainedModel) -> tuple[Head, int]:
    """Find the function from hidden states to logits, and D, the width of the states that it reads.

    For most models it is one linear layer, which is called as it is. Some do more in their own forward pass (a scale, a
    cap, a layer and a norm before it): those are asked for all of it, with their decoder replaced by one that returns
    the given states. Which kind a model is, a few drawn states tell.

    Raises:
        UserError: the model has no language-model head.
    """
    layer = model.get_output_embeddings()
    weight = getattr(layer, "weight", None)
    if not isinstance(layer, nn.Module) or not isinstance(weight, Tensor):
        raise UserError(f"{type(model).__name__} has no language-model head of one layer, which scoring needs")
    width = int(weight.shape[1])
    whole = _Whole(model)
    return (layer if _same(layer, whole, width, weight) else whole), width


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """Find the part of a causal language model that gives the hidden states.

    Raises:
        UserError: it has none of its own.
    """
    found: Any = model.base_model if model.base_model is not model else model.get_decoder()
    if found is model or not isinstance(found, nn.Module):
        raise UserError(f"{type(model).__name__} has no decoder apart from its head, which scoring needs")
    return found


class _Whole:
    """The model's own forward pass over given hidden states; it shares every layer but the decoder."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._shell: Any = copy.copy(model)
        self._shell.__dict__ = {**model.__dict__, "_modules": dict(model._modules)}
        self._given = _Given()
        decoder = decoder_of(model)
        for name, module in model._modules.items():
            if module is decoder:
                self._shell._modules[name] = self._given

    def __call__(self, states: Float[Tensor, "N D"]) -> Float[Tensor, "N V"]:
        self._given.states = states.unsqueeze(0)
        ids = torch.zeros(1, len(states), dtype=torch.int64, device=states.device)
        logits: Tensor = self._shell(input_ids=ids, use_cache=False).logits[0]
        self._given.states = None
        return logits


class _Given(nn.Module):
    """In a decoder's place: returns the states that it was given, whatever it is called with."""

    states: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutputWithPast:
        return BaseModelOutputWithPast(last_hidden_state=self.states)


@torch.no_grad()
def _same(layer: nn.Module, whole: _Whole, width: int, weight: Tensor) -> bool:
    """Tell whether the layer alone gives the model's logits. A model that cannot be asked so is taken to be plain; the
    stage conformance has the last word."""
    drawn = torch.randn(3, width, generator=generator(0, "head"))
    for size in _SIZES:
        states = (size * drawn).to(device=weight.device, dtype=weight.dtype)
        alone = layer(states).double()
        try:
            own = whole(states).double()
        except Exception:
            return True
        if own.shape != alone.shape or not bool((own - alone).abs().max() <= _NEAR * alone.abs().max()):
            return False
    return True
