"""`make round-gains`: does asking again pay? Three rounds of labels, against the same labels at once and against none.

    python -m studies.round_gains [--seeds 0 1 2] [--rounds 3] [--pairs 300] [--work .studies]

PPO is let over-optimise (`studies.overoptimised`), so that what its reward model has wrong shows. Its head reads
log-probabilities and has a hidden layer: a linear one cannot say that a reply has nothing to do with its prompt,
however many labels say so. Round k asks about replies of SFT and of round k - 1's policy (`studies.rounds`);
`at once` asks as many questions as all rounds, about the first policy's. Gold is compared prompt by prompt with the
policy that no label was bought for. Eight minutes a seed on a quiet core, less where `make ensembles` has left its
runs; killed, the same call goes on. Writes benchmarks/results/round_gains.{json,md,png}.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json, write_json, write_text
from studies.command import Found, options, run_command, span
from studies.overoptimised import SETTING, curve, golds, over_optimised
from studies.rounds import rounds
from studies.run import Run
from studies.runner import make

NONE, AT_ONCE = "none", "at once"
FEW: dict[str, Any] = {
    "data.max_pairs": 600, "reward.logprobs": True, "reward.head_units": 64, "evaluate.prompts": 2000,
    "evaluate.samples": 2000,
}  # fmt: skip
KEPT = ("prepare_labels_answers", "reward_accuracy", "reward_accuracy_low", "reward_accuracy_high", "eval_gold_sft",
        "eval_gold_ppo", "eval_gold_ppo_low", "eval_gold_ppo_high", "eval_gold_peak", "eval_reward_ppo",
        "eval_kl")  # fmt: skip


def gains(work: Path, seed: int, count: int, pairs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make one seed's runs: without labels, `count` rounds of `pairs` questions, and all of them at once. Yield the
    name and the row of each.

    Raises:
        UserError: a stage failed.
    """
    start = over_optimised(work, seed, "few", FEW)
    list(make([start], 1))
    yield NONE, read(start.folder, start.metrics(), start, seed)
    changes = {"seed": seed, **SETTING, **FEW, "acquire.strategy": "random", "acquire.per_prompt": 3}
    ways = {"round": (count, pairs), AT_ONCE: (1, count * pairs)}
    for way, (times, asked) in ways.items():
        folder = work / f"seed{seed}-{way.replace(' ', '-')}s-{asked}"
        own = {**changes, "acquire.pairs": asked, "acquire.prompts": 0}
        for found in rounds(folder, times, own, by="simulated", annotators=1, start=start):
            if found["round"]:
                name = way if way == AT_ONCE else f"round {found['round']}"
                yield name, read(folder / f"round-{found['round']}", found, start, seed)


def read(folder: Path, metrics: dict[str, Any], start: Run, seed: int) -> dict[str, Any]:
    """Read what a run came to, and how far its gold is from that of `start`, prompt by prompt."""
    from rlhf.core.stats import paired_difference

    own, other = golds(folder, "ppo"), golds(start.folder, "ppo")
    gained = paired_difference([own[prompt] for prompt in other], list(other.values()), seed)
    points = [[row["sqrt_kl"], row["gold"], row["proxy"]] for row in curve(folder)]
    kept = {name: metrics.get(name) for name in KEPT}
    return {"seed": seed, **kept, **gained.named("gold_gained"), "points": points}


def table(found: Found) -> str:
    """Render a table of one run a row, a seed after the other."""
    rows = [
        "| seed, labels | answers | reward-model accuracy | gold of PPO | gold gained over none | its best along PPO"
        " | the reward model's own score | KL |",
        "|---" * 8 + "|",
    ]
    for own in sorted(found.values(), key=lambda own: own["seed"]):
        gained = "–" if own["way"] == NONE else span(own, "gold_gained")
        rows.append(
            f"| {own['seed']}, {own['way']} | {own['prepare_labels_answers'] or 0} | {span(own, 'reward_accuracy', 3)}"
            f" | {span(own, 'eval_gold_ppo')} | {gained} | {own['eval_gold_peak']:.2f} | {own['eval_reward_ppo']:.2f}"
            f" | {own['eval_kl']:.1f} |"
        )
    return "\n".join(rows) + "\n"


def draw(found: Found, path: Path) -> None:
    """Draw gold over the root of KL along PPO, a panel a seed, a line a run, smoothed over five iterations."""
    from matplotlib.figure import Figure

    seeds = sorted({own["seed"] for own in found.values()})
    ways = list(dict.fromkeys(own["way"] for own in found.values()))
    figure = Figure(figsize=(3.6 * len(seeds), 3.8), layout="constrained")
    panels = figure.subplots(1, len(seeds), sharey=True, squeeze=False)[0]
    lines, greys = ("-", "--", "-.", ":"), ("black", "#d55e00", "#0072b2", "#009e73", "#cc79a7")
    for panel, seed in zip(panels, seeds, strict=True):
        for number, way in enumerate(ways):
            own = next((one for one in found.values() if (one["seed"], one["way"]) == (seed, way)), None)
            if own is None:
                continue
            points = sorted(own["points"])
            smooth = [points[max(0, k - 2) : k + 3] for k in range(len(points))]
            x, y = ([math.fsum(p[i] for p in part) / len(part) for part in smooth] for i in (0, 1))
            panel.plot(x, y, lines[number % 4], color=greys[number % 5], linewidth=1.4, label=way)
        panel.set(title=f"seed {seed}", xlabel="√KL to SFT")
        panel.axhline(0, linewidth=0.6, color="grey")
    panels[0].set_ylabel("gold reward")
    panels[-1].legend(title="labels bought")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = options(__doc__, ".studies")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=3, help="how often labels are bought")
    parser.add_argument("--pairs", type=int, default=300, help="questions a round")
    given = parser.parse_args()
    record = given.out / "round_gains.json"
    found: Found = read_json(record) if record.is_file() else {}
    for seed in given.seeds:
        for way, row in gains(given.work, seed, given.rounds, given.pairs):
            found[f"{seed}-{way}"] = {"way": way, **row}
            write_json(record, found)
            write_text(record.with_suffix(".md"), table(found))
            draw(found, record.with_suffix(".png"))
    print(table(found))


if __name__ == "__main__":
    run_command(main)
