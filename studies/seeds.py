"""`make seeds`: run the whole default pipeline with other seeds, which vary everything: corpus, base, SFT, pairs, PPO.

    python -m studies.seeds [--seeds 0 1 2] [--processes 1] [--work .seeds]

Each seed takes as long as `make repro`. The table goes to benchmarks/results/seeds.{json,md}, and from there into the
README.
"""

from pathlib import Path
from typing import Any

from studies.command import Entry, Found, run_command, run_study, span
from studies.run import seed_run

SHOWN = (
    "reward_accuracy", "reward_length_baseline", "reward_noise_ceiling", "eval_gold_base", "eval_gold_sft",
    "eval_gold_ppo", "eval_gold_winrate", "eval_rm_winrate", "eval_kl", "ppo_stop_reason",
)  # fmt: skip


def plan(work: Path, seed: int, way: str) -> Entry:
    """Plan the whole pipeline of one seed."""
    run = seed_run(work, seed)
    return Entry((run,), lambda: read(run.metrics()))


def read(metrics: dict[str, Any]) -> dict[str, Any]:
    """Keep the metrics that the table shows, with the ends of their intervals."""
    names = [name + end for name in SHOWN for end in ("", "_low", "_high")]
    return {name: metrics[name] for name in names if name in metrics}


def table(found: Found) -> str:
    """Render a table of one seed a row."""
    rows = [
        "| seed | reward-model accuracy | length baseline | noise ceiling | gold base / SFT / PPO | gold win rate |",
        "|---|---|---|---|---|---|",
    ]
    for seed, own in sorted(found.items(), key=lambda item: int(item[0])):
        gold = f"{own['eval_gold_base']:.2f} / {span(own, 'eval_gold_sft')} / {span(own, 'eval_gold_ppo')}"
        rows.append(
            f"| {seed} | {span(own, 'reward_accuracy', 3)} | {own['reward_length_baseline']:.3f}"
            f" | {own['reward_noise_ceiling']:.3f} | {gold} | {span(own, 'eval_gold_winrate', 3)} |"
        )
    return "\n".join(rows) + "\n"


def main() -> None:
    run_study("seeds", __doc__, plan, table, work=".seeds")


if __name__ == "__main__":
    run_command(main)
