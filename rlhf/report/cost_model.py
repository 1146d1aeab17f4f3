"""Estimate the cost of a run of this length at other sizes: a formula, and prices that are parameters.

Operations are counted as in Kaplan et al. 2020 (arXiv 2001.08361, table 1): reading a token costs 2 N for N
parameters, learning from it 6 N. With a frozen base and an adapter the third part, the gradients of the weights, falls
away: 4 N. Attention over the sequence, the adapters themselves and validation passes are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf.report.params import ReportParams
from rlhf.report.wording import Numbers

POLICIES = 3  # base, SFT and PPO are evaluated
PER_READ, PER_LEARNED = 2, 4  # operations a token and parameter


@dataclass(frozen=True, slots=True)
class Work:
    """Tokens of a stage: only read, or learnt from with the base frozen."""

    stage: str
    read: float
    learned: float

    def operations(self, parameters: float) -> float:
        """Return floating-point operations for a model of so many parameters."""
        return (PER_READ * self.read + PER_LEARNED * self.learned) * parameters


def work(resolved: Mapping[str, Any], numbers: Numbers) -> list[Work]:
    """Count the tokens of each stage after the base model; return nothing where a number is missing.

    Sequences count with their median length, sampled responses with PPO's last mean.
    """
    needed = ("prepare_tokens_prompt_p50", "prepare_tokens_chosen_p50", "prepare_tokens_rejected_p50",
              "prepare_pairs_train", "prepare_pairs_validation", "prepare_pairs_test", "sft_train_examples",
              "ppo_length_final", "ppo_iterations", "eval_prompts")  # fmt: skip
    if not numbers.has(*needed):
        return []
    prompt, chosen, rejected, train, validation, test, examples, response, iterations, prompts = (
        float(numbers[name]) for name in needed
    )
    episode = prompt + response
    reward, ppo = resolved["reward"], resolved["ppo"]
    learnt = (chosen + rejected) / 2 if resolved["sft"]["replies"] == "both" else chosen
    once = (train + validation + test) * (chosen + rejected)
    tuned = reward["train"] == "lora"
    sampled = float(reward["normalise_prompts"]) * 2 * episode  # read once while sampling, once for the score
    episodes = iterations * ppo["batch"]
    asked = prompts + float(numbers.number("eval_ood_prompts") or 0)
    return [
        Work("sft", 0, examples * resolved["sft"]["epochs"] * learnt),
        Work(
            "reward",
            sampled + (0 if tuned else once),
            train * (chosen + rejected) * reward["tune"]["epochs"] if tuned else 0,
        ),
        Work("ppo", episodes * 2 * episode, episodes * ppo["epochs"] * episode),
        Work("evaluate", asked * POLICIES * 3 * episode, 0),  # sampled, under itself and SFT, scored
    ]


def gpu_hours(operations: float, params: ReportParams) -> float:
    """Return hours on one GPU with the speed and utilisation of `params`."""
    return operations / (params.gpu_tflops * 1e12 * params.gpu_utilisation) / 3600


def compute_rows(
    works: Sequence[Work], sizes: Sequence[int], params: ReportParams
) -> list[tuple[int, float, float, float]]:
    """Return (parameters, operations, GPU-hours, price) for each size."""
    rows = []
    for size in sizes:
        operations = sum(one.operations(size) for one in works)
        hours = gpu_hours(operations, params)
        rows.append((size, operations, hours, hours * params.price_gpu_hour))
    return rows
