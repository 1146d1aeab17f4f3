"""A pretraining small enough for a test."""

from typing import Any

from rlhf.core.runtime import Runtime, RuntimeParams

PRETRAIN: dict[str, Any] = {
    "layers": 1, "heads": 2, "width": 32, "context": 16, "init_range": 0.06, "steps": 30, "batch_size": 4, "shards": 1,
    "lr": 1e-2, "warmup_steps": 3, "schedule": "cosine", "weight_decay": 0.0, "grad_clip": 1.0,
    "validation_share": 0.2, "eval_every": 10, "log_every": 5,
}  # fmt: skip


def cpu(seed: int = 0, dtype: str = "float32") -> Runtime:
    params = RuntimeParams.model_validate(
        {"device": "cpu", "dtype": dtype, "threads": 1, "portable": False, "checkpoint_s": 1e9, "checkpoint_steps": 0}
    )
    return Runtime.start(params, seed)
