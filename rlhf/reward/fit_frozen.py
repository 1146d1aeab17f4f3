"""Fit a head on a frozen backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Curve
from rlhf.core.runtime import Runtime
from rlhf.models.fast.allocator import keep_memory
from rlhf.models.fast.engine import load_checked
from rlhf.models.reward.ensemble import Ensemble
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, Scorer
from rlhf.reward.features import frozen_features
from rlhf.reward.fit import FitSettings, HeadFit, Weights
from rlhf.reward.fit_ensemble import fit_ensemble
from rlhf.reward.fit_mlp import MlpFit
from rlhf.reward.metrics import member_metrics
from rlhf.reward.pairs import TextPair, pair_margins, pair_targets, pair_weights
from rlhf.reward.params import RewardParams
from rlhf.reward.referee import features_for_second
from rlhf.reward.types import Fitted, Folders


def fit_frozen(
    at: Folders,
    splits: Mapping[str, list[TextPair]],
    params: RewardParams,
    *,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curve: Curve,
) -> Fitted:
    """Compute features in one pass over the pairs, then fit the head on them; the backbone stays frozen."""
    if params.engine == "fast":
        keep_memory()
    backbone = load_checked(
        at.base, {ADAPTER: at.sft}, engine=params.engine, dtype=runtime.dtype, device=runtime.device,
        decided=at.conformance,
    )  # fmt: skip
    model = RewardModel(
        backbone.hidden_size,
        pooling=params.pooling,
        pool_over=params.pool_over,
        backbone_adapter=at.sft.as_posix(),
        ensemble=Ensemble(params.members, params.aggregate, params.uncertainty_weight),
        logprobs=params.logprobs,
        head_units=params.head_units,
    )
    parts = frozen_features(backbone, splits, model, params.batch_tokens, checkpoints)
    fits = fit_ensemble(
        parts["train"], parts["validation"], fit_settings(params),
        members=params.members, units=params.head_units, seed=runtime.seed,
        on_epoch=lambda row: curve.append(asdict(row)),
        weights=weights_of(splits["train"], splits["validation"]),
    )  # fmt: skip
    _install(model, fits)
    fit = fits[0]
    best, part = fit.curve[fit.best_epoch], checkpoints.within("second")
    return Fitted(
        Scorer(backbone, model, ADAPTER),
        lambda lengths: {name: raw_scores(model, parts[name], own) for name, own in lengths.items()},
        lambda: parts if params.logprobs else features_for_second(at, backbone, splits, params, part),
        {
            "reward_best_epoch": fit.best_epoch,
            "reward_train_loss": best.train_loss,
            "reward_validation_loss": best.validation_loss,
            **member_metrics(member_margins(model, parts["test"])),
        },
    )


def weights_of(train: Sequence[TextPair], validation: Sequence[TextPair]) -> Weights:
    """Read weights, margins and targets off the pairs."""
    return Weights(
        pair_weights(train), pair_weights(validation), pair_margins(train), pair_margins(validation),
        pair_targets(train), pair_targets(validation),
    )  # fmt: skip


def fit_settings(params: RewardParams) -> FitSettings:
    """Select the parameters of the head's fit."""
    return FitSettings(
        lr=params.lr,
        weight_decay=params.weight_decay,
        epochs=params.epochs,
        batch_size=params.batch_size,
        standardise=params.standardise,
        dropout=params.dropout,
        patience=params.patience,
    )


@torch.no_grad()
def raw_scores(
    model: RewardModel, features: Float[Tensor, "N 2 F"], lengths: Float[Tensor, "N 2"]
) -> Float[Tensor, "N 2"]:
    """Score pairs in logits as the saved head does, up to a constant: the normalisation's scale is taken back, its mean
    is not. Float64. Equal sides have equal scores."""
    sides, where = distinct(torch.cat((features.flatten(0, 1), lengths.reshape(-1, 1)), dim=1))
    scores = model.score_features(sides[:, :-1], sides[:, -1])[where]
    return scores.double().reshape(-1, 2) * model.std


@torch.no_grad()
def member_margins(model: RewardModel, features: Float[Tensor, "N 2 F"]) -> list[list[float]]:
    """Compute each head's raw reward of chosen minus rejected, before any length correction: K lists of N."""
    sides, where = distinct(features.flatten(0, 1))
    scores = model.member_scores(sides)[where].double().reshape(len(features), 2, -1)
    found: list[list[float]] = (scores[:, 0] - scores[:, 1]).t().tolist()
    return found


def distinct(rows: Float[Tensor, "N F"]) -> tuple[Float[Tensor, "M F"], Int[Tensor, " N"]]:
    """Select the distinct rows, and say which of them each row is.

    A product may round a row in one place of a batch otherwise than in another; rows that are multiplied once tie.
    """
    found, where = torch.unique(rows, dim=0, return_inverse=True)
    return found, where


@torch.no_grad()
def _install(model: RewardModel, fits: Sequence[HeadFit | MlpFit]) -> None:
    states = [fit.head.state() for fit in fits]
    model.head.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
    model.requires_grad_(False).eval()
