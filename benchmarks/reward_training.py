"""`make bench-reward`: time reward-model training on frozen features, in the naive loop, and in trl's RewardTrainer.

512 pairs of 2 x 128 tokens, 3 epochs, the GPT-2 small shape with random weights; each way in a process of its own, in
turn. All of it takes some 40 minutes on two quiet threads. `--pairs 8 16` measures at reduced sizes instead: the cost
is linear in the pairs, which the table shows (seconds a pair at each size), and the line through the sizes is read at
512. Results go to benchmarks/results/reward.json, the table to reward.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.workload import processor
from rlhf.core.artifacts import write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
FULL = 512  # pairs, of which the goals speak
GOALS = {"naive": 3.5, "trl": 12.0}  # times as fast as
NAMES = {"ours": "features once, then the head", "naive": "backbone in every epoch", "trl": "trl RewardTrainer, LoRA"}


def measure(way: str, pairs: int, given: argparse.Namespace) -> dict[str, Any]:
    """Run one process and read the last line that it prints."""
    numbers = {"way": way, "pairs": pairs, **{key: getattr(given, key) for key in ("shape", "tokens", "epochs")}}
    numbers |= {key: getattr(given, key) for key in ("batch", "batch-tokens", "engine", "threads", "device")}
    words = [word for key, value in numbers.items() for word in (f"--{key}", str(value))]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.reward_ways", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def line(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Fit seconds = start + slope * size by least squares; with one size, the line through it and 0."""
    if len(set(sizes)) < 2:
        return 0.0, statistics.fmean(seconds) / statistics.fmean(sizes)
    slope, start = statistics.linear_regression(sizes, seconds)
    return start, slope


def summary(runs: Sequence[dict[str, Any]], key: str) -> dict[str, Any]:
    """Compute medians of one way by size, and the line through them."""
    sizes = sorted({run["config"]["pairs"] for run in runs})
    medians = {n: statistics.median(run[key] for run in runs if run["config"]["pairs"] == n) for n in sizes}
    start, slope = line(sizes, list(medians.values()))
    measured = medians.get(FULL)
    return {
        "seconds": {str(n): round(value, 3) for n, value in medians.items()},
        "seconds_a_pair": {str(n): round(value / n, 4) for n, value in medians.items()},
        "slope": slope,
        "start": start,
        "largest_miss": max(abs(start + slope * n - value) / value for n, value in medians.items()),
        "full": measured if measured is not None else start + slope * FULL,
        "full_is": "measured" if measured is not None else "read off the line",
        "peak_rss_gb": max(run["peak_rss_gb"] for run in runs),
    }


def table(found: dict[str, dict[str, Any]], given: argparse.Namespace) -> str:
    """Render the results in Markdown."""
    kind = "Processor seconds" if given.cpu_time else "Seconds"
    sizes = sorted({int(n) for way in found.values() for n in way["seconds"]})
    at = " | ".join(f"{n} pairs (a pair)" for n in sizes)
    lines = [
        f"{processor()}, {given.threads} threads, float32, shape {given.shape}, pairs "
        f"of 2 × {given.tokens} tokens, {given.epochs} epochs, our engine {given.engine}. {kind}, medians of "
        f"{given.rounds}. Part of trl's time is training the backbone, which the others leave as it is.",
        "",
        f"| way | {at} | off the line by | {FULL} pairs | peak GB | ours is faster by (goal) |",
        "|---" * (len(sizes) + 5) + "|",
    ]
    for way, own in found.items():
        cells = [f"{own['seconds'][str(n)]:.2f} ({own['seconds_a_pair'][str(n)]:.3f})" for n in sizes]
        ratio = ""
        if way in GOALS and "ours" in found:
            ratio = f"**{own['full'] / found['ours']['full']:.2f}** ({GOALS[way]})"
        times = " | ".join(cells)
        lines.append(
            f"| {NAMES[way]} | {times} | {own['largest_miss']:.1%} | {own['full']:.4g} ({own['full_is']}) "
            f"| {own['peak_rss_gb']:.2f} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--pairs", nargs="+", type=int, default=[FULL], help="sizes to measure at")
    parser.add_argument("--shape", choices=["gpt2", "tiny", "micro"], default="gpt2")
    parser.add_argument("--tokens", type=int, default=128, help="of each of a pair's two sequences")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="pairs a step where the backbone is in the loop")
    parser.add_argument("--batch-tokens", type=int, default=8192, dest="batch-tokens", help="tokens a pass of ours")
    parser.add_argument("--engine", choices=["plain", "fast"], default="fast", help="of ours")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="processor seconds, for a machine that is not quiet")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def main() -> None:
    """Run the chosen ways in turn, print and store."""
    given = arguments()
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in given.ways}
    for number in range(given.rounds):
        for pairs in given.pairs:
            for way in given.ways:
                print(f"round {number + 1} of {given.rounds}: {way}, {pairs} pairs", file=sys.stderr)
                runs[way].append(measure(way, pairs, given))
    key = "cpu_seconds" if given.cpu_time else "seconds"
    found = {way: summary(own, key) for way, own in runs.items()}
    text = table(found, given)
    write_json(given.out / "reward.json", {"goals": GOALS, "summary": found, "runs": runs})
    write_text(given.out / "reward.md", text)
    print(text)


if __name__ == "__main__":
    main()
