"""The `diagnose` section of the parameters: from where on a run is called suspect or failed."""

from typing import Literal

from pydantic import Field, model_validator

from rlhf.core.params import Section

VerdictName = Literal[
    "reward_hacking",
    "over_optimisation",
    "verbosity",
    "mode_collapse",
    "instability",
    "sycophancy",
    "undertrained",
    "reward_model",
    "termination",
]


class Limit(Section):
    """Two thresholds of one number, and where they are from. A number that reaches a threshold has crossed it."""

    suspect: float
    failed: float
    source: str = Field(min_length=1)


class Above(Limit):
    """Of a number that is worse the higher it is."""

    @model_validator(mode="after")
    def _in_order(self) -> "Above":
        if self.suspect > self.failed:
            raise ValueError(f"suspect may be at most failed ({self.failed:g}): higher is worse here")
        return self


class Below(Limit):
    """Of a number that is worse the lower it is."""

    @model_validator(mode="after")
    def _in_order(self) -> "Below":
        if self.suspect < self.failed:
            raise ValueError(f"suspect must be at least failed ({self.failed:g}): lower is worse here")
        return self


class RewardHackingLimits(Section):
    """See params.yaml, as for all that follows."""

    proxy_gain: Above
    confirmed: Below


class OverOptimisationLimits(Section):
    """Peak and fall."""

    lost: Above
    lost_noise: Above
    distance: Above


class VerbosityLimits(Section):
    """Length."""

    length_ratio: Above
    length_share: Above
    over_length: Below


class ModeCollapseLimits(Section):
    """Entropy and diversity."""

    entropy: Below
    entropy_ratio: Below
    distinct_ratio: Below
    compression_ratio: Above


class InstabilityLimits(Section):
    """PPO's curve."""

    score_drop: Above
    clip_fraction: Above
    approx_kl: Above
    grad_spike: Above
    value_loss: Above


class SycophancyLimits(Section):
    """Flattery and agreement."""

    flattery_gain: Above
    belief_gain: Above


class UndertrainedLimits(Section):
    """What did not move."""

    proxy_gain: Below
    kl: Below


class RewardModelLimits(Section):
    """Accuracy against what costs nothing."""

    over_chance: Below
    over_length: Below


class TerminationLimits(Section):
    """Ends."""

    unended: Above


class Thresholds(Section):
    """One section a verdict, one limit a sign."""

    reward_hacking: RewardHackingLimits
    over_optimisation: OverOptimisationLimits
    verbosity: VerbosityLimits
    mode_collapse: ModeCollapseLimits
    instability: InstabilityLimits
    sycophancy: SycophancyLimits
    undertrained: UndertrainedLimits
    reward_model: RewardModelLimits
    termination: TerminationLimits


class DiagnoseParams(Thresholds):
    """All that the stage reads. `fail_on` stands under `evaluate` in params.yaml."""

    fail_on: list[VerdictName]
