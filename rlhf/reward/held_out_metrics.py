"""Compute the metrics of a reward model on pairs that it was not trained on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from rlhf.core.curves import Curve
from rlhf.core.stats import paired_difference, wins
from rlhf.reward.calibration import expected_calibration_error, fit_temperature, reliability
from rlhf.reward.fit import pair_loss
from rlhf.reward.length import Sides, length_labels, length_metrics
from rlhf.reward.metrics import accuracy, agreement, by_slice, length_baseline, share_of_ceiling, turns_label
from rlhf.reward.pairs import TextPair, pair_targets
from rlhf.synthetic.gold import gold_reward


@dataclass(frozen=True, slots=True)
class Held:
    """Test pairs with a reward model's rewards of them, and facts about the task (task.json)."""

    pairs: list[TextPair]
    rewards: Sides  # raw, in logits, up to a constant
    tokens: Sides  # lengths of the responses, the EOS included
    validation: list[float]  # raw margins of the validation pairs, for the temperature
    task: Mapping[str, object]

    @property
    def margins(self) -> list[float]:
        """Return the raw rewards of chosen minus rejected."""
        return [a - b for a, b in zip(self.rewards.chosen, self.rewards.rejected, strict=True)]


def held_out_metrics(held: Held, *, bins: int, seed: int) -> dict[str, object]:
    """Compute the metrics reward_*: accuracy beside baseline and ceiling, loss, margin, calibration, slices, length,
    gold.

    Every pair counts once here, whatever its weight in training.
    """
    pairs, margins = held.pairs, held.margins
    lengths = [len(pair.chosen) - len(pair.rejected) for pair in pairs]
    rate = accuracy(margins)
    over_length = paired_difference(wins(margins), wins(lengths), seed)
    metrics: dict[str, object] = {
        **rate.named("reward_accuracy"),
        "reward_loss": _loss(margins, pair_targets(pairs)),
        "reward_margin_mean": math.fsum(margins) / len(margins),
        **length_baseline([p.chosen for p in pairs], [p.rejected for p in pairs]).named("reward_length_baseline"),
        **over_length.named("reward_over_length"),
        "reward_ece": expected_calibration_error(reliability(margins, bins)),
        "reward_ece_bins": bins,
        **_tempered(margins, held.validation, bins, seed),
        **by_slice(margins, [pair.kind for pair in pairs], "kind"),
        **by_slice(margins, [turns_label(pair.turns) for pair in pairs], "turns"),
        **by_slice(margins, length_labels(held.tokens), "length"),
        **by_slice(margins, [pair.labelled_by for pair in pairs], "labelled_by"),
    }
    golds = _golds(held)
    labels = Sides([1.0] * len(pairs), [0.0] * len(pairs))
    truths = {"": labels} | ({"_gold": golds} if golds else {})
    metrics |= length_metrics(held.rewards, held.tokens, truths, seed)
    return metrics | _against_truth(held, rate.mean, golds)


def write_reliability(path: Path, margins: list[float], bins: int) -> None:
    """Write the reliability diagram as CSV: low, high, confidence, accuracy, count of each bin that holds pairs."""
    curve = Curve(path)
    for one in reliability(margins, bins):
        if one.count:
            row = {"confidence": one.confidence, "accuracy": one.accuracy, "count": one.count}
            curve.append(row | {"low": one.low, "high": one.high})


def _loss(margins: list[float], targets: torch.Tensor | None = None) -> float:
    return float(pair_loss(torch.tensor(margins, dtype=torch.float64), targets=targets))


def _tempered(margins: list[float], validation: list[float], bins: int, seed: int) -> dict[str, float | None]:
    """Compute loss and calibration error of margins divided by the temperature of the validation pairs."""
    found = fit_temperature(validation, seed)
    if found is None:
        names = ("reward_temperature", "reward_temperature_low", "reward_temperature_high")
        return dict.fromkeys((*names, "reward_loss_tempered", "reward_ece_tempered"))
    tempered = [margin / found.mean for margin in margins]
    return found.named("reward_temperature") | {
        "reward_loss_tempered": _loss(tempered),
        "reward_ece_tempered": expected_calibration_error(reliability(tempered, bins)),
    }


def _golds(held: Held) -> Sides | None:
    """Compute the gold rewards, where the task has them."""
    if held.task.get("gold") != "synthetic":
        return None
    return Sides(
        [gold_reward(pair.prompt, pair.chosen) for pair in held.pairs],
        [gold_reward(pair.prompt, pair.rejected) for pair in held.pairs],
    )


def _against_truth(held: Held, rate: float, golds: Sides | None) -> dict[str, object]:
    ceiling = held.task.get("noise_ceiling")
    known = ceiling if isinstance(ceiling, float) else None
    metrics: dict[str, object] = {
        "reward_noise_ceiling": known,
        "reward_share_of_ceiling": share_of_ceiling(rate, known),
    }
    if golds:
        differences = [a - b for a, b in zip(golds.chosen, golds.rejected, strict=True)]
        metrics |= agreement(held.margins, differences).named("reward_gold_agreement")
    return metrics
