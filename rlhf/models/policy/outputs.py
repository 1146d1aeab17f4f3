"""Result types of forward, generate and decode steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlhf.models.policy.logprobs import Drawn

States = Literal["all", "response"]


@dataclass(frozen=True, slots=True)
class Forward:
    """Result of one pass over episodes. Axes: B episodes, R response tokens, T = P + R, D hidden size."""

    logprobs: Float[Tensor, "B R"]  # nats, of the response tokens, at the temperature; 0 where masked
    entropy: Float[Tensor, "B R"]  # nats, of the tempered distribution; 0 where masked; no gradient
    hidden: Float[Tensor, "B T D"]  # after the final norm; 0 where masked


@dataclass(frozen=True, slots=True)
class Generation:
    """Sampled responses, right-padded to the longest. Axes: B episodes, R response tokens, D hidden size."""

    response_ids: Int[Tensor, "B R"]
    mask: Bool[Tensor, "B R"]  # True on sampled tokens, the first end token included
    logprobs: Float[Tensor, "B R"]  # nats, at the sampling temperature; 0 where masked
    entropy: Float[Tensor, "B R"]  # nats, of the tempered distributions sampled from; 0 where masked
    states: Float[Tensor, "B R D"]  # the hidden state each token was drawn from; 0 where masked
    ended: Bool[Tensor, " B"]  # whether there is an end token


@dataclass(frozen=True, slots=True)
class Step:
    """One token of each row while responses are sampled. Axes: B episodes, D hidden size."""

    drawn: Drawn
    state: Float[Tensor, "B D"]  # the hidden state it was drawn from
    alive: Bool[Tensor, " B"]  # False on rows that had ended before it


def position_ids(mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """Number the real tokens of each row from 0, wherever padding puts them: exclusive cumulative sum of the mask."""
    counted = mask.long()
    return counted.cumsum(1) - counted


def ends(ids: Int[Tensor, " B"], end_ids: Sequence[int]) -> Bool[Tensor, " B"]:
    """Tell which tokens end a reply."""
    found = ids == end_ids[0]
    for token in end_ids[1:]:
        found = found | (ids == token)
    return found


def collect(
    drawn: Sequence[Drawn],
    states: Float[Tensor, "B R D"],
    mask: Bool[Tensor, "B R"],
    *,
    ended: Bool[Tensor, " B"],
    pad_id: int,
) -> Generation:
    """Collect what was drawn step by step into one record; blank whatever came after a row's end."""
    return Generation(
        response_ids=torch.stack([one.ids for one in drawn], 1).masked_fill(~mask, pad_id),
        mask=mask,
        logprobs=torch.stack([one.logprobs for one in drawn], 1).masked_fill(~mask, 0.0),
        entropy=torch.stack([one.entropy for one in drawn], 1).masked_fill(~mask, 0.0),
        states=states.masked_fill(~mask.unsqueeze(-1), 0.0),
        ended=ended,
    )


def spread(values: Float[Tensor, " N"], mask: Bool[Tensor, "B R"]) -> Float[Tensor, "B R"]:
    """Spread the values of the real tokens back over the mask, 0 elsewhere."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
