"""Inspect what a reward model has learnt, by its scores of test responses: features, words, examples."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf.core.stats import Interval
from rlhf.reward.length import Array, Sides, correlation
from rlhf.reward.pairs import TextPair
from rlhf.reward.params import LearnedParams
from rlhf.reward.text_features import traits
from rlhf.synthetic.phrases import words

Report = dict[str, Any]  # rows of JSON


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Test pairs with the normalised rewards and the lengths (tokens) of both responses."""

    pairs: Sequence[TextPair]
    rewards: Sides
    lengths: Sides


def learned(scored: ScoredPairs, params: LearnedParams, seed: int) -> Report:
    """Build artifacts/reward_learned.json: `features`, `words`, `examples`, all in units of the reward.

    Correlations show what the reward goes with, not what causes it: words and features come together.
    """
    return {
        "responses": 2 * len(scored.pairs),
        "features": feature_correlations(scored, seed),
        "words": moving_words(scored, params),
        "examples": _examples(scored, params.examples),
    }


def learned_metrics(report: Report) -> dict[str, object]:
    """Select the headlines: the feature that correlates most with the reward, and the correlations with length and
    flattery."""
    features: list[Report] = [row for row in report["features"] if row["reward"] is not None]
    named = {str(row["feature"]): row for row in features}
    strongest = str(features[0]["feature"]) if features else None
    found: dict[str, object] = {"reward_strongest_feature": strongest}
    for name, feature in (("strongest", strongest), ("length", "length"), ("flattery", "flattery")):
        row = named.get(feature or "", {})
        found |= {f"reward_{name}_correlation{end}": row.get(f"reward{end}") for end in ("", "_low", "_high")}
    return found


def feature_correlations(scored: ScoredPairs, seed: int) -> list[Report]:
    """Compute Pearson correlations of each named feature, the strongest with the reward first.

    `reward`: over all responses, with an interval. `within_pairs`: of differences, chosen less rejected, so that what
    a prompt gives to both cancels. `label`: with 1 for chosen and 0 for rejected, which is what there was to learn.
    None where a feature is the same in all responses.
    """
    rows = [
        [traits(pair.asked or pair.prompt, text, int(count)) for text, count in _counted(pair, tokens)]
        for pair, tokens in zip(scored.pairs, scored.lengths.array(), strict=True)
    ]
    rewards = scored.rewards.array()
    labels = np.tile([1.0, 0.0], (len(rewards), 1))
    found = []
    for name in rows[0][0]:
        values = np.array([[side[name] for side in both] for both in rows])
        found.append(
            {"feature": name, "mean": float(values.mean())}
            | _named("reward", correlation(rewards, values, seed))
            | {
                "within_pairs": _plain(rewards[:, 0] - rewards[:, 1], values[:, 0] - values[:, 1]),
                "label": _plain(labels.ravel(), values.ravel()),
            }
        )
    return sorted(found, key=lambda row: (-abs(float(row["reward"] or 0.0)), str(row["feature"])))


def moving_words(scored: ScoredPairs, params: LearnedParams) -> Report:
    """Find the words with which the reward is highest and lowest: `up` and `down`, each with its count.

    A word's `effect` is the mean reward of responses that hold it less that of the others, with Welch's interval
    (Welch 1947), of words in at least `min_count` responses, and missing from as many. Hundreds of words are
    tested, so intervals near 0 mean nothing.
    """
    texts = [text for pair in scored.pairs for text in (pair.chosen, pair.rejected)]
    rewards = scored.rewards.array().ravel()
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        for word in sorted(set(words(text))):
            holders[word].append(number)
    rows: list[Report] = []
    for word in sorted(holders):
        if min(len(holders[word]), len(texts) - len(holders[word])) >= params.min_count:
            inside = np.zeros(len(texts), dtype=bool)
            inside[holders[word]] = True
            effect = _difference(rewards[inside], rewards[~inside])
            rows.append({"word": word, "count": len(holders[word])} | effect.named("effect"))
    rows.sort(key=lambda row: (-float(row["effect"]), str(row["word"])))
    up = [row for row in rows if row["effect"] > 0]
    down = [row for row in rows[::-1] if row["effect"] < 0]
    return {"considered": len(rows), "up": up[: params.words], "down": down[: params.words]}


def _examples(scored: ScoredPairs, count: int) -> Report:
    """Choose responses of the highest and the lowest reward, and pairs that the model is surest of, rightly and
    wrongly."""
    rewards = scored.rewards.array()
    order = np.argsort(-rewards.ravel(), kind="stable").tolist()
    by_margin = np.argsort(rewards[:, 1] - rewards[:, 0], kind="stable").tolist()
    surest = [_pair(scored, rewards, index) for index in by_margin]
    return {
        "most_rewarded": [_response(scored, rewards, index) for index in order[:count]],
        "least_rewarded": [_response(scored, rewards, index) for index in order[::-1][:count]],
        "surest_right": [row for row in surest[:count] if row["margin"] > 0],
        "surest_wrong": [row for row in surest[::-1][:count] if row["margin"] < 0],
    }


def _counted(pair: TextPair, tokens: Array) -> Iterator[tuple[str, float]]:
    return zip((pair.chosen, pair.rejected), tokens, strict=True)


def _response(scored: ScoredPairs, rewards: Array, index: int) -> Report:
    pair, side = scored.pairs[index // 2], index % 2
    text = (pair.chosen, pair.rejected)[side]
    return {
        "prompt": pair.prompt_shown, "response": text, "reward": float(rewards[index // 2, side]), "chosen": side == 0,
    }  # fmt: skip


def _pair(scored: ScoredPairs, rewards: Array, index: int) -> Report:
    pair = scored.pairs[index]
    margin = float(rewards[index, 0] - rewards[index, 1])
    return {"prompt": pair.prompt_shown, "chosen": pair.chosen, "rejected": pair.rejected, "margin": margin}


def _difference(inside: Array, outside: Array) -> Interval:
    from scipy import stats

    mean = float(inside.mean() - outside.mean())
    test = stats.ttest_ind(inside, outside, equal_var=False)
    ends = test.confidence_interval(0.95)
    if not math.isfinite(ends.low):  # the same reward throughout
        return Interval(mean, None, None)
    return Interval(mean, float(ends.low), float(ends.high))


def _plain(a: Array, b: Array) -> float | None:
    """Compute Pearson's r; None where one of the two is constant."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _named(name: str, found: Interval) -> dict[str, float | None]:
    return {key: value if value is None or math.isfinite(value) else None for key, value in found.named(name).items()}
