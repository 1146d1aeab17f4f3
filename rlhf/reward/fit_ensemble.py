"""Fit one head, or an ensemble of heads that disagree."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.seeding import derive, generator
from rlhf.reward.fit import FitSettings, HeadFit, OnEpoch, Weights, fit_head
from rlhf.reward.fit_mlp import MlpFit, fit_mlp


def fit_ensemble(
    train: Float[Tensor, "N 2 D"],
    validation: Float[Tensor, "M 2 D"],
    settings: FitSettings,
    *,
    members: int,
    units: int,
    seed: int,
    weights: Weights,
    on_epoch: OnEpoch,
) -> Sequence[HeadFit | MlpFit]:
    """Fit `members` heads by `fit_head`, or by `fit_mlp` where there are hidden units; `on_epoch` sees the first one's
    curve.

    One head is fitted on all pairs. Several are each fitted on a bootstrap draw of them (bagging, Breiman 1996): linear
    heads that differ by their start alone would end the same, the problem being convex, and never disagree.
    """

    def one(pairs: Tensor, of: Weights, own: int, told: OnEpoch) -> HeadFit | MlpFit:
        if units:
            return fit_mlp(pairs, validation, settings, units=units, seed=own, weights=of, on_epoch=told)
        return fit_head(pairs, validation, settings, seed=own, weights=of, on_epoch=told)

    if members == 1:
        return [one(train, weights, seed, on_epoch)]
    fits = []
    for member in range(members):
        draw = generator(seed, "reward", "bootstrap", member)
        rows = torch.randint(len(train), (len(train),), generator=draw) if len(train) else torch.arange(0)
        told = on_epoch if member == 0 else lambda row: None
        fits.append(one(train[rows], weights.drawn(rows), derive(seed, "reward", "member", member), told))
    return fits
