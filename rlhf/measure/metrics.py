"""Turn measured responses into named metrics."""

from collections.abc import Mapping, Sequence

from rlhf.core.stats import mean_interval, paired_difference
from rlhf.measure.diversity import compression_ratio, distinct, repetition
from rlhf.measure.flattery import flattery_metrics
from rlhf.measure.length_controlled import length_controlled_win_rate
from rlhf.measure.responses import Responses
from rlhf.measure.winrate import WON_BY, outcomes, win_rate

Metrics = dict[str, object]


def policy_metrics(responses: Mapping[str, Responses], prefix: str) -> Metrics:
    """Compute `<prefix><measure>_<policy>` for each policy; means over responses have 95 % intervals (_low, _high).

    With a single prompt there are no intervals: they are None.
    """
    metrics: Metrics = {}
    for policy, given in responses.items():
        n = len(given.samples)
        means: dict[str, Sequence[float]] = {"length": given.drift.tokens, **given.scores}
        for measure, values in means.items():
            metrics |= mean_interval(values).named(f"{prefix}{measure}_{policy}")
        metrics |= {
            f"{prefix}entropy_{policy}": sum(given.drift.entropy) / n,
            f"{prefix}ended_{policy}": sum(sample.ended for sample in given.samples) / n,
            f"{prefix}empty_{policy}": sum(not text.strip() for text in given.texts) / n,
            f"{prefix}distinct1_{policy}": distinct(given.texts, 1),
            f"{prefix}distinct2_{policy}": distinct(given.texts, 2),
            f"{prefix}repetition_{policy}": sum(map(repetition, given.texts)) / n,
            f"{prefix}compression_{policy}": compression_ratio(given.texts),
        }
    return metrics


def drift_metrics(ppo: Responses, base: Responses, prefix: str) -> Metrics:
    """Compute the KL of PPO to SFT in nats a response (k1, k3, exact) and a token, and that of the base model for
    scale."""
    tokens = sum(ppo.drift.tokens)
    metrics: Metrics = {
        **mean_interval(ppo.drift.k1).named(f"{prefix}kl"),
        f"{prefix}kl_k3": mean_interval(ppo.drift.k3).mean,
        f"{prefix}kl_per_token": sum(ppo.drift.k1) / tokens,
        f"{prefix}kl_base": mean_interval(base.drift.k1).mean,
    }
    if ppo.exact_kl:
        metrics |= mean_interval(ppo.exact_kl).named(f"{prefix}kl_exact")
    return metrics


def comparison_metrics(ppo: Responses, sft: Responses, prefix: str, seed: int) -> Metrics:
    """Compare PPO with SFT on the same prompts, by every scorer: win rates (ties half), the same with the effect of
    length taken out, and mean gains (paired bootstrap)."""
    metrics: Metrics = {}
    for scorer, scores in ppo.scores.items():
        others = sft.scores[scorer]
        name, won = WON_BY.get(scorer, scorer), outcomes(scores, others)
        at_equal_length = length_controlled_win_rate(won, ppo.drift.tokens, sft.drift.tokens)
        metrics |= win_rate(won).named(f"{prefix}{name}_winrate")
        metrics |= at_equal_length.named(f"{prefix}{name}_lc_winrate")
        metrics |= paired_difference(scores, others, seed).named(f"{prefix}{scorer}_gain")
    length = paired_difference(ppo.drift.tokens, sft.drift.tokens, seed)
    return metrics | length.named(f"{prefix}length_gain")


def all_metrics(responses: Mapping[str, Responses], prefix: str, seed: int) -> Metrics:
    """Compute every metric of one set of prompts."""
    ppo, sft, base = responses["ppo"], responses["sft"], responses["base"]
    return {
        f"{prefix}prompts": len(sft.samples),
        **policy_metrics(responses, prefix),
        **drift_metrics(ppo, base, prefix),
        **comparison_metrics(ppo, sft, prefix, seed),
        **flattery_metrics({policy: given.texts for policy, given in responses.items()}, prefix, seed),
    }
