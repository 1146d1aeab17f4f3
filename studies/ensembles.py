"""`make ensembles`: test whether an ensemble of reward heads over-optimises less than one head, at equal KL.

    python -m studies.ensembles [--seeds 0 1 2] [--ways single mean worst uncertainty] [--processes 1]

Gold reward over sqrt(KL) along PPO, against a single head and against five that are combined by mean, worst case and
uncertainty (Coste et al. 2024, "Reward Model Ensembles Help Mitigate Overoptimization", arXiv 2310.02743). About four
minutes a run on a quiet core. Writes benchmarks/results/ensembles.{json,md,png}.
"""

import math
from pathlib import Path
from typing import Any

from studies.command import Entry, Found, run_command, run_study
from studies.overoptimised import curve, over_optimised
from studies.run import Run

MEMBERS = 5
WAYS: dict[str, dict[str, Any]] = {
    "single": {},
    **{way: {"reward.members": MEMBERS, "reward.aggregate": way} for way in ("mean", "worst", "uncertainty")},
}
NAMES = {"single": "one head", "mean": "mean of 5", "worst": "worst of 5", "uncertainty": "mean - 0.5 variance of 5"}
GRID = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)  # sqrt(KL); a point stands for iterations within a quarter of it


def plan(work: Path, seed: int, way: str) -> Entry:
    """Plan the run of one way to combine heads, on one seed."""
    run = over_optimised(work, seed, way, WAYS[way])
    return Entry((run,), lambda: read(run, seed, way))


def read(run: Run, seed: int, way: str) -> dict[str, Any]:
    """Read a run's curve, where its gold peaked, and how it ended."""
    metrics = run.metrics()
    names = ("reward_accuracy", "reward_member_agreement", "eval_gold_peak", "eval_gold_peak_sqrt_kl", "eval_gold_sft",
             "eval_gold_ppo", "eval_gold_ppo_low", "eval_gold_ppo_high", "eval_reward_ppo", "eval_kl",
             "ppo_stop_reason", "ppo_iterations")  # fmt: skip
    points = [[row["sqrt_kl"], row["gold"], row["proxy"]] for row in curve(run.folder)]
    return {"seed": seed, "way": way, **{name: metrics[name] for name in names}, "points": points}


def at_equal_kl(points: list[list[float]], grid: tuple[float, ...] = GRID) -> list[float | None]:
    """Average gold over the iterations with a sqrt(KL) within a quarter of each place; None where there are none."""
    near = [[gold for x, gold, _ in points if abs(x - place) < 0.25] for place in grid]
    return [math.fsum(inside) / len(inside) if inside else None for inside in near]


def table(found: Found) -> str:
    """Render a table of one way a row: means over seeds, with each seed behind."""
    head = "".join(f" | √KL {place:g}" for place in GRID)
    rows = [f"| reward{head} | peak of gold | gold, KL at the end |", "|---" * (len(GRID) + 3) + "|"]
    for way in WAYS:
        runs = sorted((own for own in found.values() if own["way"] == way), key=lambda own: own["seed"])
        if not runs:
            continue
        places = zip(*(at_equal_kl(own["points"]) for own in runs), strict=True)
        peak = _mean([own["eval_gold_peak"] for own in runs])
        end, kl = _mean([own["eval_gold_ppo"] for own in runs]), _mean([own["eval_kl"] for own in runs])
        cells = "".join(f" | {_mean(list(place))}" for place in places)
        rows.append(f"| {NAMES[way]}{cells} | {peak} | {end}, KL {kl} |")
    return "\n".join(rows) + "\n"


def draw(found: Found, path: Path) -> None:
    """Draw gold over sqrt(KL): a line a run, smoothed over five iterations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    looks = zip(WAYS, ("-", "--", ":", "-."), ("black", "#d55e00", "#0072b2", "#009e73"), strict=True)
    for way, line, colour in looks:
        for own in (own for own in found.values() if own["way"] == way):
            points = sorted(own["points"])
            smooth = [points[max(0, k - 2) : k + 3] for k in range(len(points))]
            x, y = ([math.fsum(p[i] for p in part) / len(part) for part in smooth] for i in (0, 1))
            first = own["seed"] == min(run["seed"] for run in found.values())
            axes.plot(x, y, line, color=colour, linewidth=1.4, label=NAMES[way] if first else None)
    axes.set_xlabel("sqrt(KL to SFT), sqrt(nats)")
    axes.set_ylabel("gold reward")
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    each = " / ".join("–" if value is None else f"{value:.2f}" for value in values)
    return f"{math.fsum(known) / len(known):.2f} ({each})"


def main() -> None:
    found, out = run_study("ensembles", __doc__, plan, table, ways=tuple(WAYS))
    draw(found, out / "ensembles.png")


if __name__ == "__main__":
    run_command(main)
