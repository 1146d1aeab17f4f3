"""Write everything that the `ppo` stage reads, tiny, and run the stage in this process."""

import json
import os
from pathlib import Path

import torch

from rlhf.core.artifacts import write_jsonl, write_metrics
from rlhf.core.checkpoint import Checkpoints, fingerprint
from rlhf.core.layout import Layout
from rlhf.core.runtime import RuntimeParams
from rlhf.models.reward.reward_model import RewardModel
from rlhf.ppo.params import PPOParams
from rlhf.ppo.run import run_ppo
from tests.model_fixtures import make_adapter, make_gpt2
from tests.ppo.worlds import BASIC, QUESTIONS, make_runtime

RUNTIME = {
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
    "portable": False,
    "checkpoint_s": 1e9,
    "checkpoint_steps": 1,
}


def build(root: Path) -> Layout:
    """Make artifacts/base, sft, reward, referee and pairs, from fixed seeds; `root` must be the working folder."""
    layout = Layout()
    make_gpt2(layout.base)
    make_adapter(layout.base, layout.sft, seed=4)
    model = RewardModel(
        32, pooling="mean", pool_over="sequence", backbone_adapter=layout.sft.as_posix(), mean=0.1, std=0.5
    )
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model.save(layout.reward)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.neg_()  # a referee that wants the opposite
    model.save(layout.referee)
    for split, questions in (("train", QUESTIONS), ("validation", QUESTIONS[:3])):
        rows = [
            {
                "id": f"{split}-{i:05d}",
                "prompt": f"\n\nHuman: {q} {split}\n\nAssistant:",
                "chosen": " a",
                "rejected": " b",
            }
            for i, q in enumerate(questions)
        ]
        write_jsonl(layout.pairs / f"{split}.jsonl", rows)
    return layout


def write_resolved(root: Path, **changes: object) -> PPOParams:
    """Write params.resolved.json as `resolve` would."""
    params = PPOParams.model_validate(BASIC | changes)
    resolved = {"seed": 3, "runtime": RUNTIME, "live": {"to": []}, "ppo": params.model_dump(mode="json")}
    (root / "params.resolved.json").write_text(json.dumps(resolved))
    return params


def run(root: Path, params: PPOParams, checkpoint_root: Path, *, every: int = 1, within: Path | None = None) -> None:
    """Run the stage in this process, with fingerprinted checkpoints, cleared at the end. `within`: the folder to go
    to first."""
    if within is not None:
        os.chdir(within)
    layout = Layout()
    inputs = [layout.base, layout.sft, layout.reward, layout.referee, layout.pairs]
    key = fingerprint(params.model_dump(mode="json"), inputs)
    checkpoints = Checkpoints(checkpoint_root / f"ppo-{key}", every_s=1e9, every_steps=every)
    metrics = run_ppo(layout, params, make_runtime(RUNTIME_SEED), checkpoints)
    write_metrics(layout.metrics("ppo"), metrics)
    checkpoints.clear()


RUNTIME_SEED = 3
assert RuntimeParams.model_validate(RUNTIME)


def outputs(root: Path) -> dict[str, bytes]:
    """Read every byte that the stage wrote."""
    layout = Layout(root)
    files = [layout.metrics("ppo"), layout.plot("ppo"), layout.rollouts, *sorted(layout.ppo.rglob("*"))]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files if file.is_file()}
