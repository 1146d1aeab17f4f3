"""Draw docs/figures/default-run.png from metrics/ and plots/overoptimisation.csv."""

import csv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs" / "figures" / "default-run.png"


def draw(metrics: Mapping[str, float]) -> None:
    """Draw gold reward by policy, score and gold along PPO, and both over the distance from SFT."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with (ROOT / "plots" / "overoptimisation.csv").open(encoding="utf-8") as file:
        points = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    policies = ["base", "sft", "ppo"]
    means = [metrics[f"eval_gold_{policy}"] for policy in policies]
    errors = [
        [metrics[f"eval_gold_{p}"] - metrics[f"eval_gold_{p}_low"] for p in policies],
        [metrics[f"eval_gold_{p}_high"] - metrics[f"eval_gold_{p}"] for p in policies],
    ]
    left.bar(["base", "SFT", "PPO"], means, yerr=errors, capsize=5, color=["0.8", "0.55", "#0072b2"])
    left.axhline(0, color="black", linewidth=0.8)
    left.set(title="Gold reward on held-out prompts", ylabel="gold reward (95 % interval)")
    for axis, x, label, lines in (
        (middle, "iteration", "PPO iteration", ("--", "-")),
        (right, "sqrt_kl", "√(KL to SFT), √nats", ("x", "o")),
    ):
        xs = [point[x] for point in points]
        axis.plot(xs, [p["proxy"] for p in points], lines[0], color="#d55e00", label="proxy: reward model")
        axis.plot(xs, [p["gold"] for p in points], lines[1], color="#0072b2", label="gold: the truth")
        axis.set(xlabel=label, ylabel="mean reward of the rollouts")
        axis.legend(frameon=False)
    middle.set_title("During PPO")
    right.set_title("Against the distance from SFT")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=120, metadata={"Software": None})
