"""Run the reward stage: fit a head, put it on a scale, measure it on test pairs; then fit the referee."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf.core.artifacts import read_json
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Curve
from rlhf.core.runtime import Runtime
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample, sample_texts
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.encoder_referee import EncoderReferee
from rlhf.models.reward.length_correction import LengthCorrection
from rlhf.models.reward.referee import Referee
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, Scorer, prompts_that_fit
from rlhf.reward.encoder import encoder_features, load_encoder, on_encoder
from rlhf.reward.features import response_tokens
from rlhf.reward.fit_frozen import fit_frozen, fit_settings, raw_scores, weights_of
from rlhf.reward.fit_lora import fit_tuned
from rlhf.reward.held_out_metrics import Held, held_out_metrics
from rlhf.reward.inspect import Report, ScoredPairs, learned, learned_metrics
from rlhf.reward.length import Sides
from rlhf.reward.metrics import accuracy
from rlhf.reward.normalise import choose_prompts, mean_and_std
from rlhf.reward.pairs import TextPair, read_pairs, unique_prompts
from rlhf.reward.params import RewardParams
from rlhf.reward.referee import REFEREE, divide, fit_second, over_length_metrics, referee_metrics, second_model
from rlhf.reward.types import SPLITS, Fitted, Folders


@dataclass(frozen=True, slots=True)
class TrainedReward:
    """Everything the stage saves. `tuned` is the backbone whose adapter REWARD was trained; None if it stayed
    frozen."""

    model: RewardModel
    referee: Referee | None  # the second one, on prompts of its own; None with referee_share 0
    tuned: Backbone | None
    metrics: dict[str, object]
    test_margins: list[float]  # raw rewards of chosen minus rejected, in logits
    learned: Report  # what it goes by (`rlhf.reward.inspect`)


def train_reward(
    at: Folders, params: RewardParams, *, runtime: Runtime, checkpoints: Checkpoints, curve: Curve
) -> TrainedReward:
    """Fit a reward head on the SFT policy's states of the preference pairs; with train: lora the backbone learns too.

    Nothing but validation loss chooses the epoch or step; the test split is only measured.

    Raises:
        UserError: a file is missing or malformed, a pair exceeds the context, or the fit is degenerate.
    """
    encoder = load_encoder(at.encoder, runtime.device)
    splits = {name: read_pairs(at.pairs / f"{name}.jsonl") for name in SPLITS}
    everyone = unique_prompts(splits["train"])
    splits["train"], splits[REFEREE] = divide(splits["train"], params.referee_share, runtime.seed)
    task = read_json(at.pairs / "task.json")
    way = fit_frozen if params.train == "head" else fit_tuned
    fitted = way(at, splits, params, runtime=runtime, checkpoints=checkpoints, curve=curve)
    scorer, model = fitted.scorer, fitted.scorer.reward
    lengths = {name: response_tokens(scorer.backbone, splits[name]) for name in SPLITS}
    model.correction = _correction(fitted, lengths["train"], params)
    prompts = prompts_that_fit(scorer.backbone, everyone, params.response_tokens)
    prompts = choose_prompts(prompts, params.normalise_prompts, runtime.seed)
    samples = _sft_samples(scorer.backbone, prompts, params, runtime.seed)
    model.mean, model.std = _scale(scorer, samples, params)
    scores = fitted.scores(lengths)
    margins = {name: (own[:, 0] - own[:, 1]).tolist() for name, own in scores.items()}
    decided = [lead for lead, pair in zip(margins["train"], splits["train"], strict=True) if pair.target > 0.5]
    rewards, tokens = _sides(scores["test"]), _sides(lengths["test"])
    held = Held(splits["test"], rewards, tokens, margins["validation"], task)
    metrics = held_out_metrics(held, bins=params.calibration_bins, seed=runtime.seed)
    metrics |= {**fitted.numbers} | _sizes(splits) | _scale_metrics(decided, margins["validation"], model)
    second: Referee | None = None
    own: list[float] = []
    if splits[REFEREE] and encoder:
        second, own, more = _on_encoder(
            encoder, splits, samples, params=params, seed=runtime.seed, checkpoints=checkpoints.within("encoder")
        )
        metrics |= more
    elif splits[REFEREE]:
        second, own = _second(at, fitted, splits, samples, params=params, seed=runtime.seed)
    metrics |= referee_metrics(splits[REFEREE], own, margins["test"])
    metrics |= over_length_metrics(splits["test"], own, runtime.seed, always=encoder is not None)
    report = learned(
        ScoredPairs(splits["test"], _sides(scores["test"] / model.std), tokens), params.learned, runtime.seed
    )
    metrics |= learned_metrics(report)
    tuned = scorer.backbone if params.train == "lora" else None
    _check_same(runtime, model, second.head if isinstance(second, EncoderReferee) else second)
    return TrainedReward(model, second, tuned, metrics, margins["test"], report)


def _check_same(runtime: Runtime, *models: RewardModel | None) -> None:
    """Check that all processes, each of which has fitted the heads, hold the same ones on the same scale."""
    for model in filter(None, models):
        scale = torch.tensor([model.mean, model.std], dtype=torch.float64)
        runtime.processes.check_same({**model.state_dict(), "scale": scale})


def _correction(fitted: Fitted, lengths: Tensor, params: RewardParams) -> LengthCorrection:
    """Make the length correction; a regression is fitted on the raw scores of the training responses."""
    correction = LengthCorrection(params.length_correction)
    if correction.kind != "regression":
        return correction
    scores = fitted.scores({"train": lengths})["train"]
    return correction.fitted(scores.flatten().tolist(), lengths.flatten().tolist())


def _second(
    at: Folders,
    fitted: Fitted,
    splits: Mapping[str, list[TextPair]],
    samples: Sequence[Sample],
    *,
    params: RewardParams,
    seed: int,
) -> tuple[RewardModel, list[float]]:
    """Fit the second model, put it on the scale of the same SFT samples, and return its raw margins of the test
    pairs."""
    parts, backbone = fitted.frozen(), fitted.scorer.backbone
    weights = weights_of(splits[REFEREE], splits["validation"])
    empty = second_model(backbone.hidden_size, at, params)
    model = fit_second(parts, fit_settings(params), empty, weights=weights, seed=seed)
    scores = raw_scores(model, parts["test"], response_tokens(backbone, splits["test"]))
    model.mean, model.std = _scale(Scorer(backbone, model, ADAPTER), samples, params)
    return model, (scores[:, 0] - scores[:, 1]).tolist()


def _on_encoder(
    referee: EncoderReferee,
    splits: Mapping[str, list[TextPair]],
    samples: Sequence[Sample],
    *,
    params: RewardParams,
    seed: int,
    checkpoints: Checkpoints,
) -> tuple[EncoderReferee, list[float], Mapping[str, object]]:
    """Do what `_second` does with features of a sentence encoder; return the metrics of these as well."""
    needed = {name: splits[name] for name in (REFEREE, "validation", "test")}
    found = encoder_features(referee, needed, params.batch_tokens, checkpoints)
    weights, settings = weights_of(splits[REFEREE], splits["validation"]), on_encoder(fit_settings(params))
    head = fit_second(found.parts, settings, referee.head, weights=weights, seed=seed)
    test = found.parts["test"]
    scores = raw_scores(head, test, torch.zeros(test.shape[:2]))  # its scores are corrected for no length
    head.mean, head.std = mean_and_std(referee.score_samples(samples, batch_tokens=params.batch_tokens))
    return referee.fresh(), (scores[:, 0] - scores[:, 1]).tolist(), found.metrics


def _sides(values: Tensor) -> Sides:
    """Split (N, 2) into two lists."""
    return Sides(values[:, 0].tolist(), values[:, 1].tolist())


def _sft_samples(backbone: Backbone, prompts: Sequence[str], params: RewardParams, seed: int) -> list[Sample]:
    """Sample one SFT response to each prompt."""
    return sample_texts(
        backbone,
        prompts,
        Sampling(params.response_tokens, params.temperature),
        adapter=ADAPTER,
        stream=(seed, "reward", "samples"),
        batch_size=params.sample_batch,
    )


def _scale(scorer: Scorer, samples: Sequence[Sample], params: RewardParams) -> tuple[float, float]:
    """Compute mean and standard deviation of raw scores (the model's own mean and std are still 0 and 1)."""
    return mean_and_std(scorer.score_samples(samples, batch_tokens=params.batch_tokens))


def _sizes(splits: Mapping[str, list[TextPair]]) -> dict[str, object]:
    return {f"reward_{name}_pairs": len(splits[name]) for name in SPLITS}


def _scale_metrics(train: list[float], validation: list[float], model: RewardModel) -> dict[str, object]:
    """Measure accuracy on margins of pairs in which a response is ahead, and the scale."""
    return {
        "reward_train_accuracy": accuracy(train).mean if train else None,
        "reward_validation_accuracy": accuracy(validation).mean,
        "reward_sft_mean": model.mean,
        "reward_sft_std": model.std,
    }
