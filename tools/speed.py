"""Fill docs/speed.md with the tables of benchmarks/results/ and draw docs/figures/speed.png from peer.json."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURE = ROOT / "docs" / "figures" / "speed.png"
PARTS = {"rollout": ("0.8", ""), "scoring": ("#e69f00", "//"), "update": ("#0072b2", "")}
LABELS = {
    "gpt2": "GPT-2 small,\nequal lengths",
    "gpt2-default": "GPT-2 small, peer's\ndefault value model",
    "gpt2-ragged": "GPT-2 small,\nlengths 8 to 64",
    "tiny": "4 layers × 128",
}


def block() -> str:
    """The tables, as the benchmarks wrote them."""
    files = [RESULTS / name for name in ("peer.md", "reward.md", "slopes.md")]
    return "\n\n".join(path.read_text(encoding="utf-8").strip() for path in files if path.is_file())


def summary() -> str:
    """How many times as fast as the peer, a setting a row, with the goal, what the floor allows, and memory."""
    rows = [
        "| setting | peer, s | ours, s | times as fast (goal) | memory | ours / arithmetic floor |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in json.loads((RESULTS / "peer.json").read_text(encoding="utf-8"))["settings"].items():
        median, ratio = found["median"], _reached(found["ratio"], found["goal"])
        label = LABELS[name].replace("\n", " ")
        rows.append(
            f"| {label} | {median['peer']['total']:.2f} | {median['ours']['total']:.2f} | {ratio}"
            f" | {median['ours']['peak_gb'] / median['peer']['peak_gb']:.2f} of the peer's"
            f" | {median['ours']['total'] / found['floor']['total']:.2f} |"
        )
    return "\n".join(rows + _reward_rows())


def _reward_rows() -> list[str]:
    found = json.loads((RESULTS / "reward.json").read_text(encoding="utf-8"))
    ways, goals = found["summary"], found["goals"]
    pairs, ours = next(iter(ways["ours"]["seconds"].items()))
    peers = {"naive": "a backbone pass every epoch", "trl": "trl's RewardTrainer with LoRA"}
    return [
        f"| reward model on {pairs} pairs, beside {label} | {ways[way]['seconds'][pairs]:.2f} | {ours:.2f}"
        f" | {_reached(ways[way]['seconds'][pairs] / ours, goals[way])}"
        f" | {ways['ours']['peak_rss_gb'] / ways[way]['peak_rss_gb']:.2f} of that way's | |"
        for way, label in peers.items()
    ]


def _reached(ratio: float, goal: float) -> str:
    return f"**{ratio:.2f}** ({goal:g}{'' if ratio >= goal else ', missed'})"


def draw() -> None:
    """Seconds a step, peer beside ours, with the arithmetic floor; the tiny shape on an axis of its own."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    settings = json.loads((RESULTS / "peer.json").read_text(encoding="utf-8"))["settings"]
    groups = [[name for name in settings if name != "tiny"], [name for name in settings if name == "tiny"]]
    groups = [group for group in groups if group]
    figure, axes = plt.subplots(
        1, len(groups), figsize=(11, 3.8), layout="constrained", squeeze=False, width_ratios=[len(g) for g in groups]
    )
    for axis, names in zip(axes[0], groups, strict=True):
        _bars(axis, {name: settings[name] for name in names})
        axis.set_ylabel("seconds a PPO step (median)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(FIGURE, dpi=120, metadata={"Software": None})


def _bars(axis: Any, settings: dict[str, Any]) -> None:
    for place, found in enumerate(settings.values()):
        for x, who in ((place - 0.21, "peer"), (place + 0.21, "ours")):
            bottom = 0.0
            for part, (color, hatch) in PARTS.items():
                height = found["median"][who][part]
                label = part if place == 0 and who == "peer" else None
                axis.bar(x, height, 0.36, bottom=bottom, color=color, hatch=hatch, edgecolor="black", label=label)
                bottom += height
            faster = f"\n{found['ratio']:.2f} × as fast" if who == "ours" else ""
            axis.annotate(f"{who}\n{bottom:.3g} s{faster}", (x, bottom), ha="center", va="bottom", fontsize=9)
        floor = found["floor"]["total"]
        axis.hlines(
            floor, place - 0.42, place + 0.42, color="#d55e00", linestyle="--",
            label="arithmetic floor" if place == 0 else None,
        )  # fmt: skip
    axis.set_xticks(range(len(settings)), [LABELS[name] for name in settings])
    axis.set_ylim(0, 1.18 * max(found["median"]["peer"]["total"] for found in settings.values()))
