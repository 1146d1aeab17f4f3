"""Verdicts on how it came: the reward model that was followed, and the run that followed it."""

from collections.abc import Sequence
from statistics import median

from rlhf.diagnose.evidence import Evidence, low
from rlhf.diagnose.params import InstabilityLimits, ModeCollapseLimits, RewardModelLimits, TerminationLimits
from rlhf.diagnose.verdict import Sign, Verdict, all_of, any_of

UNSTABLE_STOPS = (
    "score_spike", "kl_limit", "nonfinite_score", "nonfinite_rollout", "nonfinite_loss", "nonfinite_gradient"
)  # fmt: skip
COLLAPSED_STOP = "entropy_collapse"


def mode_collapse(evidence: Evidence, limits: ModeCollapseLimits) -> Verdict:
    """The policy says little else than a few things: no entropy left, or less of it and more alike replies than SFT's.

    A guard of PPO that stopped the run for its entropy is proof enough.
    """
    entropy = Sign("entropy", evidence.entropy.ppo, limits.entropy, "entropy, nats a token")
    sharper = Sign("entropy_ratio", evidence.entropy.ratio, limits.entropy_ratio, "entropy, PPO / SFT")
    poorer = Sign("distinct_ratio", evidence.distinct.ratio, limits.distinct_ratio, "distinct word pairs, PPO / SFT")
    alike = Sign(
        "compression_ratio",
        evidence.compression.ratio,
        limits.compression_ratio,
        "how well all replies compress together, PPO / SFT",
    )
    less = all_of((sharper.state, any_of((poorer.state, alike.state))))
    stopped = evidence.stop_reason == COLLAPSED_STOP
    state = "failed" if stopped else any_of((entropy.state, less))
    because = "a guard stopped PPO: no entropy was left" if stopped else (
        "entropy was not measured" if evidence.entropy.ppo is None or evidence.entropy.sft is None
        else f"entropy went from {evidence.entropy.sft:.2f} to {evidence.entropy.ppo:.2f} nats a token"
    )  # fmt: skip
    return Verdict("mode_collapse", state, because, (entropy, sharper, poorer, alike))


def instability(evidence: Evidence, limits: InstabilityLimits) -> Verdict:
    """PPO did not go its way step by step: the score fell back, updates were far larger than the clip is meant for, or
    a guard had to stop the run."""
    updates = evidence.updates
    scores = [update.score for update in updates if update.score is not None]
    signs = (
        Sign("score_drop", drawdown(scores), limits.score_drop, "deepest fall of the mean score behind its best"),
        Sign(
            "clip_fraction",
            _highest([update.clip_fraction for update in updates]),
            limits.clip_fraction,
            "highest share of clipped ratios in an iteration",
        ),
        Sign(
            "approx_kl",
            _highest([update.approx_kl for update in updates]),
            limits.approx_kl,
            "highest KL of an iteration's update, nats a token",
        ),
        Sign(
            "grad_spike",
            _spike([update.grad_norm for update in updates]),
            limits.grad_spike,
            "highest gradient norm / the median",
        ),
        Sign(
            "value_loss",
            _highest([update.value_loss for update in updates[1:]]),
            limits.value_loss,
            "highest value loss after the first iteration, squared reward units",
        ),
    )
    stopped = evidence.stop_reason in UNSTABLE_STOPS
    state = "failed" if stopped else any_of(sign.state for sign in signs)
    worst = next((sign for sign in signs if sign.state == state and sign.value is not None), None)
    because = f"a guard stopped PPO: {evidence.stop_reason}" if stopped else (
        "PPO left no curve" if worst is None
        else "no sign of it" if state == "sound" else f"{worst.says}: {worst.value:.3g}"
    )  # fmt: skip
    return Verdict("instability", state, because, signs, (("stop_reason", evidence.stop_reason),))


def reward_model(evidence: Evidence, limits: RewardModelLimits) -> Verdict:
    """On held-out pairs the reward model is no better than chance, or than "the longer one wins"; by the lower ends."""
    accuracy, over = evidence.accuracy, evidence.over_length
    signs = (
        Sign(
            "over_chance",
            accuracy.low - 0.5 if accuracy else None,
            limits.over_chance,
            "accuracy over one half, at least",
        ),
        Sign("over_length", low(over), limits.over_length, "accuracy over that of length alone, at least"),
    )
    because = "its accuracy was not measured" if accuracy is None else (
        f"accuracy {accuracy.value:.3f} on held-out pairs"
        + (f", length alone {accuracy.value - over.value:.3f}" if over else "")
    )  # fmt: skip
    return Verdict("reward_model", any_of(sign.state for sign in signs), because, signs)


def termination(evidence: Evidence, limits: TerminationLimits) -> Verdict:
    """Replies do not end by themselves and are cut off at the length limit."""
    ended = evidence.ended.ppo
    sign = Sign(
        "unended", None if ended is None else 1 - ended, limits.unended, "share of PPO's replies without an EOS"
    )
    because = "ends were not counted" if ended is None else f"{ended:.0%} of PPO's replies end by themselves"
    return Verdict("termination", sign.state, because, (sign,), (("unended_sft", _rest(evidence.ended.sft)),))


def drawdown(values: Sequence[float]) -> float | None:
    """The deepest fall behind the best value so far, over means of three (one value alone is noisy); None of none."""
    if not values:
        return None
    smooth = [_mean(values[max(0, k - 1) : k + 2]) for k in range(len(values))]
    best, deepest = smooth[0], 0.0
    for value in smooth:
        best = max(best, value)
        deepest = max(deepest, best - value)
    return deepest


def _highest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _spike(values: Sequence[float | None]) -> float | None:
    """Highest / median; None of too few to have a median worth the name."""
    known = [value for value in values if value is not None]
    middle = median(known) if len(known) >= 5 else 0.0
    return max(known) / middle if middle > 0 else None


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
