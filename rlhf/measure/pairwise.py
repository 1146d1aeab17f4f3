"""Compare every policy with every other."""

from collections.abc import Mapping
from itertools import combinations

from rlhf.core.stats import Interval
from rlhf.measure.ratings import Match, ratings
from rlhf.measure.responses import Responses
from rlhf.measure.winrate import WON_BY, outcomes, win_rate

Metrics = dict[str, object]


def won(responses: Mapping[str, Responses], first: str, second: str, scorer: str) -> list[float]:
    """Say for each prompt whether the first policy's response beat the second's: 1, 0, or one half for a tie.

    Any two policies and any scorer of `Responses.scores`; KeyError for others.
    """
    return outcomes(responses[first].scores[scorer], responses[second].scores[scorer])


def pairing_metrics(responses: Mapping[str, Responses], prefix: str) -> Metrics:
    """Compute `<prefix><scorer>_winrate_{sft,ppo}_base` by every scorer (`comparison_metrics` has PPO against SFT), and
    the ratings."""
    metrics: Metrics = {}
    for scorer in responses["base"].scores:
        for policy in ("sft", "ppo"):
            rate = win_rate(won(responses, policy, "base", scorer))
            metrics |= rate.named(f"{prefix}{WON_BY.get(scorer, scorer)}_winrate_{policy}_base")
    return metrics | rating_metrics(responses, prefix)


def rating_metrics(responses: Mapping[str, Responses], prefix: str) -> Metrics:
    """Compute `<prefix>rating_<policy>`: Elo ratings from all pairs of policies on all prompts, SFT at 1000, by the
    scorer closest to the truth, which `<prefix>rating_by` names. A single prompt gives no intervals."""
    scorer = list(responses["sft"].scores)[-1]
    matches = [
        Match(prompt, first, second, outcome)
        for first, second in combinations(responses, 2)
        for prompt, outcome in enumerate(won(responses, first, second, scorer))
    ]
    metrics: Metrics = {f"{prefix}rating_by": scorer}
    for policy, rating in ratings(matches, "sft").items():
        known = len(responses["sft"].samples) > 1
        metrics |= (rating if known else Interval(rating.mean, None, None)).named(f"{prefix}rating_{policy}")
    return metrics
