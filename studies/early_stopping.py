"""`make early-stopping`: let PPO over-optimise, stopped by the referee and not, and compare by gold.

    python -m studies.early_stopping [--seeds 0 1 2] [--ways referee reward] [--processes 1] [--work .studies]

About ten minutes a seed on a quiet core, less with what `make ensembles` has left. The table goes to
benchmarks/results/early_stopping.{json,md}. `--ways reward` looks at PPO's own reward model on the same prompts.
"""

from pathlib import Path
from typing import Any

from rlhf.core.curves import read_rows
from studies.command import Entry, Found, run_command, run_study
from studies.overoptimised import golds, over_optimised
from studies.run import Run

LOOKS: dict[str, Any] = {"ppo.validation_every": 5, "ppo.validation_prompts": 200, "ppo.validation_patience": 3}


def plan(work: Path, seed: int, judge: str) -> Entry:
    """Plan one row: the run that `judge` (ppo.validation_by) stops, and the one to the end."""
    stopped = over_optimised(work, seed, f"stop-{judge}", {**LOOKS, "ppo.validation_by": judge})
    whole = over_optimised(work, seed, "single", {})
    return Entry((stopped, whole), lambda: compare(seed, judge, stopped, whole))


def compare(seed: int, judge: str, stopped: Run, whole: Run) -> dict[str, Any]:
    """Compare the policies that the two runs save by their gold reward, prompt by prompt."""
    from rlhf.core.stats import paired_difference

    stop, end = stopped.metrics(), whole.metrics()
    at_stop, at_end = golds(stopped.folder, "ppo"), golds(whole.folder, "ppo")
    rows = read_rows(stopped.folder / "plots/ppo.csv")
    looks = [float(row["validation_reward"]) for row in rows if row["validation_reward"]]
    saved = paired_difference([at_stop[p] for p in at_end], list(at_end.values()), seed)
    return {
        "seed": seed,
        "judge": judge,
        "gold_sft": end["eval_gold_sft"],
        "gold_peak": end["eval_gold_peak"],
        "gold_peak_iteration": end["eval_gold_peak_iteration"],
        **_named("gold_end", end, "eval_gold_ppo"),
        **_named("gold_stop", stop, "eval_gold_ppo"),
        **saved.named("gold_saved"),
        "proxy_end": end["eval_reward_ppo"],
        "proxy_stop": stop["eval_reward_ppo"],
        "kl_end": end["eval_kl"],
        "kl_stop": stop["eval_kl"],
        "referee_start": looks[0],
        "referee_end": looks[-1],
        "iterations": stop["ppo_iterations"],
        "saved_iteration": stop["ppo_saved_iteration"],
        "stop_reason": stop["ppo_stop_reason"],
        "end_reason": end["ppo_stop_reason"],
        "end_iteration": end["ppo_saved_iteration"],
    }


def table(found: Found) -> str:
    """Render a table of one seed and judge a row."""
    rows = [
        "| seed, judge | stopped | first and last look | policy of iteration (KL) | gold SFT | gold there"
        " | gold at the end (iteration, KL) | difference | gold along PPO at its best |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for own in sorted(found.values(), key=lambda own: (own["judge"], own["seed"])):
        after = f"after {own['iterations']}" if own["stop_reason"].startswith("validation_") else own["stop_reason"]
        rows.append(
            f"| {own['seed']}, {own['judge']} | {after}"
            f" | {own['referee_start']:.2f}, {own['referee_end']:.2f} | {own['saved_iteration']} ({own['kl_stop']:.1f})"
            f" | {own['gold_sft']:.2f} | {own['gold_stop']:.2f}"
            f" | {own['gold_end']:.2f} ({own['end_iteration']}, {own['kl_end']:.1f})"
            f" | {own['gold_saved']:+.2f} ({own['gold_saved_low']:+.2f} to {own['gold_saved_high']:+.2f})"
            f" | {own['gold_peak']:.2f} (iteration {own['gold_peak_iteration']}) |"
        )
    return "\n".join(rows) + "\n"


def _named(name: str, metrics: dict[str, Any], source: str) -> dict[str, Any]:
    return {name + end: metrics[source + end] for end in ("", "_low", "_high")}


def main() -> None:
    run_study("early_stopping", __doc__, plan, table, ways=("referee", "reward"), asked=("referee",))


if __name__ == "__main__":
    run_command(main)
