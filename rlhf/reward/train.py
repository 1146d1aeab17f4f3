"""The reward stage: features once, a head, its scale, and what it is worth on held-out pairs; then a second model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from rlhf.core.artifacts import read_json
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Cell, Curve, read_rows
from rlhf.core.runtime import Runtime
from rlhf.models.backbone import Backbone
from rlhf.models.reward_model import Pooling, RewardModel
from rlhf.models.sampling import Sample, sample_texts
from rlhf.models.scoring import ADAPTER, REWARD, Scorer, prompts_that_fit
from rlhf.reward.features import pair_rows
from rlhf.reward.frozen import fit_frozen, fit_settings, frozen_features, raw_margins
from rlhf.reward.heldout import HELDOUT, divide, fit_second, heldout_metrics
from rlhf.reward.metrics import accuracy, member_metrics
from rlhf.reward.normalise import choose_prompts, mean_and_std
from rlhf.reward.pairs import Pair, read_pairs, unique_prompts
from rlhf.reward.params import RewardParams
from rlhf.reward.record import SPLITS, Fitted, Folders
from rlhf.reward.report import Held, held_out_metrics
from rlhf.reward.tune import Sides, by_split, margins, tune


@dataclass(frozen=True, slots=True)
class Trained:
    """What the stage saves. `tuned` is the backbone whose adapter REWARD was trained; None if it stayed frozen."""

    model: RewardModel
    heldout: RewardModel | None  # the second one, on prompts of its own; None with heldout_share 0
    tuned: Backbone | None
    metrics: dict[str, object]
    test_margins: list[float]  # raw rewards of chosen minus rejected, in logits


def train_reward(
    at: Folders, params: RewardParams, *, runtime: Runtime, checkpoints: Checkpoints, curve: Curve
) -> Trained:
    """Fit a reward head on the SFT policy's states of the preference pairs; with train: lora the states learn too.

    Nothing but validation loss chooses the epoch or step; the test split is only measured.

    Raises:
        UserError: a file is missing or malformed, a pair exceeds the context, or the fit is degenerate.
    """
    splits = {name: read_pairs(at.pairs / f"{name}.jsonl") for name in SPLITS}
    everyone = unique_prompts(splits["train"])
    splits["train"], splits[HELDOUT] = divide(splits["train"], params.heldout_share, runtime.seed)
    task = read_json(at.pairs / "task.json")
    way = fit_frozen if params.train == "head" else _fit_backbone
    fitted = way(at, splits, params, runtime=runtime, checkpoints=checkpoints, curve=curve)
    scorer, model = fitted.scorer, fitted.scorer.reward
    prompts = prompts_that_fit(scorer.backbone, everyone, params.response_tokens)
    prompts = choose_prompts(prompts, params.normalise_prompts, runtime.seed)
    samples = _sft_samples(scorer.backbone, prompts, params, runtime.seed)
    model.mean, model.std = _scale(scorer, samples, params)
    margins = fitted.margins()
    held = Held(splits["test"], margins["test"], task)
    metrics = held_out_metrics(held, bins=params.calibration_bins, seed=runtime.seed)
    metrics |= {**fitted.numbers} | _sizes(splits) | _scale_metrics(margins, model)
    second, own = _second(at, fitted, samples, params, runtime.seed) if splits[HELDOUT] else (None, [])
    metrics |= heldout_metrics(splits[HELDOUT], own, margins["test"])
    return Trained(model, second, scorer.backbone if params.train == "lora" else None, metrics, margins["test"])


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
    part = checkpoints.within("second")
    return Fitted(scorer, measured, lambda: _features_for_second(at, backbone, splits, params, part), numbers)


def _features_for_second(
    at: Folders, backbone: Backbone, splits: Mapping[str, list[Pair]], params: RewardParams, checkpoints: Checkpoints
) -> dict[str, Tensor]:
    """A tuned model leaves no features of the plain SFT backbone behind: a pass over the pairs that need them."""
    model = RewardModel(
        backbone.hidden_size, pooling=_pooling(params), pool_over=params.pool_over, backbone_adapter=at.sft.as_posix()
    )
    needed = {name: splits[name] for name in (HELDOUT, "validation", "test")}
    return frozen_features(backbone, needed, model, params, checkpoints)


def _second(
    at: Folders, fitted: Fitted, samples: Sequence[Sample], params: RewardParams, seed: int
) -> tuple[RewardModel, list[float]]:
    """The second model, on the scale of the same SFT samples, and its raw margins of the test pairs."""
    parts = fitted.frozen()
    model = fit_second(
        parts, fit_settings(params),
        pooling=_pooling(params), pool_over=params.pool_over, adapter=at.sft.as_posix(), seed=seed,
    )  # fmt: skip
    margins = raw_margins(model, parts["test"])
    model.mean, model.std = _scale(Scorer(fitted.scorer.backbone, model, ADAPTER), samples, params)
    return model, margins


def _pooling(params: RewardParams) -> Pooling:
    """Of the second model: attention needs a trained backbone, which it never has."""
    return "mean" if params.pooling == "attention" else params.pooling


def _sft_samples(backbone: Backbone, prompts: Sequence[str], params: RewardParams, seed: int) -> list[Sample]:
    """One sampled SFT response to each prompt."""
    return sample_texts(
        backbone,
        prompts,
        adapter=ADAPTER,
        max_new_tokens=params.response_tokens,
        temperature=params.temperature,
        seed_place=(seed, "reward", "samples"),
        batch_size=params.sample_batch,
    )


def _scale(scorer: Scorer, samples: Sequence[Sample], params: RewardParams) -> tuple[float, float]:
    """Mean and standard deviation of raw scores (mean 0 and std 1 are still in place)."""
    return mean_and_std(scorer.score_samples(samples, batch_tokens=params.batch_tokens))


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
