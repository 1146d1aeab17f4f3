"""The head on a frozen backbone: one pass over the pairs, then a small convex problem."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Curve
from rlhf.core.runtime import Runtime
from rlhf.models.backbone import Backbone
from rlhf.models.engine import load_backbone
from rlhf.models.ensemble import Ensemble
from rlhf.models.fast.allocator import keep_memory
from rlhf.models.reward_model import RewardModel
from rlhf.models.scoring import ADAPTER, Scorer
from rlhf.reward.features import pair_features
from rlhf.reward.fit import Fit, FitSettings, fit_ensemble
from rlhf.reward.metrics import member_metrics
from rlhf.reward.pairs import Pair
from rlhf.reward.params import RewardParams
from rlhf.reward.record import SPLITS, Fitted, Folders


def fit_frozen(
    at: Folders,
    splits: Mapping[str, list[Pair]],
    params: RewardParams,
    *,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curve: Curve,
) -> Fitted:
    """The backbone stays frozen: one pass over the data, then a small convex problem."""
    if params.engine == "fast":
        keep_memory()
    backbone = load_backbone(
        at.base, {ADAPTER: at.sft}, engine=params.engine, dtype=runtime.dtype, device=runtime.device
    )
    model = RewardModel(
        backbone.hidden_size,
        pooling=params.pooling,
        pool_over=params.pool_over,
        backbone_adapter=at.sft.as_posix(),
        ensemble=Ensemble(params.members, params.aggregate, params.uncertainty_weight),
    )
    parts = frozen_features(backbone, splits, model, params, checkpoints)
    fits = fit_ensemble(
        parts["train"], parts["validation"], fit_settings(params),
        members=params.members, seed=runtime.seed, on_epoch=curve.append,
    )  # fmt: skip
    _install(model, fits)
    fit = fits[0]
    best = fit.curve[fit.best_epoch]
    return Fitted(
        Scorer(backbone, model, ADAPTER),
        lambda: {name: raw_margins(model, parts[name]) for name in SPLITS},
        lambda: parts,
        {
            "reward_best_epoch": fit.best_epoch,
            **{f"reward_{key}": best[key] for key in ("train_loss", "validation_loss")},
            **member_metrics(member_margins(model, parts["test"])),
        },
    )


def frozen_features(
    backbone: Backbone,
    splits: Mapping[str, list[Pair]],
    model: RewardModel,
    params: RewardParams,
    checkpoints: Checkpoints,
) -> dict[str, Tensor]:
    """Features (N, 2, D) of each split's pairs under the SFT adapter, in one pass."""
    every = [pair for pairs in splits.values() for pair in pairs]
    features = pair_features(
        backbone, every, model=model, adapter=ADAPTER, batch_tokens=params.batch_tokens, checkpoints=checkpoints
    )
    return dict(zip(splits, torch.split(features, [len(pairs) for pairs in splits.values()]), strict=True))


def fit_settings(params: RewardParams) -> FitSettings:
    """The parameters that concern the head."""
    return FitSettings(
        lr=params.lr,
        weight_decay=params.weight_decay,
        epochs=params.epochs,
        batch_size=params.batch_size,
        standardise=params.standardise,
    )


@torch.no_grad()
def raw_margins(model: RewardModel, features: Float[Tensor, "N 2 D"]) -> list[float]:
    """Raw reward of chosen minus rejected, as the saved head computes it; the normalisation's mean cancels out."""
    scores = model.score_features(features.flatten(0, 1)).double().reshape(-1, 2) * model.std
    return (scores[:, 0] - scores[:, 1]).tolist()


@torch.no_grad()
def member_margins(model: RewardModel, features: Float[Tensor, "N 2 D"]) -> list[list[float]]:
    """Raw reward of chosen minus rejected by each head: K lists of N."""
    scores = model.member_scores(features.flatten(0, 1)).double().reshape(len(features), 2, -1)
    found: list[list[float]] = (scores[:, 0] - scores[:, 1]).t().tolist()
    return found


@torch.no_grad()
def _install(model: RewardModel, fits: Sequence[Fit]) -> None:
    model.head.weight.copy_(torch.stack([fit.head.weight for fit in fits]))
    model.head.bias.copy_(torch.stack([fit.head.bias for fit in fits]))
    model.requires_grad_(False).eval()
