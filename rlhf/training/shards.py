"""Cut a Trainer's batch into shards, which processes share: the same gradients, to the last bit, for any number."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlhf.core.processes import Processes
from rlhf.core.seeding import derive

Moment = tuple[int, int]  # optimiser steps done, forwards done since


class Shards:
    """Makes one pass for each of this process's shards, and sums losses and gradients of all in one tree.

    Every process reads the whole batch, so that the library's sampler, schedule and random state are the same on each.
    A shard's loss and gradients are weighted by the shard's share of the batch, so that they add up: by 1 where the
    library has divided by the labels of the whole step already. Dropout in a shard is drawn from the seed, the step and
    the shard, not from the library's state, which no shard moves.
    """

    def __init__(self, count: int, processes: Processes, *, seed: int, stream: str) -> None:
        self._count, self._processes, self._seed, self._stream = count, processes, seed, stream

    def step(
        self, model: nn.Module, run: Callable[[int, int], tuple[Tensor, float]], moment: Moment
    ) -> Float[Tensor, ""]:
        """Add the batch's gradients to those of `model`, and return its loss.

        `run(shard, shards)` makes a pass forward and backward over a shard, and returns its loss and its weight.
        """
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        before = [weight.grad for weight in weights]

        def part(shard: int) -> Float[Tensor, " N"]:
            for weight in weights:
                weight.grad = None
            with torch.random.fork_rng():
                torch.manual_seed(derive(self._seed, self._stream, "shard", *moment, shard))
                loss, share = run(shard, self._count)
            grads = [weight.grad.flatten() for weight in weights if weight.grad is not None]
            return torch.cat([*grads, loss.reshape(1).to(grads[0].dtype)]) * share

        total = self._processes.tree_sum(self._count, part)
        self._put_back(weights, before, total)
        return total[-1]

    @staticmethod
    def _put_back(weights: list[nn.Parameter], before: list[Tensor | None], total: Float[Tensor, " N"]) -> None:
        """Add the sum to the gradients that earlier forwards of the step have left."""
        found = [(weight, old) for weight, old in zip(weights, before, strict=True) if weight.grad is not None]
        pieces = total[:-1].split([weight.numel() for weight, _ in found])
        for (weight, old), piece in zip(found, pieces, strict=True):
            grad = piece.view_as(weight).to(weight.dtype)
            weight.grad = grad.clone() if old is None else old + grad


def rows_of(value: Tensor, shard: int, shards: int) -> Tensor:
    """Select the rows of one of `shards` equal parts, which lie one after the other.

    Raises:
        ValueError: the rows cannot be cut so.
    """
    if len(value) % shards:
        raise ValueError(f"{len(value)} rows cannot be cut into {shards} equal parts")
    each = len(value) // shards
    return value[shard * each : (shard + 1) * each]
