"""Fit the referee: a second reward model, on prompts whose pairs the first never sees and PPO is not trained on.

It has pairs, annotators' noise and initial weights of its own. It reads the same backbone, and always the backbone's
log-probabilities of the response as well: PPO drives responses to where there are no pairs, and hidden states alone do
not show that. `rlhf.reward.encoder` fits one on a sentence encoder instead.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from rlhf.core.checkpoint import Checkpoints
from rlhf.core.errors import UserError
from rlhf.core.seeding import derive, rng
from rlhf.core.stats import paired_difference, wins
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.reward_model import Pooling, RewardModel
from rlhf.reward.features import frozen_features
from rlhf.reward.fit import FitSettings, Weights, fit_head
from rlhf.reward.metrics import accuracy, agreement
from rlhf.reward.pairs import TextPair, unique_prompts
from rlhf.reward.params import RewardParams
from rlhf.reward.types import Folders

REFEREE = "referee"  # the name of its pairs beside the splits
_RATES = ("accuracy", "agreement")


def divide(pairs: Sequence[TextPair], share: float, seed: int) -> tuple[list[TextPair], list[TextPair]]:
    """Divide the training pairs between the two reward models, by prompt: no prompt is on both sides.

    `share` of the prompts, drawn by the seed, go to the second; 0 gives it none.

    Raises:
        UserError: a share above 0 leaves one of the two without a prompt.
    """
    prompts = unique_prompts(pairs)
    count = round(share * len(prompts))
    if share > 0 and not 0 < count < len(prompts):
        raise UserError(
            f"reward.referee_share: found {share:g}, which is {count} of {len(prompts)} training prompts; "
            "allowed: a share that leaves both reward models at least one, or 0"
        )
    held = set(rng(seed, "reward", "heldout", "prompts").sample(prompts, count))
    return [pair for pair in pairs if pair.prompt not in held], [pair for pair in pairs if pair.prompt in held]


def second_model(hidden_size: int, at: Folders, params: RewardParams) -> RewardModel:
    """Make the second model, unfitted. It reads what the first reads, under the SFT adapter, and log-probabilities;
    attention pooling needs a trained backbone, which it never has."""
    pooling: Pooling = "mean" if params.pooling == "attention" else params.pooling
    return RewardModel(
        hidden_size,
        pooling=pooling,
        pool_over=params.pool_over,
        backbone_adapter=at.sft.as_posix(),
        logprobs=True,
    )


def features_for_second(
    at: Folders,
    backbone: Backbone,
    splits: Mapping[str, list[TextPair]],
    params: RewardParams,
    checkpoints: Checkpoints,
) -> dict[str, Tensor]:
    """Compute, under the SFT adapter, the features of the pairs that the second model needs: its own, validation and
    test."""
    model = second_model(backbone.hidden_size, at, params)
    needed = {name: splits[name] for name in (REFEREE, "validation", "test")}
    return frozen_features(backbone, needed, model, params.batch_tokens, checkpoints)


def fit_second(
    parts: Mapping[str, Float[Tensor, "N 2 F"]],
    settings: FitSettings,
    model: RewardModel,
    *,
    weights: Weights,
    seed: int,
) -> RewardModel:
    """Fit a linear head on frozen features of the pairs `referee`, its epoch chosen on `validation`; not yet on a
    scale.

    Always one head on frozen features, whatever the first is. `model`: as it is before a fit; its head is set.
    """
    own = derive(seed, "reward", "heldout")
    head = fit_head(parts[REFEREE], parts["validation"], settings, seed=own, weights=weights).head
    model.head.load_state_dict({name: value.unsqueeze(0) for name, value in head.state().items()})
    return model.requires_grad_(False).eval()


def referee_metrics(pairs: Sequence[TextPair], margins: Sequence[float], first: Sequence[float]) -> dict[str, object]:
    """Compute the metrics reward_referee_*: its training pairs, and accuracy and agreement with the first model on test
    pairs from the margins (raw rewards of chosen minus rejected) of the two. Without a second model all but the number
    of pairs are None."""
    metrics: dict[str, object] = {"reward_referee_pairs": len(pairs)}
    if not pairs:
        return metrics | {f"reward_referee_{rate}{end}": None for rate in _RATES for end in ("", "_low", "_high")}
    found = dict(zip(_RATES, (accuracy(margins), agreement(margins, first)), strict=True))
    for rate, interval in found.items():
        metrics |= interval.named(f"reward_referee_{rate}")
    return metrics


def over_length_metrics(
    pairs: Sequence[TextPair], margins: Sequence[float], seed: int, *, always: bool
) -> dict[str, object]:
    """Say whether the referee beats the rule "the longer response wins" on test pairs: reward_referee_over_length, its
    accuracy less the rule's with a paired interval, and reward_referee_beats_length, whether that lies above 0.

    A referee that does not is none: counting letters does as well, and its win rates decide nothing. Where it does,
    there is nothing to warn of, and the metrics are left out unless `always` is set.
    """
    if not margins:
        return {}
    lengths = [len(pair.chosen) - len(pair.rejected) for pair in pairs]
    over = paired_difference(wins(margins), wins(lengths), seed)
    beats = over.low is not None and over.low > 0
    if beats and not always:
        return {}
    return {**over.named("reward_referee_over_length"), "reward_referee_beats_length": beats}
