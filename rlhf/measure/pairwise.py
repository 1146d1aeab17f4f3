"""Every policy against every other."""

from collections.abc import Mapping
from itertools import combinations

from rlhf.core.stats import Interval
from rlhf.measure.ratings import Comparison, ratings
from rlhf.measure.responses import Answers
from rlhf.measure.winrate import WON_BY, outcomes, win_rate

Metrics = dict[str, object]


def won(answers: Mapping[str, Answers], first: str, second: str, scorer: str) -> list[float]:
    """For each prompt whether the first policy's response beat the second's: 1, 0, or one half for a tie.

    Any two policies and any scorer of `Answers.scores`; KeyError for others.
    """
    return outcomes(answers[first].scores[scorer], answers[second].scores[scorer])


def pairing_metrics(answers: Mapping[str, Answers], prefix: str) -> Metrics:
    """`<prefix><scorer>_winrate_{sft,ppo}_base` by every scorer (PPO against SFT stands elsewhere), and the ratings."""
    metrics: Metrics = {}
    for scorer in answers["base"].scores:
        for policy in ("sft", "ppo"):
            rate = win_rate(won(answers, policy, "base", scorer))
            metrics |= rate.named(f"{prefix}{WON_BY.get(scorer, scorer)}_winrate_{policy}_base")
    return metrics | rating_metrics(answers, prefix)


def rating_metrics(answers: Mapping[str, Answers], prefix: str) -> Metrics:
    """`<prefix>rating_<policy>`: Elo ratings from all pairs of policies on all prompts, SFT at 1000, by the scorer
    closest to the truth, which `<prefix>rating_by` names. A single prompt gives no intervals."""
    scorer = list(answers["sft"].scores)[-1]
    comparisons = [
        Comparison(prompt, first, second, outcome)
        for first, second in combinations(answers, 2)
        for prompt, outcome in enumerate(won(answers, first, second, scorer))
    ]
    metrics: Metrics = {f"{prefix}rating_by": scorer}
    for policy, rating in ratings(comparisons, "sft").items():
        known = len(answers["sft"].samples) > 1
        metrics |= (rating if known else Interval(rating.mean, None, None)).named(f"{prefix}rating_{policy}")
    return metrics
