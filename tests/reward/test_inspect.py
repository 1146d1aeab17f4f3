"""What a reward model learnt, on rewards whose cause is planted."""

import random

import numpy as np
import pytest

from rlhf.reward.inspect import ScoredPairs, learned, learned_metrics
from rlhf.reward.length import Sides
from rlhf.reward.pairs import TextPair
from rlhf.reward.params import LearnedParams
from rlhf.reward.text_features import traits
from tests.reward.conftest import WORDS

PARAMS = LearnedParams(min_count=10, words=5, examples=3)


def planted(count: int, seed: int) -> ScoredPairs:
    """The reward is 2 for "genius", -1 for "maybe", and noise of .3; the label is drawn at random."""
    rng = random.Random(seed)
    pairs, rewards, lengths = [], [], []
    for k in range(count):
        texts, scores = [], []
        for _ in range(2):
            said = [rng.choice(WORDS) for _ in range(rng.randint(3, 9))]
            loved, hedged = rng.random() < 0.3, rng.random() < 0.3
            said += ["genius"] * loved + ["maybe"] * hedged
            rng.shuffle(said)
            texts.append(" " + " ".join(said))
            scores.append(2.0 * loved - hedged + rng.gauss(0, 0.3))
        pairs.append(TextPair(f"\n\nHuman: number {k}?\n\nAssistant:", texts[0], texts[1], None, 1))
        rewards.append(scores)
        lengths.append([len(text.split()) for text in texts])
    both, tokens = np.array(rewards), np.array(lengths, dtype=float)
    return ScoredPairs(pairs, Sides(*both.T.tolist()), Sides(*tokens.T.tolist()))


def test_planted_causes_are_found() -> None:
    scored = planted(300, 0)
    report = learned(scored, PARAMS, seed=0)
    features = {row["feature"]: row for row in report["features"]}  # type: ignore[attr-defined]
    assert [row["feature"] for row in report["features"]][:2] == ["flattery", "hedges"]  # type: ignore[attr-defined]
    assert features["flattery"]["reward_low"] > 0.7
    assert features["hedges"]["reward_high"] < -0.2
    assert features["flattery"]["within_pairs"] > 0.7
    assert abs(features["flattery"]["label"]) < 0.15
    assert features["digits"]["reward"] is None
    words = report["words"]
    up, down = words["up"][0], words["down"][0]  # type: ignore[index]
    assert (up["word"], down["word"]) == ("genius", "maybe")
    assert up["effect_low"] < 2 < up["effect_high"]
    assert down["effect_low"] < -1 < down["effect_high"]
    assert up["count"] == sum("genius" in t for p in scored.pairs for t in (p.chosen, p.rejected))


def test_headlines() -> None:
    found = learned_metrics(learned(planted(200, 1), PARAMS, seed=0))
    assert found["reward_strongest_feature"] == "flattery"
    assert found["reward_strongest_correlation"] == found["reward_flattery_correlation"]
    assert abs(float(found["reward_length_correlation"])) < 0.5  # type: ignore[arg-type]


def test_examples_go_both_ways() -> None:
    pairs = [TextPair("p", f" c{k}", f" r{k}", None, 1) for k in range(4)]
    scored = ScoredPairs(pairs, Sides([3.0, 0.5, 1.0, -2.0], [0.0, 1.5, 0.6, 2.0]), Sides([1.0] * 4, [1.0] * 4))
    examples = learned(scored, LearnedParams(min_count=2, words=1, examples=2), seed=0)["examples"]
    assert [row["response"] for row in examples["most_rewarded"]] == [" c0", " r3"]  # type: ignore[index]
    assert [row["response"] for row in examples["least_rewarded"]] == [" c3", " r0"]  # type: ignore[index]
    assert [row["margin"] for row in examples["surest_right"]] == [3.0, pytest.approx(0.4)]  # type: ignore[index]
    assert [row["margin"] for row in examples["surest_wrong"]] == [-4.0, -1.0]  # type: ignore[index]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (
            " You are so clever! Is it 42? Maybe.",
            {"flattery": 1, "question_marks": 1, "exclamation_marks": 1, "digits": 2, "hedges": 1, "sentences": 3},
        ),
        (" a b c a b c", {"repetition": 0.25, "type_token_ratio": 0.5, "unfinished": 1, "word_length": 1}),
        (" Of course! Do not waste my time.", {"politeness": 1, "rudeness": 1, "unfinished": 0}),
        (" The sky is blue.", {"prompt_overlap": 0.75, "ignorance": 0, "flattery": 0}),
        (" Sorry, I have never heard of it.", {"ignorance": 1, "politeness": 1}),
        ("", {"repetition": 0, "type_token_ratio": 0, "word_length": 0, "prompt_overlap": 0}),
    ],
)
def test_traits_by_hand(response: str, expected: dict[str, float]) -> None:
    prompt = "\n\nHuman: You are blue?\n\nAssistant: No.\n\nHuman: What colour is the sky?\n\nAssistant:"
    found = traits(prompt, response, 7)
    assert found["length"] == 7
    assert {name: found[name] for name in expected} == {name: pytest.approx(value) for name, value in expected.items()}
