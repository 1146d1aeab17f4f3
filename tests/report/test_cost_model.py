"""The formula, worked by hand."""

import pytest

from rlhf.report.cost_model import Work, compute_rows, gpu_hours, work
from rlhf.report.wording import Numbers
from tests.report.runs import prices

METRICS = {
    "prepare_tokens_prompt_p50": 10.0, "prepare_tokens_chosen_p50": 30.0, "prepare_tokens_rejected_p50": 20.0,
    "prepare_pairs_train": 80, "prepare_pairs_validation": 10, "prepare_pairs_test": 10, "sft_train_examples": 50,
    "ppo_length_final": 5.0, "ppo_iterations": 4, "eval_prompts": 7, "eval_ood_prompts": 3,
}  # fmt: skip
RESOLVED = {
    "sft": {"epochs": 2, "replies": "chosen"},
    "reward": {"train": "head", "normalise_prompts": 6, "tune": {"epochs": 3}},
    "ppo": {"batch": 8, "epochs": 4},
}


def test_tokens_of_each_stage() -> None:
    episode = 10 + 5
    assert work(RESOLVED, Numbers(METRICS)) == [
        Work("sft", 0, 50 * 2 * 30),
        Work("reward", 100 * (30 + 20) + 6 * 2 * episode, 0),
        Work("ppo", 4 * 8 * 2 * episode, 4 * 8 * 4 * episode),
        Work("evaluate", 10 * 3 * 3 * episode, 0),
    ]


def test_a_tuned_reward_model_learns_from_the_training_pairs() -> None:
    tuned = RESOLVED | {"reward": RESOLVED["reward"] | {"train": "lora"}}
    assert work(tuned, Numbers(METRICS))[1] == Work("reward", 6 * 2 * 15, 80 * 50 * 3)


def test_nothing_is_reckoned_from_what_is_missing() -> None:
    assert work(RESOLVED, Numbers(METRICS | {"ppo_length_final": None})) == []


def test_hours_and_prices() -> None:
    assert Work("x", 100, 10).operations(1000) == (2 * 100 + 4 * 10) * 1000
    assert gpu_hours(3600 * 50e12, prices()) == pytest.approx(1.0)  # 100 at half utilisation: 50e12 a second
    ((size, operations, hours, price),) = compute_rows([Work("x", 9e7, 0)], [1_000_000_000], prices())
    assert (size, operations) == (1_000_000_000, 1.8e17)
    assert (hours, price) == (pytest.approx(1.0), pytest.approx(3.0))
