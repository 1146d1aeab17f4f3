"""Win rates on the same prompts."""

from collections.abc import Sequence

from rlhf.core.stats import Interval, tied_rate

TIE = 1e-6  # of a score's unit: equal responses get equal scores up to the rounding of a batched forward
WON_BY = {"reward": "rm"}  # the win rates of a scorer bear its name, but for the reward model's


def outcomes(scores: Sequence[float], others: Sequence[float], *, tie: float = TIE) -> list[float]:
    """For each prompt 1 where the first policy's response scores higher, 0 where lower, one half where equal.

    Any judge that gives such outcomes (a reward model, the gold reward, a person) can be counted by `win_rate`.
    """
    return [_outcome(a - b, tie) for a, b in zip(scores, others, strict=True)]


def win_rate(outcomes: Sequence[float]) -> Interval:
    """Mean outcome with Tango's 95 % interval, which without ties is Wilson's. Raises ValueError if there are none."""
    return tied_rate(outcomes)


def _outcome(difference: float, tie: float) -> float:
    return 0.5 if abs(difference) <= tie else float(difference > 0)
