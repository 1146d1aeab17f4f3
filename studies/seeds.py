"""`make seeds`: the whole default pipeline with other seeds. They vary everything: corpus, base, SFT, pairs, PPO.

    python -m studies.seeds [--seeds 0 1 2] [--work .seeds]

Each seed takes as long as `make repro`. The table goes to
benchmarks/results/seeds.{json,md}, and from there into the README.
"""

import argparse
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import write_json, write_text
from studies.chain import run_chain
from studies.study import RESULTS, ROOT, span

SHOWN = (
    "reward_accuracy", "reward_length_baseline", "reward_noise_ceiling", "eval_gold_base", "eval_gold_sft",
    "eval_gold_ppo", "eval_gold_winrate", "eval_rm_winrate", "eval_kl", "ppo_stop_reason",
)  # fmt: skip


def chosen(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics that the table shows, with the ends of their intervals."""
    names = [name + end for name in SHOWN for end in ("", "_low", "_high")]
    return {name: metrics[name] for name in names if name in metrics}


def table(found: dict[str, dict[str, Any]]) -> str:
    """One seed a row."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=ROOT / ".seeds")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    found = {str(seed): chosen(run_chain(given.work / f"seed{seed}", {"seed": seed})) for seed in given.seeds}
    write_json(given.out / "seeds.json", found)
    write_text(given.out / "seeds.md", table(found))
    print(table(found))


if __name__ == "__main__":
    main()
