"""`make bench-peer`: time the PPO step here and in trl 1.12.0, the last release that has one, side by side.

Each setting runs in turn, peer, ours, peer, ours, as fresh processes; medians over all steps but each process's first.
The peer's environment is made in .bench-peer from the pins below. Results go to benchmarks/results/peer.json, the
table to peer.md. Beside the times stands the arithmetic floor: 2 FLOP for each weight and token, backward without
weight gradients, logits at response positions only, at the matrix-product rate measured here.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import venv
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.workload import GPT2_SMALL, TINY, Shape, processor

ROOT = Path(__file__).resolve().parents[1]
PINS = (
    "torch==2.13.0",  # first and alone, so that the others do not choose it
    "transformers==5.23.0 trl==1.12.0 peft==0.21.2 datasets==5.2.0 accelerate==1.15.0 tokenizers==0.23.3 numpy==2.4.6",
)
NARROW = 256  # wide; to here processes of one thread are the faster way to use several cores
RAGGED = replace(GPT2_SMALL, shortest=8)
# name: shape, the peer's value model, and the ratio to reach
SETTINGS: dict[str, tuple[Shape, str, float]] = {
    "gpt2": (GPT2_SMALL, "lora", 3.5),
    "gpt2-default": (GPT2_SMALL, "full", 4.0),
    "gpt2-ragged": (RAGGED, "lora", 4.5),
    "tiny": (TINY, "lora", 5.0),
}


def peer_python(folder: Path) -> Path:
    """Find the interpreter of the peer's environment, and make the environment if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        for pins in PINS:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *pins.split()], check=True)
    return python


def measure(python: Path | str, module: list[str], shape: Shape, extra: list[str]) -> dict[str, Any]:
    """Run one process and read the last line that it prints."""
    numbers = {key: value for key, value in asdict(shape).items() if key != "microbatch" or "-m" in module}
    given = [word for key, value in numbers.items() for word in (f"--{key}", str(value))]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [python, *module, *given, *extra], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def gigaflops(threads: int) -> float:
    """Measure the rate of the body's own matrix product, 2048 x 768 x 3072, best of many, in a fresh process."""
    script = f"""
import time, torch
torch.set_num_threads({threads})
a, b, best = torch.randn(2048, 768), torch.randn(768, 3072), 1e9
out = a @ b
for _ in range(60):
    start = time.perf_counter(); torch.mm(a, b, out=out); best = min(best, time.perf_counter() - start)
print(2 * 2048 * 768 * 3072 / best / 1e9)
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def floor(shape: Shape, rate: float) -> dict[str, float]:
    """Compute the seconds of a step that did nothing but its matrix products."""
    body, head = 12 * shape.layers * shape.hidden**2, shape.vocab * shape.hidden
    responses = shape.batch * (shape.shortest + shape.response) / 2
    once = 2 * (body * (shape.batch * shape.prompt + responses) + head * responses) / rate / 1e9
    parts = {"rollout": once, "scoring": once, "update": 2 * shape.epochs * once}
    return {**parts, "total": sum(parts.values())}


def compare(name: str, python: Path, *, rounds: int, steps: int, threads: int, rate: float) -> dict[str, Any]:
    """Run peer and ours in turn."""
    shape, value, goal = SETTINGS[name]
    both = ["--steps", str(steps), "--threads", str(threads)]
    runs: dict[str, list[dict[str, Any]]] = {"peer": [], "ours": []}
    for number in range(rounds):
        print(f"{name}: round {number + 1} of {rounds}", file=sys.stderr)
        script = [str(ROOT / "benchmarks" / "trl_step.py")]
        runs["peer"].append(measure(python, script, shape, [*both, "--value", value]))
        runs["ours"].append(measure(sys.executable, ["-m", "benchmarks.workload"], shape, both))
        if threads > 1 and shape.hidden <= NARROW:
            shared = ["--steps", str(steps), "--threads", "1", "--processes", str(threads)]
            runs.setdefault("processes", []).append(
                measure(sys.executable, ["-m", "benchmarks.workload"], shape, shared)
            )
    summary = {who: _median(found) for who, found in runs.items()}
    return {
        "shape": asdict(shape),
        "value_model": value,
        "goal": goal,
        "median": summary,
        "ratio": round(summary["peer"]["total"] / summary["ours"]["total"], 2),
        "memory_share": round(summary["ours"]["peak_gb"] / summary["peer"]["peak_gb"], 3),
        "floor": {key: round(seconds, 3) for key, seconds in floor(shape, rate).items()},
        "runs": runs,
    }


def _median(runs: list[dict[str, Any]]) -> dict[str, float]:
    steps = [step for run in runs for step in (run["steps"][1:] or run["steps"])]
    seconds = {key: round(statistics.median(step[key] for step in steps), 3) for key in steps[0]}
    return {**seconds, "peak_gb": statistics.median(run["peak_rss_gb"] for run in runs)}


def table(results: dict[str, Any], rate: float, threads: int) -> str:
    """Render the results in Markdown."""
    lines = [
        f"{processor()}, {threads} threads, float32, torch {version('torch')}, transformers {version('transformers')}, "
        f"trl 1.12.0; {rate:.0f} GFLOP/s measured. "
        "Seconds a step, medians. Part of the ratio is architecture: the peer trains a second model for values, here a "
        "value head sits on the policy.",
        "",
        "| setting | who | rollout | scoring | update | total | peak GB | ratio (goal) | total / floor |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        for who, own in found["median"].items():
            reached = found["median"]["peer"]["total"] / own["total"]
            ratio = f"**{reached:.2f}** ({found['goal']})" if who != "peer" else ""
            times = " | ".join(f"{own[key]:.2f}" for key in ("rollout", "scoring", "update", "total", "peak_gb"))
            label = f"ours, {threads} processes" if who == "processes" else who
            lines.append(f"| {name} | {label} | {times} | {ratio} | {own['total'] / found['floor']['total']:.2f} |")
        times = " | ".join(f"{found['floor'][key]:.2f}" for key in ("rollout", "scoring", "update", "total"))
        lines.append(f"| {name} | floor | {times} | – | | 1 |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the chosen settings, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--environment", type=Path, default=ROOT / ".bench-peer", help="the peer's, made if absent")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    python = peer_python(given.environment)
    rate = gigaflops(given.threads)
    results: dict[str, Any] = {}
    given.out.mkdir(parents=True, exist_ok=True)
    text = ""
    for name in given.settings:  # written after each: what was measured is kept
        results[name] = compare(name, python, rounds=given.rounds, steps=given.steps, threads=given.threads, rate=rate)
        text = table(results, rate, given.threads)
        about = {"gigaflops": round(rate, 1), "threads": given.threads, "peer_pins": " ".join(PINS)}
        (given.out / "peer.json").write_text(
            json.dumps({**about, "settings": results}, indent=2, sort_keys=True) + "\n"
        )
        (given.out / "peer.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
