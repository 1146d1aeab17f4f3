"""The same model and adapters under both engines, for each architecture."""

from pathlib import Path

import pytest
import torch

from rlhf.models.fast.engine import load_backbone
from rlhf.models.policy.backbone import Backbone


@pytest.fixture(scope="session")
def pair(model_dir: Path, adapter_dirs: dict[str, Path]) -> tuple[Backbone, Backbone]:
    """(plain, fast), separate weights."""
    plain, fast = (
        load_backbone(model_dir, adapter_dirs, engine=engine, trainable=["policy"], dtype=torch.float32, device="cpu")
        for engine in ("plain", "fast")
    )
    assert type(plain) is Backbone
    assert type(fast) is not Backbone
    return plain, fast
