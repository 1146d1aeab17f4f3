"""Runs of PPO that go on long after the reward model has stopped being right: what the studies of it share.

A weak KL penalty (.03 for .20), no KL limit, ten iterations more than the default and, to be cheap, half its episodes
an iteration. Base, SFT and pairs of a seed are made once, in `<work>/seed<seed>`; each run starts from a copy of them,
and what has finished is not run again.
"""

from pathlib import Path
from typing import Any

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.curves import read_rows
from studies.chain import STAGES, run_chain

SETTING: dict[str, Any] = {
    "ppo.kl_coef": 0.03, "ppo.iterations": 40, "ppo.kl_limit": 0.0, "ppo.batch": 64, "ppo.minibatch": 32,
    "ppo.logged_episodes": 64, "evaluate.prompts": 300, "evaluate.ood_prompts": 0, "evaluate.exact_kl_prompts": 0,
    "evaluate.samples": 300,
}  # fmt: skip


def over_optimised(work: Path, seed: int, name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """All metrics of the run `name` of one seed, the setting above with `changes`; its folder is `folder_of`."""
    start = work / f"seed{seed}"
    run_chain(start, {"seed": seed}, stages=STAGES[: STAGES.index("ppo")])
    return run_chain(folder_of(work, seed, name), {"seed": seed, **SETTING, **changes}, start=start)


def folder_of(work: Path, seed: int, name: str) -> Path:
    """Where a run lies."""
    return work / f"seed{seed}-{name}"


def golds(folder: Path, policy: str) -> dict[str, float]:
    """Gold reward of a policy's answer to each prompt of the evaluation."""
    return {row["prompt"]: row[f"{policy}_gold"] for _, row in iter_jsonl(folder / "artifacts/evaluate/samples.jsonl")}


def curve(folder: Path) -> list[dict[str, float]]:
    """Along PPO, one row an iteration: sqrt_kl, proxy, gold, referee."""
    rows = read_rows(folder / "plots/overoptimisation.csv")
    return [{name: float(value) for name, value in row.items() if value} for row in rows]
