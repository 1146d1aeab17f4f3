"""`make reward-variants`: measure how much of the gap from a linear head to the noise ceiling each reward model closes.

    python -m studies.reward_variants [--seeds 0 1 2] [--ways linear tuned] [--work .studies]

Every variant is the real `reward` stage, on all training pairs and with few prompts to normalise by. The ceiling is how
often perfect knowledge of the truth would agree with the annotators, who err. Variants are told apart by the loss on
the validation pairs; test pairs are for the table alone. Runs that are in benchmarks/results/reward_variants.json and
are not asked for stay there. About a minute a variant on a quiet core, five where the backbone learns too.
"""

import math
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import read_json
from rlhf.core.layout import Layout
from studies.command import Entry, Found, run_command, run_study
from studies.run import STAGES, Run, seed_run

COMMON: dict[str, Any] = {"reward.referee_share": 0.0, "reward.normalise_prompts": 100}
LOGPROBS: dict[str, Any] = {"reward.logprobs": True}
MLP: dict[str, Any] = {**LOGPROBS, "reward.head_units": 64}
LORA: dict[str, Any] = {"reward.train": "lora", "reward.pooling": "attention", "reward.pool_over": "response"}
TUNED: dict[str, Any] = {**LORA, **MLP, "reward.tune.dropout": 0.1}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("frozen, linear (default)", {}),
    "last": ("the same, last token", {"reward.pooling": "last"}),
    "dropout": ("the same, dropout .2, 40 epochs", {"reward.dropout": 0.2, "reward.epochs": 40}),
    "ensemble": ("ensemble of 5 linear heads", {"reward.members": 5}),
    "hidden": ("frozen, hidden layer of 64, dropout .3", {"reward.head_units": 64, "reward.dropout": 0.3}),
    "logprobs": ("frozen, linear, logprobs", LOGPROBS),
    "logprobs-64": ("frozen, logprobs, 64 units, dropout .3", {**MLP, "reward.dropout": 0.3}),
    "logprobs-64-slow": ("the same, lr 1e-3", {**MLP, "reward.dropout": 0.3, "reward.lr": 1e-3}),
    "logprobs-64-5": (
        "the same, ensemble of 5",
        {**MLP, "reward.dropout": 0.3, "reward.lr": 1e-3, "reward.members": 5},
    ),
    "lora": ("tuned, attention over the response", LORA),
    "tuned": ("tuned, attention over the response, logprobs, 64 units, LoRA dropout .1", TUNED),
    "tuned-slow": ("the same, lr 1e-3", {**TUNED, "reward.tune.lr": 1e-3}),
    "tuned-dropout": ("the same, LoRA dropout .2", {**TUNED, "reward.tune.lr": 1e-3, "reward.tune.dropout": 0.2}),
}
SHOWN = (
    "reward_accuracy", "reward_accuracy_low", "reward_accuracy_high", "reward_validation_loss", "reward_gold_agreement",
    "reward_noise_ceiling",
)  # fmt: skip


def plan(work: Path, seed: int, variant: str) -> Entry:
    """Plan the stage of one variant on one seed."""
    changes = {"seed": seed, **COMMON, **VARIANTS[variant][1]}
    start = seed_run(work, seed, STAGES[: STAGES.index("reward")])
    run = Run(work / f"seed{seed}-reward-{variant}", changes, ("reward",), start=start, measured=True)
    return Entry((run,), lambda: read(run, seed, variant))


def read(run: Run, seed: int, variant: str) -> dict[str, Any]:
    """Read the stage's metrics, and what it cost."""
    metrics, cost = run.metrics(), read_json(Layout(run.folder).costs / "reward.json")
    own = {name: metrics[name] for name in SHOWN if name in metrics}
    return {"variant": variant, "seed": seed, **own, "cpu_s": cost["cpu_s"], "peak_memory_mb": cost["peak_memory_mb"]}


def gap(own: dict[str, Any], linear: dict[str, Any]) -> float:
    """Compute the share of the way from the linear head's accuracy to the ceiling; 1 is the ceiling.

    own, linear: of one seed, as `read` gives them.
    """
    start = linear["reward_accuracy"]
    return float((own["reward_accuracy"] - start) / (linear["reward_noise_ceiling"] - start))


def table(found: Found) -> str:
    """Render a table of one variant a row: each seed that it ran on; the gap is the mean over these."""
    rows = [
        "| variant | seeds | validation loss | accuracy | gold agreement | gap closed | CPU s of the stage |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, (says, _) in VARIANTS.items():
        runs = sorted((own for own in found.values() if own["variant"] == variant), key=lambda own: own["seed"])
        runs = [own for own in runs if f"linear-{own['seed']}" in found]
        if not runs:
            continue
        closed = [gap(own, found[f"linear-{own['seed']}"]) for own in runs]
        loss, accuracy, agreement = (
            " / ".join(f"{own[name]:.3f}" for own in runs)
            for name in ("reward_validation_loss", "reward_accuracy", "reward_gold_agreement")
        )
        if len(runs) == 1:
            accuracy += f" ({runs[0]['reward_accuracy_low']:.3f} to {runs[0]['reward_accuracy_high']:.3f})"
        each = f" ({', '.join(f'{100 * one:.0f}' for one in closed)})" if len(closed) > 1 else ""
        share = f"{100 * math.fsum(closed) / len(closed):.0f} %{each}"
        seconds = math.fsum(own["cpu_s"] for own in runs) / len(runs)
        seeds = ", ".join(str(own["seed"]) for own in runs)
        rows.append(f"| {says} | {seeds} | {loss} | {accuracy} | {agreement} | {share} | {seconds:.0f} |")
    ceilings = {own["seed"]: own["reward_noise_ceiling"] for own in found.values()}
    rows += ["", "Ceiling: " + ", ".join(f"{ceilings[seed]:.3f} (seed {seed})" for seed in sorted(ceilings)) + "."]
    return "\n".join(rows) + "\n"


def main() -> None:
    run_study("reward_variants", __doc__, plan, table, ways=tuple(VARIANTS))


if __name__ == "__main__":
    run_command(main)
