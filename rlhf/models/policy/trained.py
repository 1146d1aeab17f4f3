"""Whether training moves an adapter and nothing else: its gradients through an engine, held against the model's own."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.conformance import FLOAT32_NATS, episodes_of
from rlhf.models.policy.lora import without_dropout
from rlhf.models.policy.probe import Probe
from rlhf.models.policy.truth import Truth
from rlhf.models.text.one_line import reason_of


@dataclass(frozen=True, slots=True)
class Movable:
    """What a step of training would do to an adapter."""

    reason: str | None  # why it cannot be trained through the engine, in one line; None where it can
    still: tuple[str, ...] = ()  # tensors without a gradient in the model itself, which no training moves


def check_training(backbone: Backbone, probe: Probe, adapter: str) -> Movable:
    """Compare the gradients of the responses' mean logprob, tensor by tensor, in train mode, the adapter's own dropout
    taken out.

    In float32 they must be equal within a thousandth of the largest; in other precisions rounding forbids that, and
    every tensor must get one. The adapter must be among the backbone's trainable ones.
    """
    weights, model = backbone.parameters_of(adapter), backbone.model
    own_word = Truth(model)
    try:
        with torch.enable_grad(), backbone.using(adapter), without_dropout(model, adapter):
            calm = torch.cat([score.logprobs for score in own_word.scores(probe.rows)])
            model.train()
            logprobs = torch.cat([own_word.score(row).logprobs for row in probe.rows])
            own = _gradients(logprobs, weights)
        restless = float((logprobs.detach() - calm).abs().max())
        episodes = episodes_of(backbone, probe)
        with torch.enable_grad():
            forward = backbone.forward(episodes, adapter=adapter, temperature=1.0, states="response")
            ours = _gradients(forward.logprobs[episodes.mask], weights)
    except Exception as error:
        return Movable(f"training through it fails ({reason_of(error)})")
    finally:
        model.eval()
    exact = next(model.parameters()).dtype == torch.float32
    if exact and not restless <= FLOAT32_NATS:
        return Movable(f"in train mode its logprobs are {restless:.2g} nats from those in eval mode: dropout stays on")
    return _compared(ours, own, exact=exact)


def _gradients(logprobs: Tensor, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor | None]:
    found = torch.autograd.grad(logprobs.mean(), list(weights.values()), allow_unused=True)
    return dict(zip(weights, found, strict=True))


def _compared(ours: Mapping[str, Tensor | None], own: Mapping[str, Tensor | None], *, exact: bool) -> Movable:
    sizes = {name: float(gradient.abs().max()) for name, gradient in own.items() if gradient is not None}
    largest = max(sizes.values(), default=0.0)
    for name, size in sizes.items():
        mine, true = ours[name], own[name]
        if mine is None or true is None:
            if size > 0:
                return Movable(f"it gives no gradient to {name}")
            continue
        gap = float((mine.double() - true.double()).abs().max())
        if exact and not gap <= FLOAT32_NATS * largest:
            return Movable(f"the gradient of {name} is off by {gap / largest:.2g} of the largest")
    return Movable(None, tuple(name for name in own if name not in sizes))
