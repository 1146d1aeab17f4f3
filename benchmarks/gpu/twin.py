"""Run a few steps of PPO with one seed and write down all that came of them; run twice, it shows the tolerance.

python -m benchmarks.gpu.twin --device cuda --dtype bfloat16 --out a.safetensors
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from benchmarks.workload import GPT2_SMALL, TOLERANCES, Shape, make_setup
from rlhf.core.artifacts import save_tensors
from rlhf.ppo import step as steps
from rlhf.ppo.state import Progress


def differences(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> dict[str, float | bool]:
    """Compare two runs with one seed: whether they are equal to the byte, and how far apart they are.

    Weights are compared relative to the largest weight; logprobs only where both sampled the same tokens so far.
    """
    ids = [one["response_ids"], two["response_ids"]]
    same = (ids[0] == ids[1]).cumprod(1).bool() if ids[0].shape == ids[1].shape else torch.zeros(1, dtype=torch.bool)
    weights = [name for name in one if name.startswith("weights/")]
    largest = max(float(one[name].abs().max()) for name in weights)
    gap = max(float((one[name].double() - two[name].double()).abs().max()) for name in weights)
    logprobs = (one["logprobs"] - two["logprobs"]).abs()[same] if same.numel() > 1 else torch.zeros(0)
    return {
        "bitwise": all(torch.equal(one[name], two[name]) for name in one),
        "weights_largest_difference": gap,
        "weights_relative": gap / max(largest, 1e-30),
        "logprobs_largest_difference": float(logprobs.max()) if logprobs.numel() else 0.0,
        "tokens_that_differ": 1.0 - float(same.double().mean()),
    }


def outcome(shape: Shape, given: argparse.Namespace) -> dict[str, Tensor]:
    """Run the steps; give the weights after them and the last step's episodes."""
    with tempfile.TemporaryDirectory() as folder:
        setup = make_setup(shape, "fast", Path(folder), given.threads, device=given.device, dtype=given.dtype)
        for iteration in range(given.steps):
            episodes, _ = steps.step(setup, Progress(kl_coef=0.05, iteration=iteration))
    answers = episodes.rollout.answers
    found = {f"weights/{name}": value for name, value in setup.learner.weights().items()}
    found |= {"response_ids": answers.episodes.response_ids, "logprobs": answers.logprobs}
    return found | {"scores": episodes.rollout.scores}


def main() -> None:
    """Run the steps and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in vars(GPT2_SMALL).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--dtype", choices=list(TOLERANCES), default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    shape = Shape(**{name: getattr(given, name) for name in vars(GPT2_SMALL)})
    save_tensors(cast(Path, given.out), outcome(shape, given))


if __name__ == "__main__":
    main()
