"""Fitting the head: Bradley-Terry logistic regression on differences of pooled features.

The backbone is frozen, so that its features are constants and the whole training is this small convex problem.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf.core.errors import UserError
from rlhf.core.seeding import derive, generator
from rlhf.reward.metrics import accuracy

CurveRow = dict[str, float | int | str | None]


@dataclass(frozen=True, slots=True)
class Head:
    """score = features @ weight + bias, on raw pooled features; D hidden size."""

    weight: Float[Tensor, " D"]
    bias: Float[Tensor, ""]

    def scores(self, features: Float[Tensor, "*N D"]) -> Float[Tensor, "*N"]:
        """Raw rewards, in logits: sigmoid of a difference is the probability that the first is preferred."""
        return features.to(self.weight.dtype) @ self.weight + self.bias


@dataclass(frozen=True, slots=True)
class Fit:
    """The head of the epoch with the lowest validation loss, and the curve over all epochs (0 = before training)."""

    head: Head
    best_epoch: int
    curve: list[CurveRow]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Adam over mini-batches of pairs. `weight_decay` is an L2 penalty in the loss: weight_decay / 2 · |w|², on the
    standardised features if `standardise`."""

    lr: float
    weight_decay: float
    epochs: int
    batch_size: int
    standardise: bool


def pair_loss(margins: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Mean of -log sigmoid(r_chosen - r_rejected), in nats; Bradley & Terry 1952; Ouyang et al. 2022, eq. 1.

    Any constant reward gives log 2 = .6931.
    """
    return -logsigmoid(margins).mean()


def fit_head(
    train: Float[Tensor, "N 2 D"],
    validation: Float[Tensor, "M 2 D"],
    settings: FitSettings,
    *,
    seed: int,
    on_epoch: Callable[[CurveRow], None] = lambda row: None,
) -> Fit:
    """Train a linear head; column 0 of the pairs is the chosen response, 1 the rejected one.

    Computed in float64, where a step costs the same and the last bits do not matter. Standardising changes how fast
    each direction is learnt, not what can be expressed: mean and scale are folded into the head that is returned.

    Args:
        on_epoch: is called with each row of the curve: epoch, train_loss, validation_loss, validation_accuracy.

    Raises:
        UserError: the loss is not finite any more (lr too high), or there are no pairs to train on or validate with.
    """
    if len(train) == 0 or len(validation) == 0:
        raise UserError(f"reward: {len(train)} training and {len(validation)} validation pairs; both need at least 1")
    mean, scale = _standard(train) if settings.standardise else _identity(train)
    train_difference = (train[:, 0].double() - train[:, 1].double()) / scale
    held_out = (validation[:, 0].double() - validation[:, 1].double()) / scale
    weight = torch.nn.Parameter(initial_weight(train.shape[-1], seed))
    optimiser = torch.optim.Adam([weight], lr=settings.lr, weight_decay=settings.weight_decay)
    curve, best, best_epoch, best_weight = [], math.inf, 0, weight.detach().clone()
    for epoch in range(settings.epochs + 1):
        if epoch > 0:
            shuffle = generator(seed, "reward", "order", epoch)
            _one_epoch(weight, optimiser, train_difference, batch_size=settings.batch_size, shuffle=shuffle)
        row = _evaluate(weight.detach(), train_difference, held_out, epoch)
        curve.append(row)
        on_epoch(row)
        loss = float(row["validation_loss"] or 0.0)
        if loss < best:
            best, best_epoch, best_weight = loss, epoch, weight.detach().clone()
    return Fit(_folded(best_weight, mean, scale), best_epoch, curve)


def fit_ensemble(
    train: Float[Tensor, "N 2 D"],
    validation: Float[Tensor, "M 2 D"],
    settings: FitSettings,
    *,
    members: int,
    seed: int,
    on_epoch: Callable[[CurveRow], None] = lambda row: None,
) -> list[Fit]:
    """As `fit_head`, as many heads as `members`; `on_epoch` sees the first one's curve.

    One head is fitted on all pairs. Several are each fitted on a bootstrap draw of them (bagging, Breiman 1996): the
    problem is convex, so that heads which differ by their start alone would end the same and never disagree.
    """
    if members == 1:
        return [fit_head(train, validation, settings, seed=seed, on_epoch=on_epoch)]
    fits = []
    for member in range(members):
        draw = generator(seed, "reward", "bootstrap", member)
        rows = torch.randint(len(train), (len(train),), generator=draw) if len(train) else torch.arange(0)
        own = derive(seed, "reward", "member", member)
        told = on_epoch if member == 0 else lambda row: None
        fits.append(fit_head(train[rows], validation, settings, seed=own, on_epoch=told))
    return fits


def initial_weight(width: int, seed: int) -> Float[Tensor, " D"]:
    """N(0, 1 / sqrt(D + 1)) as lm-human-preferences initialises its reward head (Ziegler et al. 2019)."""
    draw = torch.randn(width, generator=generator(seed, "reward", "head"), dtype=torch.float64)
    return draw / math.sqrt(width + 1)


def _one_epoch(
    weight: torch.nn.Parameter,
    optimiser: torch.optim.Adam,
    difference: Float[Tensor, "N D"],
    *,
    batch_size: int,
    shuffle: torch.Generator,
) -> None:
    order = torch.randperm(len(difference), generator=shuffle)
    for start in range(0, len(order), batch_size):
        optimiser.zero_grad()
        loss = pair_loss(difference[order[start : start + batch_size]] @ weight)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _evaluate(
    weight: Float[Tensor, " D"], train: Float[Tensor, "N D"], held_out: Float[Tensor, "M D"], epoch: int
) -> CurveRow:
    margins = held_out @ weight
    row: CurveRow = {
        "epoch": epoch,
        "train_loss": float(pair_loss(train @ weight)),
        "validation_loss": float(pair_loss(margins)),
        "validation_accuracy": accuracy(margins.tolist()).mean,
    }
    if not math.isfinite(float(row["train_loss"] or 0.0)):
        raise UserError(f"reward.lr: the loss is {row['train_loss']} after epoch {epoch}; use a lower learning rate")
    return row


def _standard(train: Float[Tensor, "N 2 D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Mean and standard deviation of each feature over all training responses; a constant feature keeps scale 1."""
    flat = train.reshape(-1, train.shape[-1]).double()
    mean, scale = flat.mean(0), flat.std(0, correction=0)
    return mean, torch.where(scale > 1e-8 * (1 + mean.abs()), scale, 1.0)


def _identity(train: Float[Tensor, "N 2 D"]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    width = train.shape[-1]
    return torch.zeros(width, dtype=torch.float64), torch.ones(width, dtype=torch.float64)


def _folded(weight: Float[Tensor, " D"], mean: Float[Tensor, " D"], scale: Float[Tensor, " D"]) -> Head:
    """w · (f - mean) / scale  =  (w / scale) · f - w · mean / scale."""
    raw = weight / scale
    return Head(raw, -(raw @ mean))
