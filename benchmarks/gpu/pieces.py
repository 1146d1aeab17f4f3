"""Run the pieces of `make bench-gpu`: each a process or two, each under ten minutes, each stored when done."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.carry import ROOT, module_path
from benchmarks.gpu.twin import differences
from benchmarks.workload import GPT2_SMALL, Shape
from rlhf.core.artifacts import load_tensors

BATCHES = (64, 128, 256, 512)
GPT2 = replace(GPT2_SMALL, prompt=128, response=128, shortest=128)
MICRO = Shape(1, 32, 1, 64, 4, 6, 6, 6, 2, 4)


@dataclass(frozen=True)
class Plan:
    """The settings that all pieces share."""

    device: str
    dtype: str
    threads: int
    steps: int
    limit_s: float  # of one process
    microbatch: int  # episodes of a pass of the update, ours and the peer's alike
    value: str  # the peer's value model
    dry: bool

    def shape(self, batch: int) -> Shape:
        """Choose GPT-2 small with 128 + 128 tokens, or in a dry run the smallest thing that works."""
        base = MICRO if self.dry else GPT2
        return replace(base, batch=batch, microbatch=min(batch, self.microbatch))


class PieceError(Exception):
    """A process failed; its last words."""


def pieces(plan: Plan) -> dict[str, Callable[[], dict[str, Any]]]:
    """List all pieces by name, in the order they are run: peer and ours in turn."""
    batches = (4,) if plan.dry else BATCHES
    found: dict[str, Callable[[], dict[str, Any]]] = {"limits": partial(limits, plan)}
    for batch in batches:
        found[f"peer-{batch}"] = partial(peer, plan, batch)
        found[f"ours-{batch}"] = partial(ours, plan, batch)
    for dtype in ("bfloat16", "float32"):
        found[f"same-seed-{dtype}"] = partial(same_seed, replace(plan, dtype=dtype), batches[0])
    return found


def limits(plan: Plan) -> dict[str, Any]:
    """Measure the rates of this device."""
    small = ["--size", "64", "--megabytes", "1", "--launches", "10"] if plan.dry else []
    return _json(_run(plan, ["-m", "benchmarks.gpu.limits", "--device", plan.device, *small]))


def ours(plan: Plan, batch: int) -> dict[str, Any]:
    """Time this project's step."""
    shape = plan.shape(batch)
    return _json(_run(plan, ["-m", "benchmarks.workload", *_words(asdict(shape)), *_common(plan)]))


def peer(plan: Plan, batch: int) -> dict[str, Any]:
    """Time the peer's step. Where the memory is too small for all episodes at once, try half as many, and so on."""
    numbers = asdict(plan.shape(batch))
    script = [str(ROOT / "benchmarks" / "trl_step.py"), *_words(numbers), *_common(plan), "--value", plan.value]
    at_once = batch
    while True:
        try:
            return _json(_run(plan, [*script, "--rollout-batch", str(at_once)]))
        except PieceError as error:
            if "out of memory" in str(error).lower() and at_once > 1:
                at_once //= 2
                continue
            if "ModuleNotFoundError: No module named 'trl" in str(error):
                return {"absent": "trl 1.12.0 is not installed; see the README on what to carry"}
            raise


def same_seed(plan: Plan, batch: int) -> dict[str, Any]:
    """Compare two processes with one seed."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.safetensors" for name in ("one", "two")]
        for file in files:
            words = _words(asdict(plan.shape(batch)))
            _run(plan, ["-m", "benchmarks.gpu.twin", *words, *_common(plan), "--out", str(file)])
        return {**differences(*(load_tensors(file) for file in files)), "steps": plan.steps, "episodes": batch}


def _words(numbers: dict[str, int]) -> list[str]:
    return [word for key, value in numbers.items() for word in (f"--{key}", str(value))]


def _common(plan: Plan) -> list[str]:
    numbers = {"device": plan.device, "dtype": plan.dtype, "threads": plan.threads, "steps": plan.steps}
    return [word for key, value in numbers.items() for word in (f"--{key}", str(value))]


def _run(plan: Plan, words: list[str]) -> str:
    """Run a Python process and give what it printed. Raises PieceError with its last words, or that it was too slow."""
    environment = {**os.environ, "PYTHONPATH": module_path(), "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
            timeout=plan.limit_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PieceError(f"took longer than {plan.limit_s:g} s") from None
    if done.returncode:
        raise PieceError(done.stderr.strip()[-2000:] or f"exit status {done.returncode}")
    return done.stdout


def _json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return found
