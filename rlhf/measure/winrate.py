"""Compute win rates on the same prompts."""

from collections.abc import Sequence

from rlhf.core.stats import Interval, tied_rate, wins

WON_BY = {"reward": "rm"}  # the win rates of a scorer bear its name, but for the reward model's


def outcomes(scores: Sequence[float], others: Sequence[float]) -> list[float]:
    """Say for each prompt whether the first policy's response scores higher: 1, lower: 0, or equal: one half.

    Outcomes from anywhere else (people, a language model) can be counted by `win_rate` as well.
    """
    return wins([a - b for a, b in zip(scores, others, strict=True)])


def win_rate(outcomes: Sequence[float]) -> Interval:
    """Average outcomes, with Tango's 95 % interval, which without ties is Wilson's. Raises ValueError if there are
    none."""
    return tied_rate(outcomes)
