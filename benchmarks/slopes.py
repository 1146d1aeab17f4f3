"""`make bench-slopes`: measure how a PPO step's time grows with batch, response length and the model's width.

Each of the three is doubled step by step while the others stay; a slope of log seconds over log size is the power with
which the cost grows (1: twice the work, twice the time). Beside the slope through all points stands that of the last
two, where fixed costs weigh least. The scale `small` takes some 5 minutes on two CPU threads. Results go to
benchmarks/results/slopes.json and slopes.md.
"""

import argparse
import gc
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.workload import GPT2_SMALL, TOLERANCES, Shape, clock_of, make_setup, processor, run
from rlhf.core.artifacts import write_json, write_text
from rlhf.models.fast.allocator import keep_memory

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("rollout", "scoring", "update", "total")
SMALL = Shape(4, 128, 4, 1024, 32, 32, 32, 32, 4, 64)
MICRO = Shape(1, 32, 1, 64, 4, 4, 4, 4, 1, 4)
BATCHES, LENGTHS = (8, 16, 32, 64, 128, 256, 512), (32, 64, 128, 256, 512)


def wide(shape: Shape, width: int) -> Shape:
    """Change the hidden size; heads stay as wide as before."""
    return replace(shape, hidden=width, heads=width * shape.heads // shape.hidden)


def long(shape: Shape, response: int) -> Shape:
    """Change the length of responses; all are equal."""
    return replace(shape, response=response, shortest=response)


def scales() -> dict[str, dict[str, dict[int, Shape]]]:
    """List for each scale the shapes along each axis, by the number that grows."""
    base, gpt2 = replace(SMALL, batch=16), replace(GPT2_SMALL, microbatch=64)
    gpu = long(replace(gpt2, prompt=128), 128)
    return {
        "small": {
            "batch": {n: replace(SMALL, batch=n) for n in BATCHES},
            "response length": {n: long(base, n) for n in LENGTHS},
            "width": {n: wide(SMALL, n) for n in (64, 128, 256, 512)},
        },
        "gpt2": {
            "batch": {n: replace(gpu, batch=n) for n in BATCHES},
            "response length": {n: long(replace(gpu, batch=64), n) for n in LENGTHS},
            "width": {n: wide(replace(gpu, batch=64), n) for n in (256, 512, 768, 1024)},
        },
        "micro": {
            "batch": {n: replace(MICRO, batch=n) for n in (2, 4)},
            "response length": {n: long(MICRO, n) for n in (4, 8)},
            "width": {n: wide(MICRO, n) for n in (32, 64)},
        },
    }


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit d log seconds / d log size by least squares."""
    return statistics.linear_regression([math.log(n) for n in sizes], [math.log(s) for s in seconds]).slope


def measure(shape: Shape, given: argparse.Namespace) -> dict[str, float]:
    """Measure the median seconds of a step and its parts, after a step that warms up."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"device": given.device, "dtype": given.dtype}
        setup = make_setup(shape, given.engine, Path(folder), given.threads, **place)
        steps = run(setup, 1 + given.steps, clock_of(given.device))[1:]
    del setup
    gc.collect()
    return {part: statistics.median(step[part] for step in steps) for part in PARTS}


def along(shapes: dict[int, Shape], given: argparse.Namespace, name: str) -> dict[str, Any]:
    """Measure one axis: its points and slopes."""
    points = {}
    for number, shape in shapes.items():
        print(f"{name} {number}", file=sys.stderr)
        points[number] = measure(shape, given)
    sizes = list(points)
    return {
        "shapes": {str(n): asdict(shape) for n, shape in shapes.items()},
        "seconds": {str(n): {part: round(s, 5) for part, s in own.items()} for n, own in points.items()},
        "slope": {part: slope(sizes, [points[n][part] for n in sizes]) for part in PARTS},
        "slope_at_the_end": {part: slope(sizes[-2:], [points[n][part] for n in sizes[-2:]]) for part in PARTS},
    }


def table(found: dict[str, dict[str, Any]], given: argparse.Namespace) -> str:
    """Render the results in Markdown."""
    where = torch.cuda.get_device_name() if given.device == "cuda" else processor()
    text = (
        f"{where}, {given.threads} threads, {given.dtype}, engine {given.engine}, scale {given.scale}. Seconds a step, "
    )
    text += f"medians of {given.steps}.\n"
    for name, own in found.items():
        shape = next(iter(own["shapes"].values()))
        fixed = ", ".join(
            f"{key} {value}" for key, value in shape.items() if key not in (name, "shortest", "microbatch")
        )
        text += f"\n| {name} | rollout | scoring | update | total |\n|---|---|---|---|---|\n"
        for number, seconds in own["seconds"].items():
            text += f"| {number} | " + " | ".join(f"{seconds[part]:.3g}" for part in PARTS) + " |\n"
        for key, label in (("slope", "slope"), ("slope_at_the_end", "slope of the last two")):
            text += f"| **{label}** | " + " | ".join(f"{own[key][part]:.2f}" for part in PARTS) + " |\n"
        text += f"\nFirst point: {fixed}.\n"
    return text


def main() -> None:
    """Measure along the chosen axes, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=list(scales()), default="small")
    parser.add_argument("--axes", nargs="+", choices=list(scales()["small"]), default=list(scales()["small"]))
    parser.add_argument("--engine", choices=["plain", "fast"], default="fast")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=list(TOLERANCES), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    keep_memory()
    shapes = scales()[given.scale]
    found = {name: along(shapes[name], given, name) for name in given.axes}
    text = table(found, given)
    about = {key: getattr(given, key) for key in ("scale", "engine", "device", "dtype", "threads", "steps")}
    write_json(given.out / "slopes.json", {**about, "axes": found})
    write_text(given.out / "slopes.md", text)
    print(text)


if __name__ == "__main__":
    main()
