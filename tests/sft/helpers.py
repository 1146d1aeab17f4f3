"""A fine-tuning small enough for a test."""

import shutil
from pathlib import Path
from typing import Any

from rlhf.core.artifacts import write_jsonl
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.sft.params import SFTParams

VALUES: dict[str, Any] = {
    "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": "auto"},
    "epochs": 4, "max_examples": 0, "batch_size": 4, "accumulate": 1, "shards": 1, "lr": 2e-2,
    "warmup_steps": 2, "replies": "chosen", "schedule": "linear", "weight_decay": 0.0, "grad_clip": 1.0,
    "group_by_length": True, "eval_every": 5, "eval_examples": 8, "log_every": 5,
    "samples": 3, "sample_tokens": 8, "sample_temperature": 1.0,
}  # fmt: skip


def params(**changes: Any) -> SFTParams:
    return SFTParams.model_validate(VALUES | changes)


def cpu(seed: int = 0, dtype: str = "float32") -> Runtime:
    return Runtime.start(
        RuntimeParams.model_validate(
            {
                "device": "cpu",
                "dtype": dtype,
                "threads": 1,
                "portable": False,
                "checkpoint_s": 1e9,
                "checkpoint_steps": 0,
            }
        ),
        seed,
    )


def row(number: int, chosen: str | None = None) -> dict[str, object]:
    return {
        "id": f"row-{number}",
        "prompt": f"\n\nHuman: {'How ' * (number % 4)}is {number}?\n\nAssistant:",
        "chosen": f" It is {'very ' * (number % 3)}blue." if chosen is None else chosen,
        "rejected": " No.",
    }


def project(root: Path, base: Path, *, train: int = 20, held_out: int = 6) -> Layout:
    """A project root with a base model and pairs."""
    layout = Layout(root)
    layout.base.parent.mkdir(parents=True)
    shutil.copytree(base, layout.base)
    for split, start, count in (("train", 0, train), ("validation", 100, held_out), ("test", 200, held_out)):
        write_jsonl(layout.pairs / f"{split}.jsonl", [row(start + index) for index in range(count)])
    return layout
