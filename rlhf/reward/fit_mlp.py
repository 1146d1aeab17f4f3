"""Fit a head with a hidden layer: the same pairwise loss, no longer convex."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.portable import applied
from rlhf.core.seeding import generator
from rlhf.models.reward.heads import Mlp
from rlhf.reward.fit import (
    EpochRow,
    FitSettings,
    OnEpoch,
    Weights,
    batch_loss,
    check_pairs,
    dropped,
    epoch_row,
    feature_scale,
    run_epochs,
)


@dataclass(frozen=True, slots=True)
class MlpHead:
    """One head of `rlhf.models.reward.heads.Mlp`, on raw features. H hidden units, D features."""

    inner: Float[Tensor, "H D"]
    inner_bias: Float[Tensor, " H"]
    outer: Float[Tensor, " H"]
    bias: Float[Tensor, ""]

    def state(self) -> dict[str, Tensor]:
        """Return the weights of one of K heads."""
        return {"inner": self.inner, "inner_bias": self.inner_bias, "outer": self.outer, "bias": self.bias}


@dataclass(frozen=True, slots=True)
class MlpFit:
    """Result of `fit_mlp`, as `rlhf.reward.fit.HeadFit`."""

    head: MlpHead
    best_epoch: int
    curve: list[EpochRow]


def fit_mlp(
    train: Float[Tensor, "N 2 D"],
    validation: Float[Tensor, "M 2 D"],
    settings: FitSettings,
    *,
    units: int,
    seed: int,
    weights: Weights | None,
    on_epoch: OnEpoch,
) -> MlpFit:
    """Train a head with `units` hidden units, as `fit_head` does. Dropout is of features and of hidden units, drawn for
    each response.

    Raises:
        UserError: the loss is not finite any more, or there are no pairs to train on or validate with.
    """
    check_pairs(train, validation)
    mean, scale = feature_scale(train, settings)
    pairs, validation_pairs = ((part.double() - mean) / scale for part in (train, validation))
    of = weights.relative() if weights else None
    net = _started(train.shape[-1], units, seed)
    optimiser = torch.optim.Adam(net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=applied())

    def one_epoch(epoch: int) -> None:
        shuffle, drop = generator(seed, "reward", "order", epoch), generator(seed, "reward", "dropout", epoch)
        for rows in torch.split(torch.randperm(len(pairs), generator=shuffle), settings.batch_size):
            optimiser.zero_grad()
            scores = _trained(net, pairs[rows].flatten(0, 1), settings.dropout, drop).view(-1, 2)
            batch_loss(scores[:, 0] - scores[:, 1], of, rows).backward()
            optimiser.step()

    def evaluate(epoch: int) -> EpochRow:
        return epoch_row(epoch, _margins(net, pairs), _margins(net, validation_pairs), of)

    best_epoch, curve, state = run_epochs(list(net.parameters()), one_epoch, evaluate, settings, on_epoch)
    inner, inner_bias, outer, bias = (one[0] for one in state)
    raw = inner / scale
    return MlpFit(MlpHead(raw, inner_bias - raw @ mean, outer, bias), best_epoch, curve)


def start(net: Mlp, seed: int) -> None:
    """Draw the weights: the inner ones N(0, 1/sqrt(D)), the outer ones N(0, 1/sqrt(H + 1))."""
    draw = generator(seed, "reward", "head")
    for parameter, width in ((net.inner, net.inner.shape[-1]), (net.outer, net.outer.shape[-1] + 1)):
        drawn = torch.randn(parameter.shape, generator=draw, dtype=torch.float64) / math.sqrt(width)
        with torch.no_grad():
            parameter.copy_(drawn)


def _started(features: int, units: int, seed: int) -> Mlp:
    net = Mlp(features, 1, units).double()
    start(net, seed)
    return net


def _trained(net: Mlp, features: Float[Tensor, "N D"], dropout: float, draw: torch.Generator) -> Float[Tensor, " N"]:
    """Score while training, with dropout before each layer."""
    hidden = torch.nn.functional.gelu(dropped(features, dropout, draw) @ net.inner[0].T + net.inner_bias[0])
    return dropped(hidden, dropout, draw) @ net.outer[0] + net.bias


@torch.no_grad()
def _margins(net: Mlp, pairs: Float[Tensor, "N 2 D"]) -> Float[Tensor, " N"]:
    scores: Tensor = net(pairs.flatten(0, 1)).view(-1, 2)
    return scores[:, 0] - scores[:, 1]
