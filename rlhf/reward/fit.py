"""Fit the head: Bradley-Terry logistic regression on differences of pooled features.

The backbone is frozen, so that its features are constants and the whole training is this small convex problem.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from rlhf.core.errors import UserError
from rlhf.core.portable import applied
from rlhf.core.seeding import generator
from rlhf.reward.metrics import accuracy


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One row of the curve; epoch 0 is before training. Losses in nats a pair."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float  # every pair counts alike

    def __post_init__(self) -> None:
        """Raises UserError if a loss is not finite, so that none can be chosen as the best."""
        for loss in (self.train_loss, self.validation_loss):
            if not math.isfinite(loss):
                raise UserError(f"reward.lr: the loss is {loss} after epoch {self.epoch}; use a lower learning rate")


OnEpoch = Callable[[EpochRow], None]


def _ignore(_: EpochRow) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Head:
    """score = features @ weight + bias, on raw pooled features; D hidden size."""

    weight: Float[Tensor, " D"]
    bias: Float[Tensor, ""]

    def scores(self, features: Float[Tensor, "*N D"]) -> Float[Tensor, "*N"]:
        """Compute raw rewards, in logits: the sigmoid of a difference is the probability that the first is
        preferred."""
        return features.to(self.weight.dtype) @ self.weight + self.bias

    def state(self) -> dict[str, Tensor]:
        """Return the weights of one of the K heads of `rlhf.models.reward.heads.make_heads`."""
        return {"weight": self.weight, "bias": self.bias}


@dataclass(frozen=True, slots=True)
class HeadFit:
    """The head of the epoch with the lowest validation loss, and the curve over all epochs (0 = before training)."""

    head: Head
    best_epoch: int
    curve: list[EpochRow]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """Adam over mini-batches of pairs. `weight_decay` is an L2 penalty in the loss: weight_decay / 2 · |w|², on the
    standardised features if `standardise`. `dropout`: of each feature while training, the same for both responses of a
    pair, so that what they share cancels. `patience`: epochs without a lower validation loss that end it; 0 = all."""

    lr: float
    weight_decay: float
    epochs: int
    batch_size: int
    standardise: bool
    dropout: float
    patience: int


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight of each pair, in training and in the loss that chooses the epoch, its margin in both, in logits, and
    its target: the probability that its chosen response is the better one. Margins of None are 0, targets of None 1."""

    train: Float[Tensor, " N"]
    validation: Float[Tensor, " M"]
    train_margins: Float[Tensor, " N"] | None = None
    validation_margins: Float[Tensor, " M"] | None = None
    train_targets: Float[Tensor, " N"] | None = None
    validation_targets: Float[Tensor, " M"] | None = None

    def relative(self) -> "Weights":
        """Divide the weights by their means, in float64."""
        return replace(self, train=relative(self.train), validation=relative(self.validation))

    def drawn(self, rows: Int[Tensor, " R"]) -> "Weights":
        """Select training pairs, as for an ensemble's member or a mini-batch."""
        margins = None if self.train_margins is None else self.train_margins[rows]
        targets = None if self.train_targets is None else self.train_targets[rows]
        return replace(self, train=self.train[rows], train_margins=margins, train_targets=targets)


def pair_loss(
    leads: Float[Tensor, " N"],
    weights: Float[Tensor, " N"] | None = None,
    margins: Float[Tensor, " N"] | None = None,
    targets: Float[Tensor, " N"] | None = None,
) -> Float[Tensor, ""]:
    """Average -log sigmoid(r_chosen - r_rejected - m), in nats, over `leads`, which are r_chosen - r_rejected.

    Bradley & Terry 1952; Ouyang et al. 2022, eq. 1; with the margin m of Touvron et al. 2023 (Llama 2), eq. 2, 0 where
    none is given.

    `targets` t make it the cross-entropy of soft labels, -t log sigmoid(x) - (1 - t) log sigmoid(-x) with x =
    r_chosen - r_rejected - m, as Lee et al. 2023 (arXiv 2309.00267, section 3.2) train on an annotator's probabilities:
    least where sigmoid(x) = t, so that a tie, t = 1/2, asks for equal rewards. Without targets t = 1.

    Any constant reward gives log 2 = .6931 without margins. `weights` of mean 1 over all pairs (`relative`) make it a
    weighted mean: a ranking of K responses, of which each pair weighs 1 / (K choose 2), then counts as one.
    """
    ahead = leads if margins is None else leads - margins
    losses = -logsigmoid(ahead)
    if targets is not None:
        losses = targets * losses - (1 - targets) * logsigmoid(-ahead)
    return losses.mean() if weights is None else (losses * weights).mean()


