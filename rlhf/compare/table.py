"""Show the comparison: a Markdown table, and a figure of reward over distance."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf.core.artifacts import write_bytes, write_text

Row = Mapping[str, object]

HEADS = {
    "gold": "gold reward", "referee": "referee reward", "reward": "reward (proxy)",
    "gold_winrate": "gold win rate", "referee_winrate": "referee win rate", "rm_winrate": "proxy win rate",
    "kl": "KL to SFT, nats", "kl_bound": "KL bound", "length": "length, tokens", "distinct2": "distinct-2",
    "tax_perplexity": "perplexity of the corpus",
    "tokens_sampled": "sampled, k tokens", "tokens_trained": "trained on, k tokens",
    "tokens_per_reply": "tokens a reply",
}  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """Format a row a policy; columns that no policy has are left out."""
    heads = {key: head for key, head in HEADS.items() if any(row.get(key) is not None for row in rows)}
    lines = ["| policy | " + " | ".join(heads.values()) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        lines.append(f"| {row['policy']} | " + " | ".join(_cell(row, key) for key in heads) + " |")
    return "\n".join(lines) + "\n"


def write_table(folder: Path, rows: Sequence[Row]) -> None:
    """Write compare.md, and compare.png where there is more than SFT and PPO to compare."""
    note = (
        "Win rates are over SFT on the same prompts. Behind a number its 95 % interval. The reward model is what PPO, "
        "RRHF, rejection sampling and best of n are given; DPO and IPO see pairs alone."
    )
    write_text(folder / "compare.md", f"# Policies of this run\n\n{note}\n\n{markdown(rows)}")
    if len(rows) > 3:
        draw(folder / "compare.png", rows)


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draw proxy and gold reward over sqrt(KL to SFT), a point a policy, intervals as bars."""
    from io import BytesIO

    from matplotlib.figure import Figure

    shown = [key for key in ("reward", "gold") if any(row.get(key) is not None for row in rows)]
    figure = Figure(figsize=(5.2 * len(shown), 4.2), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, key in zip(axes, shown, strict=True):
        for row, marker in zip(rows, "sohv^<>DPX*pd8" * 4, strict=False):
            x, y = row.get("kl"), row.get(key)
            if not isinstance(x, int | float) or not isinstance(y, int | float):
                continue
            low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
            bars = [[y - low], [high - y]] if isinstance(low, float) and isinstance(high, float) else None
            root = max(float(x), 0.0) ** 0.5
            axis.errorbar([root], [y], yerr=bars, marker=marker, color="black", markerfacecolor="white", capsize=2)
            axis.annotate(str(row["policy"]), (root, y), textcoords="offset points", xytext=(5, 4), fontsize=8)
        axis.set(xlabel="sqrt(KL to SFT), sqrt(nats)", title={"reward": "reward model", "gold": "gold reward"}[key])
        axis.set_ylabel("reward")
    data = BytesIO()
    figure.savefig(data, format="png", dpi=120, metadata={"Software": None})
    write_bytes(path, data.getvalue())


def _cell(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, int | float):
        return "–"
    if key.startswith("tokens_") and key != "tokens_per_reply":
        return f"{value / 1000:.0f}"
    digits = 1 if key in ("length", "tokens_per_reply") else 3 if key == "distinct2" else 2
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    if isinstance(low, int | float) and isinstance(high, int | float) and key != "length":
        return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}"
