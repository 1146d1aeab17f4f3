"""Policies against each other, on answers made by hand."""

import math

import pytest

from rlhf.measure.pairwise import pairing_metrics, rating_metrics, won
from rlhf.measure.responses import Drift, Responses
from rlhf.models.policy.sampling import Sample

Scores = list[float]


def answers(rewards: Scores, golds: Scores | None = None, referees: Scores | None = None) -> Responses:
    n = len(rewards)
    drift = Drift((0.0,) * n, (0.0,) * n, (0.0,) * n, (1,) * n)
    samples = tuple(Sample("p", "r", True, (0,)) for _ in rewards)
    gold, referee = golds and tuple(golds), referees and tuple(referees)
    return Responses(samples, tuple(rewards), gold or None, referee or None, drift, ())


# PPO beats SFT on three of four prompts and base on all; SFT and base are even, with two ties.
MADE = {
    "base": answers([0.0, 0.0, 0.0, 0.0]),
    "sft": answers([1.0, -1.0, 0.0, 0.0]),
    "ppo": answers([2.0, 2.0, 2.0, -0.5]),
}


def test_any_policy_against_any_other() -> None:
    assert won(MADE, "ppo", "sft", "reward") == [1, 1, 1, 0]
    assert won(MADE, "sft", "base", "reward") == [1, 0, 0.5, 0.5]
    assert won(MADE, "base", "ppo", "reward") == [0, 0, 0, 1]
    found = pairing_metrics(MADE, "x_")
    assert (found["x_rm_winrate_sft_base"], found["x_rm_winrate_ppo_base"]) == (0.5, 0.75)
    assert not [name for name in found if "gold" in name or "referee" in name]


def test_two_equal_policies_and_a_better_one_by_hand() -> None:
    # PPO wins 3 of 4 from each of two policies that tie; the prior's tie makes it 3.5 to 1.5, log10(7/3) * 400 = 147.2
    found = rating_metrics({"base": MADE["base"], "sft": MADE["base"], "ppo": MADE["ppo"]}, "x_")
    assert found["x_rating_by"] == "reward"
    assert [found[f"x_rating_base{end}"] for end in ("", "_low", "_high")] == pytest.approx([1000] * 3)
    assert found["x_rating_ppo"] == pytest.approx(1000 + 400 * math.log10(3.5 / 1.5), abs=0.01)
    assert (found["x_rating_sft"], found["x_rating_sft_low"]) == (1000, 1000)
    assert float(found["x_rating_ppo_low"]) < 1147 < float(found["x_rating_ppo_high"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("golds", "referees", "by"),
    [(True, True, "gold"), (True, False, "gold"), (False, True, "referee"), (False, False, "reward")],
)
def test_the_scorer_closest_to_the_truth_rates(golds: bool, referees: bool, by: str) -> None:
    """It says the opposite of the reward model, so that the ratings show who was asked."""
    truth, other = [0.0] * 5, [1.0] * 5

    def one(rewards: Scores, better: Scores) -> Responses:
        worse = [-x for x in better]
        return answers(rewards, better if golds else None, (worse if golds else better) if referees else None)

    made = {"base": one(truth, other), "sft": one(truth, truth), "ppo": one(other, [-1.0] * 5)}
    found = rating_metrics(made, "x_")
    assert found["x_rating_by"] == by
    ahead = "x_rating_ppo" if by == "reward" else "x_rating_base"
    assert float(found[ahead]) > 1050  # type: ignore[arg-type]


def test_one_prompt_and_equal_policies() -> None:
    one = rating_metrics({"base": answers([0.0]), "sft": answers([0.0]), "ppo": answers([1.0])}, "x_")
    assert float(one["x_rating_ppo"]) > 1000  # type: ignore[arg-type]
    assert (one["x_rating_ppo_low"], one["x_rating_base_high"]) == (None, None)
    same = answers([1.0, 2.0, 3.0])
    even = rating_metrics({"base": same, "sft": same, "ppo": same}, "x_")
    assert even["x_rating_ppo"] == pytest.approx(1000)
    assert even["x_rating_ppo_low"] == pytest.approx(1000)
