"""The reward stage: features once, a head, its scale, and what it is worth on held-out pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from rlhf.core.artifacts import read_json
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Cell, Curve, read_rows
from rlhf.core.runtime import Runtime
from rlhf.models.backbone import Backbone
from rlhf.models.engine import load_backbone
from rlhf.models.ensemble import Ensemble
from rlhf.models.fast.allocator import keep_memory
from rlhf.models.reward_model import RewardModel
from rlhf.models.sampling import sample_texts
from rlhf.models.scoring import ADAPTER, REWARD, Scorer, prompts_that_fit
from rlhf.reward.features import pair_features, pair_rows
from rlhf.reward.fit import Fit, FitSettings, fit_ensemble
from rlhf.reward.metrics import accuracy, member_metrics
from rlhf.reward.normalise import choose_prompts, mean_and_std
from rlhf.reward.pairs import Pair, read_pairs, unique_prompts
from rlhf.reward.params import RewardParams
from rlhf.reward.report import Held, held_out_metrics
from rlhf.reward.tune import Sides, by_split, margins, tune

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the inputs are, and where the reward model will be."""

    pairs: Path
    base: Path
    sft: Path
    reward: Path


@dataclass(frozen=True, slots=True)
class Trained:
    """What the stage saves. `tuned` is the backbone whose adapter REWARD was trained; None if it stayed frozen."""

    model: RewardModel
    tuned: Backbone | None
    metrics: dict[str, object]
    test_margins: list[float]  # raw rewards of chosen minus rejected, in logits


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model before it is put on a scale. `margins`: raw rewards of chosen minus rejected of each split."""

    scorer: Scorer
    margins: Callable[[], dict[str, list[float]]]
    numbers: Mapping[str, object]  # metrics that the two ways of training do not share


def train_reward(
    at: Folders, params: RewardParams, *, runtime: Runtime, checkpoints: Checkpoints, curve: Curve
) -> Trained:
    """Fit a reward head on the SFT policy's states of the preference pairs; with train: lora the states learn too.

    Nothing but validation loss chooses the epoch or step; the test split is only measured.

    Raises:
        UserError: a file is missing or malformed, a pair exceeds the context, or the fit is degenerate.
    """
    splits = {name: read_pairs(at.pairs / f"{name}.jsonl") for name in SPLITS}
    task = read_json(at.pairs / "task.json")
    way = _fit_head if params.train == "head" else _fit_backbone
    fitted = way(at, splits, params, runtime=runtime, checkpoints=checkpoints, curve=curve)
    scorer, model = fitted.scorer, fitted.scorer.reward
    prompts = prompts_that_fit(scorer.backbone, unique_prompts(splits["train"]), params.response_tokens)
    prompts = choose_prompts(prompts, params.normalise_prompts, runtime.seed)
    model.mean, model.std = mean_and_std(_sample_scores(scorer, prompts, params, runtime.seed))
    margins = fitted.margins()
    held = Held(splits["test"], margins["test"], task)
    metrics = held_out_metrics(held, bins=params.calibration_bins, seed=runtime.seed)
    metrics |= {**fitted.numbers} | _sizes(splits) | _scale_metrics(margins, model)
    return Trained(model, scorer.backbone if params.train == "lora" else None, metrics, margins["test"])


def _fit_head(
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
    every = [pair for name in SPLITS for pair in splits[name]]
    features = pair_features(
        backbone, every, model=model, adapter=ADAPTER, batch_tokens=params.batch_tokens, checkpoints=checkpoints
    )
    parts = dict(zip(SPLITS, torch.split(features, [len(splits[name]) for name in SPLITS]), strict=True))
    fits = fit_ensemble(
        parts["train"], parts["validation"], fit_settings(params),
        members=params.members, seed=runtime.seed, on_epoch=curve.append,
    )  # fmt: skip
    _install(model, fits)
    fit = fits[0]
    best = fit.curve[fit.best_epoch]
    return Fitted(
        Scorer(backbone, model, ADAPTER),
        lambda: {name: raw_margins(model, part) for name, part in parts.items()},
        {
            "reward_best_epoch": fit.best_epoch,
            **{f"reward_{key}": best[key] for key in ("train_loss", "validation_loss")},
            **member_metrics(member_margins(model, parts["test"])),
        },
    )


def _fit_backbone(
    at: Folders,
    splits: Mapping[str, list[Pair]],
    params: RewardParams,
    *,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curve: Curve,
) -> Fitted:
    """A copy of the SFT adapter learns with the head; the curve's epochs count in fractions.

    On the plain engine: the Trainer's fused AdamW leaves no trace for the fast one's merged weights to follow.
    """
    adapters = {ADAPTER: at.sft, REWARD: at.sft}
    backbone = Backbone.load(at.base, adapters, trainable=(REWARD,), dtype=runtime.dtype, device=runtime.device)
    own = (at.reward / "adapter").as_posix()
    model = RewardModel(
        backbone.hidden_size, pooling=params.pooling, pool_over=params.pool_over, backbone_adapter=own
    ).to(runtime.device)
    rows = pair_rows(backbone, [pair for name in SPLITS for pair in splits[name]])
    sides = by_split(rows, {name: len(splits[name]) for name in SPLITS})
    fit = tune(
        backbone, model, Sides(sides["train"], sides["validation"]), params.tune, batch_tokens=params.batch_tokens,
        runtime=runtime, checkpoints=checkpoints, curve=curve.path,
    )  # fmt: skip
    scorer, epoch = Scorer(backbone, model, REWARD), len(splits["train"]) // params.tune.batch_size
    curve.rows = [_in_epochs(row, epoch) for row in read_rows(curve.path)]
    curve.write()

    def measured() -> dict[str, list[float]]:
        scored = {name: margins(scorer, pairs, params.batch_tokens) for name, pairs in sides.items()}
        return {name: (found * model.std).tolist() for name, found in scored.items()}

    numbers = {
        "reward_best_epoch": fit.best_step / epoch,
        "reward_train_loss": fit.train_loss,
        "reward_validation_loss": fit.validation_loss,
        **member_metrics([]),
    }
    return Fitted(scorer, measured, numbers)


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


def _sample_scores(scorer: Scorer, prompts: Sequence[str], params: RewardParams, seed: int) -> list[float]:
    """Raw scores (mean 0 and std 1 are still in place) of one sampled SFT response to each prompt."""
    samples = sample_texts(
        scorer.backbone,
        prompts,
        adapter=ADAPTER,
        max_new_tokens=params.response_tokens,
        temperature=params.temperature,
        seed_place=(seed, "reward", "samples"),
        batch_size=params.sample_batch,
    )
    return scorer.score_samples(samples, batch_tokens=params.batch_tokens)


def _in_epochs(row: Mapping[str, str], steps: int) -> dict[str, Cell]:
    """A row of the Trainer's curve with the columns of the head's; an empty cell was not measured."""
    losses = {name: float(row[name]) if row[name] else None for name in ("train_loss", "validation_loss")}
    return {"epoch": int(row["step"]) / steps, **losses, "validation_accuracy": None}


def _sizes(splits: Mapping[str, list[Pair]]) -> dict[str, object]:
    return {f"reward_{name}_pairs": len(splits[name]) for name in SPLITS}


def _scale_metrics(margins: Mapping[str, list[float]], model: RewardModel) -> dict[str, object]:
    return {
        "reward_train_accuracy": accuracy(margins["train"]).mean,
        "reward_validation_accuracy": accuracy(margins["validation"]).mean,
        "reward_sft_mean": model.mean,
        "reward_sft_std": model.std,
    }
