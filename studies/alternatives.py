"""`make alternatives`: train all alternatives to PPO on this project's data, base and SFT, with costs.

    python -m studies.alternatives [--work .alternatives]

What `make offline` does as an experiment is done here in a folder of its own, from the artifacts of this project
(`dvc repro` first), and each stage's cost is kept beside what it achieved. Writes
benchmarks/results/alternatives.{json,md}.
"""

from typing import Any

from rlhf.core.artifacts import read_json, write_json, write_text
from rlhf.core.layout import Layout
from rlhf.offline.methods import METHODS
from studies.command import RESULTS, options, run_command, span
from studies.run import PROJECT, Run
from studies.runner import make

MADE = (*(f"offline@{method}" for method in METHODS), "compare")
NAMES = {"sft": "SFT", "ppo": "PPO", "dpo": "DPO", "ipo": "IPO", "rrhf": "RRHF", "rejection": "rejection sampling"}
EARLIER = ("sft", "ppo")  # made by the pipeline; what they cost is in stages.json (`make costs`)
MEASURES = ("gold", "reward", "gold_winrate", "kl", "kl_bound", "length", "distinct2", "tax_perplexity")
Policies = dict[str, dict[str, Any]]


def measured(metrics: dict[str, Any]) -> Policies:
    """Sort what `compare` measured by policy; base is left out."""
    every = "compare_distinct2_"  # measured of each policy, once
    names = [name.removeprefix(every) for name in metrics if name.startswith(every) and name != f"{every}base"]
    ends = ("", "_low", "_high")
    return {
        name: {
            measure + end: metrics[f"compare_{measure}_{name}{end}"]
            for measure in MEASURES
            for end in ends
            if f"compare_{measure}_{name}{end}" in metrics
        }
        for name in sorted(names, key=_order)
    }


def _order(name: str) -> tuple[int, str]:
    known = list(NAMES)
    return (known.index(name), "") if name in known else (len(known), f"{int(name.rpartition('_')[2]):06d}")


def table(policies: Policies, costs: dict[str, dict[str, float]]) -> str:
    """Render a table of one policy a row: numbers with 95 % intervals, and the cost of the stage that made it."""
    rows = [
        "| policy | gold reward | reward-model score | gold win rate over SFT | KL to SFT, nats (bound) | length"
        " | distinct-2 | perplexity of the corpus | CPU s | MB |",
        "|---" * 10 + "|",
    ]
    for name, own in policies.items():
        kl = f"{own['kl']:.2f}" + (f" ({own['kl_bound']:.2f})" if own.get("kl_bound") is not None else "")
        cost = costs.get(name)
        spent = f"{cost['cpu_s']:.0f} | {cost['peak_memory_mb']:.0f}" if cost else "– | –"
        label = NAMES.get(name, f"best of {name.rpartition('_')[2]}")
        cells = (
            f"{span(own, 'gold')} | {span(own, 'reward')} | {span(own, 'gold_winrate')} | {kl} | {own['length']:.1f}"
        )
        tax = f"{own['tax_perplexity']:.2f}" if own.get("tax_perplexity") is not None else "–"
        rows.append(f"| {label} | {cells} | {own['distinct2']:.3f} | {tax} | {spent} |")
    here = [cost for name, cost in costs.items() if name not in EARLIER]
    total, waited = (sum(cost[key] for cost in here) for key in ("cpu_s", "wall_s"))
    rows += [
        "",
        f"Everything but SFT and PPO: {total / 60:.1f} minutes of processor time, {waited / 60:.1f} on the clock.",
    ]
    return "\n".join(rows) + "\n"


def main() -> None:
    given = options(__doc__, ".alternatives").parse_args()
    asked: dict[str, Any] = {f"offline.{method}.run": True for method in METHODS}
    run = Run(given.work, asked, MADE, start=PROJECT, measured=True)
    policies = [measured(made.metrics()) for made in make([run], given.processes)][-1]
    stages = read_json(RESULTS / "stages.json")["stages"]
    spent = {name: stages[name] for name in EARLIER if name in stages}
    for stage in MADE:
        spent[stage.partition("@")[2] or stage] = read_json(Layout(run.folder).costs / f"{stage}.json")
    costs = {name: {key: cost[key] for key in ("cpu_s", "wall_s", "peak_memory_mb")} for name, cost in spent.items()}
    write_json(given.out / "alternatives.json", {"policies": policies, "costs": costs})
    write_text(given.out / "alternatives.md", table(policies, costs))
    print(table(policies, costs))


if __name__ == "__main__":
    run_command(main)
