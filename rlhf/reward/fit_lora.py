"""Fit a reward model whose backbone is trained as well."""

from collections.abc import Mapping

from torch import Tensor

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Cell, Curve, read_rows
from rlhf.core.runtime import Runtime
from rlhf.models.fast.engine import load_checked
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, REWARD, Scorer
from rlhf.reward.features import pair_rows
from rlhf.reward.lora_trainer import PairSplits, by_split, side_scores, tune
from rlhf.reward.metrics import member_metrics
from rlhf.reward.pairs import TextPair
from rlhf.reward.params import RewardParams
from rlhf.reward.referee import features_for_second
from rlhf.reward.types import SPLITS, Fitted, Folders


def fit_tuned(
    at: Folders,
    splits: Mapping[str, list[TextPair]],
    params: RewardParams,
    *,
    runtime: Runtime,
    checkpoints: Checkpoints,
    curve: Curve,
) -> Fitted:
    """Train a copy of the SFT adapter together with the head; the curve's epochs count in fractions.

    On the plain engine: the Trainer's fused AdamW leaves no trace for the fast one's merged weights to follow.
    """
    adapters = {ADAPTER: at.sft, REWARD: at.sft}
    backbone = load_checked(
        at.base, adapters, engine="plain", trainable=(REWARD,), dtype=runtime.dtype, device=runtime.device,
        decided=at.conformance,
    )  # fmt: skip
    own = (at.reward / "adapter").as_posix()
    model = RewardModel(
        backbone.hidden_size,
        pooling=params.pooling,
        pool_over=params.pool_over,
        backbone_adapter=own,
        logprobs=params.logprobs,
        head_units=params.head_units,
    ).to(runtime.device)
    every = [pair for name in SPLITS for pair in splits[name]]
    sides = by_split(pair_rows(backbone, every), every, {name: len(splits[name]) for name in SPLITS})
    fit = tune(
        backbone, model, PairSplits(sides["train"], sides["validation"]), params,
        runtime=runtime, checkpoints=checkpoints, curve=curve.path,
    )  # fmt: skip
    scorer, epoch = Scorer(backbone, model, REWARD), len(splits["train"]) // params.tune.batch_size
    curve.rows = [_in_epochs(row, epoch) for row in read_rows(curve.path)]
    runtime.processes.wait()  # until all have read what the first one writes over
    curve.write()

    def scores(lengths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: side_scores(scorer, sides[name], params.batch_tokens) * model.std for name in lengths}

    numbers = {
        "reward_best_epoch": fit.best_step / epoch,
        "reward_train_loss": fit.train_loss,
        "reward_validation_loss": fit.validation_loss,
        **member_metrics([]),
    }
    part = checkpoints.within("second")
    return Fitted(scorer, scores, lambda: features_for_second(at, backbone, splits, params, part), numbers)


def _in_epochs(row: Mapping[str, str], steps: int) -> dict[str, Cell]:
    """Give a row of the Trainer's curve the columns of the head's; an empty cell was not measured."""
    losses = {name: float(row[name]) if row[name] else None for name in ("train_loss", "validation_loss")}
    return {"epoch": int(row["step"]) / steps, **losses, "validation_accuracy": None}
