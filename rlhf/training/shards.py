"""Cut a Trainer's batch into shards, which processes share: the same gradients, to the last bit, for any number."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlhf.core.processes import Processes
from rlhf.core.seeding import derive

Moment = tuple[int, int]  # optimiser steps done, forwards done since


class Shards:
    """Makes one pass for each of this process's shards, and sums losses and gradients of all in one tree.

    Every process reads the whole batch, so that the library's sampler, schedule and random state are the same on each.
    The loss of a shard is its share of the step's mean (the library divides by the labels of the whole step), so that
    the shards' losses add up. Dropout in a shard is drawn from the seed, the step and the shard, not from the library's
    state, which no shard moves.
    """

    def __init__(self, count: int, processes: Processes, *, seed: int, stream: str) -> None:
        self._count, self._processes, self._seed, self._stream = count, processes, seed, stream

    def step(
        self, model: nn.Module, inputs: dict[str, Any], run: Callable[[dict[str, Any]], Tensor], moment: Moment
    ) -> Float[Tensor, ""]:
        """Add the batch's gradients to those of `model`, and return its loss.

        `run` makes a pass forward and backward over some rows and returns their share of the loss.
        """
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        before = [weight.grad for weight in weights]

        def part(shard: int) -> Float[Tensor, " N"]:
            for weight in weights:
                weight.grad = None
            with torch.random.fork_rng():
                torch.manual_seed(derive(self._seed, self._stream, "shard", *moment, shard))
                loss = run({name: self._rows(value, shard) for name, value in inputs.items()})
            grads = [weight.grad.flatten() for weight in weights if weight.grad is not None]
            return torch.cat([*grads, loss.reshape(1).to(grads[0].dtype)])

        total = self._processes.tree_sum(self._count, part)
        self._put_back(weights, before, total)
        return total[-1]

    def _rows(self, value: Any, shard: int) -> Any:
        each = len(value) // self._count
        return value[shard * each : (shard + 1) * each]

    @staticmethod
    def _put_back(weights: list[nn.Parameter], before: list[Tensor | None], total: Float[Tensor, " N"]) -> None:
        """Add the sum to the gradients that earlier forwards of the step have left."""
        found = [(weight, old) for weight, old in zip(weights, before, strict=True) if weight.grad is not None]
        pieces = total[:-1].split([weight.numel() for weight, _ in found])
        for (weight, old), piece in zip(found, pieces, strict=True):
            grad = piece.view_as(weight).to(weight.dtype)
            weight.grad = grad.clone() if old is None else old + grad
