"""A policy's responses, and the measurements of each."""

from dataclasses import dataclass

from rlhf.models.policy.sampling import Sample


@dataclass(frozen=True, slots=True)
class Drift:
    """How far each response has gone from the reference policy; one entry a response.

    Natural logarithms at the sampling temperature, each summed over the response's tokens. k1 and k3 are Schulman's
    estimators (joschu.net/blog/kl-approx.html) with the responses drawn from the policy itself.
    """

    k1: tuple[float, ...]  # log p(y) - log ref(y): unbiased, may be negative
    k3: tuple[float, ...]  # sum of r - 1 - log r over tokens, r = ref / p: same mean as the tokens' KL, never negative
    entropy: tuple[float, ...]  # mean over the tokens, of the policy
    tokens: tuple[int, ...]  # the EOS included


@dataclass(frozen=True, slots=True)
class Responses:
    """One policy's responses to a list of prompts, in their order, with the measurements of each."""

    samples: tuple[Sample, ...]
    rewards: tuple[float, ...]  # by the reward model, in standard deviations of SFT responses
    golds: tuple[float, ...] | None  # None where the task has no gold reward
    referees: tuple[float, ...] | None  # by the referee, likewise; None where there is none
    drift: Drift
    exact_kl: tuple[float, ...]  # on the first few prompts only

    @property
    def scores(self) -> dict[str, tuple[float, ...]]:
        """Return the scores by each scorer that there is, from the one that PPO was trained on to the truth."""
        found = {"reward": self.rewards, "referee": self.referees, "gold": self.golds}
        return {scorer: scores for scorer, scores in found.items() if scores is not None}

    @property
    def texts(self) -> list[str]:
        """Return the responses as text."""
        return [sample.response for sample in self.samples]
