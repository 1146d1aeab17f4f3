"""Run PPO long after the reward model has stopped being right: what the studies of over-optimisation share.

A weak KL penalty (.03 for .20), no KL limit, ten iterations more than the default and, to be cheap, half its episodes
an iteration. Pairs, base, SFT and reward model of a seed are made once, in `<work>/seed<seed>`; each run makes anew
only what its own changes concern.
"""

from pathlib import Path
from typing import Any

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.curves import read_rows
from studies.run import STAGES, Run, seed_run, touched

SETTING: dict[str, Any] = {
    "ppo.kl_coef": 0.03, "ppo.iterations": 40, "ppo.kl_limit": 0.0, "ppo.batch": 64, "ppo.minibatch": 32,
    "ppo.logged_episodes": 64, "evaluate.prompts": 300, "evaluate.ood_prompts": 0, "evaluate.exact_kl_prompts": 0,
    "evaluate.samples": 300,
}  # fmt: skip


def over_optimised(work: Path, seed: int, name: str, changes: dict[str, Any]) -> Run:
    """The run `name` of one seed: the setting above with `changes`, in <work>/seed<seed>-<name>."""
    before, after = STAGES[: STAGES.index("ppo")], STAGES[STAGES.index("ppo") :]
    own = {**SETTING, **changes}
    stages = (*touched(before, own), *after)
    return Run(work / f"seed{seed}-{name}", {"seed": seed, **own}, stages, start=seed_run(work, seed, before))


def golds(folder: Path, policy: str) -> dict[str, float]:
    """Read the gold reward of a policy's answer to each prompt of the evaluation."""
    return {row["prompt"]: row[f"{policy}_gold"] for _, row in iter_jsonl(folder / "artifacts/evaluate/samples.jsonl")}


def curve(folder: Path) -> list[dict[str, float]]:
    """Read the curve along PPO, one row an iteration: sqrt_kl, proxy, gold, referee."""
    rows = read_rows(folder / "plots/overoptimisation.csv")
    return [{name: float(value) for name, value in row.items() if value} for row in rows]
