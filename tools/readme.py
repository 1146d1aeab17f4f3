"""`make readme`: draw docs/figures/ and fill the blocks of README and docs from metrics/, plots/, benchmarks/results/.

    python tools/readme.py [--check]

With --check, exit with status 1 if their numbers are not those of the files. Nothing is typed by hand.
"""

import csv
import json
import sys
from pathlib import Path

import speed

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs" / "figures" / "default-run.png"


def main() -> None:
    """Rewrite what stands between `<!-- name -->` and `<!-- /name -->`; draw the figures."""
    metrics = {
        name: value
        for path in sorted((ROOT / "metrics").glob("*.json"))
        for name, value in json.loads(path.read_text(encoding="utf-8")).items()
    }
    blocks = {
        ROOT / "README.md": {
            "results": results(metrics),
            "planted": planted(),
            "kl_coef": kl_coef(),
            "compare": stored("alternatives"),
            "seeds": stored("seeds"),
            "speed-summary": speed.summary(),
        },
        ROOT / "docs" / "speed.md": {"speed": speed.block()},
        ROOT / "docs" / "studies.md": {
            "early_stopping": stored("early_stopping"),
            "ensembles": stored("ensembles"),
            "reward_variants": stored("reward_variants"),
            "frontier": stored("frontier"),
            "planted-full": stored("planted").partition("\n")[2].strip().replace("\n## ", "\n### "),
        },
    }
    for path, texts in blocks.items():
        before = path.read_text(encoding="utf-8")
        after = filled(before, texts)
        if "--check" not in sys.argv[1:]:
            path.write_text(after, encoding="utf-8")
        elif after != before:
            sys.exit(f"{path.name}: the numbers are not those of metrics/ and benchmarks/results/; run `make readme`")
    if "--check" not in sys.argv[1:]:
        draw(metrics)
        speed.draw()


def stored(name: str) -> str:
    """A table as its benchmark wrote it."""
    return (ROOT / "benchmarks" / "results" / f"{name}.md").read_text(encoding="utf-8").strip()


def planted() -> str:
    """The judged set of planted failures: the table with gold, and what it is without."""
    parts = {part.splitlines()[0]: part for part in stored("planted").split("\n## ")[1:]}
    judged = {kind: next(p for title, p in parts.items() if "Judged" in title and kind in title) for kind in _GOLD}
    table = judged["with gold"].partition("\n\n")[2].strip()
    _, _, blind = judged["without gold"].partition("\n\n")
    return f"{table}\n\nWithout gold: {blind.strip().rpartition(chr(10) * 2)[2]}"


def kl_coef() -> str:
    """The frontier's rows of SFT and PPO, without the column that only best of n fills."""
    rows = [row.split(" | ") for row in stored("frontier").splitlines()]
    kept = [cells[:2] + cells[3:] for cells in rows if cells[0].startswith(("| policy", "| SFT", "| PPO"))]
    return "\n".join([" | ".join(kept[0]), "|---" * len(kept[0]) + "|", *(" | ".join(cells) for cells in kept[1:])])


_GOLD = ("with gold", "without gold")


def filled(page: str, texts: dict[str, str]) -> str:
    """The page with these texts in its blocks."""
    for name, text in texts.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        head, found, rest = page.partition(start)
        if not found:
            sys.exit(f"there is no block {start}")
        page = f"{head}{start}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def results(metrics: dict[str, float]) -> str:
    """The result table of the offline default."""

    def span(name: str, digits: int = 2) -> str:
        low, high = metrics[f"{name}_low"], metrics[f"{name}_high"]
        return f"{metrics[name]:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    rows = [
        "| | base | SFT | PPO |",
        "|---|---|---|---|",
    ]
    for label, measure, digits in (
        ("gold reward (the truth, hidden from training)", "gold", 2),
        ("reward-model score (what PPO optimises)", "reward", 2),
        ("response length, tokens", "length", 1),
    ):
        cells = " | ".join(span(f"eval_{measure}_{policy}", digits) for policy in ("base", "sft", "ppo"))
        rows.append(f"| {label} | {cells} |")
    rows += [
        "",
        f"PPO wins against SFT on {span('eval_gold_winrate')} of {metrics['eval_prompts']} held-out prompts by gold"
        f" reward and on {span('eval_rm_winrate')} by the reward model, at a KL of {metrics['eval_kl']:.2f} nats a"
        f" response. On prompts about things never seen in training the gold win rate is"
        f" {span('eval_ood_gold_winrate')}.",
        f"The reward model ranks {span('reward_accuracy', 3)} of held-out pairs as their annotators did; always"
        f" taking the longer response ranks {metrics['reward_length_baseline']:.3f}; perfect knowledge of the truth"
        f" would reach {metrics['reward_noise_ceiling']:.3f}, since annotators err. It gets"
        f" {100 * metrics['reward_share_of_ceiling']:.0f} % of the way from chance to there.",
    ]
    return "\n".join(rows)


def draw(metrics: dict[str, float]) -> None:
    """Gold reward by policy; score and gold along PPO; both over the distance from SFT."""
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


if __name__ == "__main__":
    main()