def relative(weights: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Divide weights by their mean, in float64."""
    return weights.double() / weights.double().mean()


def fit_head(
    train: Float[Tensor, "N 2 D"],
    validation: Float[Tensor, "M 2 D"],
    settings: FitSettings,
    *,
    seed: int,
    weights: Weights | None = None,
    on_epoch: OnEpoch = _ignore,
) -> HeadFit:
    """Train a linear head; column 0 of the pairs is the chosen response, 1 the rejected one.

    Computed in float64, where a step costs the same and the last bits do not matter. Standardising changes how fast
    each direction is learnt, not what can be expressed: mean and scale are folded into the head that is returned.

    Args:
        weights: of the pairs, and their margins; None counts all alike.
        on_epoch: is called with each row of the curve: epoch, train_loss, validation_loss, validation_accuracy.

    Raises:
        UserError: the loss is not finite any more (lr too high), or there are no pairs to train on or validate with.
    """
    check_pairs(train, validation)
    mean, scale = feature_scale(train, settings)
    difference = (train[:, 0].double() - train[:, 1].double()) / scale
    validation_difference = (validation[:, 0].double() - validation[:, 1].double()) / scale
    of = weights.relative() if weights else None
    weight = torch.nn.Parameter(initial_weight(train.shape[-1], seed))
    optimiser = torch.optim.Adam([weight], lr=settings.lr, weight_decay=settings.weight_decay, fused=applied())

    def one_epoch(epoch: int) -> None:
        shuffle, drop = generator(seed, "reward", "order", epoch), generator(seed, "reward", "dropout", epoch)
        for rows in torch.split(torch.randperm(len(difference), generator=shuffle), settings.batch_size):
            optimiser.zero_grad()
            leads = dropped(difference[rows], settings.dropout, drop) @ weight
            batch_loss(leads, of, rows).backward()
            optimiser.step()

    def evaluate(epoch: int) -> EpochRow:
        with torch.no_grad():
            return epoch_row(epoch, difference @ weight, validation_difference @ weight, of)

    best_epoch, curve, state = run_epochs([weight], one_epoch, evaluate, settings, on_epoch)
    return HeadFit(_folded(state[0], mean, scale), best_epoch, curve)


def batch_loss(leads: Float[Tensor, " R"], of: Weights | None, rows: Int[Tensor, " R"]) -> Float[Tensor, ""]:
    """Compute the loss of some of the training pairs, by their weights and margins."""
    if of is None:
        return pair_loss(leads)
    batch = of.drawn(rows)
    return pair_loss(leads, batch.train, batch.train_margins, batch.train_targets)


def run_epochs(
    parameters: Sequence[torch.nn.Parameter],
    one_epoch: Callable[[int], None],
    evaluate: Callable[[int], EpochRow],
    settings: FitSettings,
    on_epoch: OnEpoch,
) -> tuple[int, list[EpochRow], list[Tensor]]:
    """Train until the epochs or the patience end; return the best epoch by validation loss, the curve, and copies of
    the parameters at that epoch."""
    curve: list[EpochRow] = []
    best, best_epoch, state = math.inf, 0, [one.detach().clone() for one in parameters]
    for epoch in range(settings.epochs + 1):
        if epoch > 0:
            one_epoch(epoch)
        row = evaluate(epoch)
        curve.append(row)
        on_epoch(row)
        if row.validation_loss < best:
            best, best_epoch, state = row.validation_loss, epoch, [one.detach().clone() for one in parameters]
        if settings.patience and epoch - best_epoch >= settings.patience:
            break
    return best_epoch, curve, state


def initial_weight(width: int, seed: int) -> Float[Tensor, " D"]:
    """Draw from N(0, 1 / sqrt(D + 1)), as lm-human-preferences initialises its reward head (Ziegler et al. 2019)."""
    draw = torch.randn(width, generator=generator(seed, "reward", "head"), dtype=torch.float64)
    return draw / math.sqrt(width + 1)


def check_pairs(train: Float[Tensor, "N 2 D"], validation: Float[Tensor, "M 2 D"]) -> None:
    """Raise UserError where there is nothing to train on, or nothing to validate with."""
    if len(train) == 0 or len(validation) == 0:
        raise UserError(f"reward: {len(train)} training and {len(validation)} validation pairs; both need at least 1")


def dropped(features: Float[Tensor, "*N D"], share: float, draw: torch.Generator) -> Float[Tensor, "*N D"]:
    """Set that share of the features to 0 and scale the others up to keep the mean (Srivastava et al. 2014)."""
    if share == 0:
        return features
    return features * (torch.rand(features.shape, generator=draw) >= share) / (1 - share)


def epoch_row(
    epoch: int, train: Float[Tensor, " N"], validation: Float[Tensor, " M"], weights: Weights | None
) -> EpochRow:
    """Measure an epoch from the leads of training and validation pairs. UserError if a loss is not finite."""
    losses = pair_loss(train), pair_loss(validation)
    if weights:
        losses = (
            pair_loss(train, weights.train, weights.train_margins, weights.train_targets),
            pair_loss(validation, weights.validation, weights.validation_margins, weights.validation_targets),
        )
    return EpochRow(
        epoch,
        float(losses[0]),
        float(losses[1]),
        accuracy(validation.tolist()).mean,
    )


def feature_scale(
    train: Float[Tensor, "N 2 D"], settings: FitSettings
) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Compute mean and standard deviation of each feature over all training responses; a constant feature keeps scale
    1. They are 0 and 1 without `standardise`."""
    if not settings.standardise:
        width = train.shape[-1]
        return torch.zeros(width, dtype=torch.float64), torch.ones(width, dtype=torch.float64)
    flat = train.reshape(-1, train.shape[-1]).double()
    mean, scale = flat.mean(0), flat.std(0, correction=0)
    return mean, torch.where(scale > 1e-8 * (1 + mean.abs()), scale, 1.0)


def _folded(weight: Float[Tensor, " D"], mean: Float[Tensor, " D"], scale: Float[Tensor, " D"]) -> Head:
    """Fold mean and scale into the head: w · (f - mean) / scale = (w / scale) · f - w · mean / scale."""
    raw = weight / scale
    return Head(raw, -(raw @ mean))
