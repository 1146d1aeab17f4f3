"""Tell a server that samples with an older policy from one that rounds otherwise."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rlhf.core.masked import masked_mean
from rlhf.ppo.guards import SelfCheckError

CLOSER = 2.0  # how many times closer to another policy than to this one its logprobs must be


@contextmanager
def holding(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Run the block with other weights in the parameters, and put theirs back, bit for bit."""
    own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        _put(parameters, weights)
        yield
    finally:
        _put(parameters, own)


def _put(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def check_fresh(
    sampled: Float[Tensor, "B R"],
    now: Float[Tensor, "B R"],
    others: Mapping[str, Float[Tensor, "B R"]],
    mask: Bool[Tensor, "B R"],
) -> None:
    """Check that the sampler's logprobs are those of the policy now, and not those of another.

    Rounding moves a sampler's logprobs away from all policies alike; an adapter that never arrived puts them on top of
    an older one. The mean absolute gap to each is compared, so that this also works in a precision whose largest gap
    of a single token is wider than what an update moves.

    sampled: nats, as the sampler gave them. now: nats, by the trainer. others: by name, nats, by the trainer under
    those weights.

    Raises:
        SelfCheckError: they are more than twice as close to one of the others.
    """
    gap = float(masked_mean((sampled - now).abs(), mask))
    for name, logprobs in others.items():
        other = float(masked_mean((sampled - logprobs).abs(), mask))
        if gap > CLOSER * other and not torch.equal(now, logprobs):
            raise SelfCheckError(
                f"ppo self-check: the sampler answers as {name} does: its logprobs are off that by {other:.3g} nats a "
                f"token, and off the policy's now by {gap:.3g}. The newest adapter has not arrived there; start the "
                "server again (`make vllm`)"
            )
