"""Measure a reward model on pairs that it was not trained on."""

import itertools
from collections.abc import Sequence

from rlhf.core.stats import TIE, Interval, wilson, wins


def accuracy(margins: Sequence[float], *, tie: float = TIE) -> Interval:
    """Compute the share of pairs in which the chosen response has the higher reward, ties half, with Wilson's 95 %
    interval."""
    outcomes = wins(margins, tie=tie)
    return wilson(sum(outcomes), len(outcomes))


def agreement(margins: Sequence[float], gold_margins: Sequence[float]) -> Interval:
    """Compute the share of pairs that the reward model orders as the gold reward does; a tie on either side counts
    half."""
    pairs = zip(wins(margins), wins(gold_margins), strict=True)
    outcomes = [0.5 if 0.5 in pair else float(pair[0] == pair[1]) for pair in pairs]
    return wilson(sum(outcomes), len(outcomes))


def length_baseline(chosen: Sequence[str], rejected: Sequence[str]) -> Interval:
    """Compute the accuracy of the rule "the longer response wins" (characters; ties half), which a reward model has to
    beat."""
    return accuracy([len(a) - len(b) for a, b in zip(chosen, rejected, strict=True)])


def share_of_ceiling(rate: float, ceiling: float | None) -> float | None:
    """Compute (accuracy - .5) / (ceiling - .5): the share reached of what the annotators' noise allows.

    None where no ceiling is known or where it leaves nothing to learn (.5).
    """
    if ceiling is None or ceiling <= 0.5:
        return None
    return (rate - 0.5) / (ceiling - 0.5)


def member_metrics(margins: Sequence[Sequence[float]]) -> dict[str, float | int | None]:
    """Measure how accurate the K heads of an ensemble are and how far they agree, from their margins on the same pairs.

    Agreement: share of pairs of heads that order a pair of responses the same way, a tie on either side half. None
    with fewer than two heads.
    """
    rates = [accuracy(own).mean for own in margins]
    shared = [agreement(one, other).mean for one, other in itertools.combinations(margins, 2)]
    several = len(margins) > 1
    return {
        "reward_members": max(1, len(margins)),
        "reward_member_accuracy_lowest": min(rates) if several else None,
        "reward_member_accuracy_highest": max(rates) if several else None,
        "reward_member_agreement": sum(shared) / len(shared) if several else None,
    }


def by_slice(margins: Sequence[float], labels: Sequence[str | None], name: str) -> dict[str, float | int | None]:
    """Compute the accuracy in each slice, with interval and size, as metrics `reward_accuracy_<name>_<label>`."""
    found: dict[str, float | int | None] = {}
    for label in sorted({label for label in labels if label is not None}):
        inside = [margin for margin, other in zip(margins, labels, strict=True) if other == label]
        key = f"reward_accuracy_{name}_{slug(label)}"
        found |= accuracy(inside).named(key) | {f"{key}_n": len(inside)}
    return found


def turns_label(turns: int) -> str:
    """Label a pair by its human turns: 1, 2 or 3plus, since longer dialogues are too rare to stand alone."""
    return str(turns) if turns < 3 else "3plus"


def slug(label: str) -> str:
    """Turn a label into part of a metric's name: lower-case letters, digits and underscores."""
    return "".join(letter if letter.isalnum() else "_" for letter in label.lower())
