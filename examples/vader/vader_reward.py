"""Reward a reply for its sentiment: VADER's compound score (Hutto & Gilbert 2014), from -1 to 1.

    dvc exp run -S ppo.source=function -S ppo.function_path=examples/vader -S ppo.function=vader_reward:compound

It needs the package vaderSentiment (`pip install 'rlhf-pipeline[real]'`).
"""

import functools


@functools.cache
def _analyser():
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


def compound(prompts: list[str], responses: list[str]) -> list[float]:
    """Score each reply by itself: the prompt has a sentiment of its own, which is not the policy's doing."""
    return [float(_analyser().polarity_scores(response)["compound"]) for response in responses]
