"""A backbone with two adapters for each architecture."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf.models.fast.engine import load_backbone
from rlhf.models.policy.backbone import Backbone
from tests.model_fixtures import make_adapter, make_gpt2, make_llama, make_neox

MAKERS: dict[str, Callable[[Path], Path]] = {"gpt2": make_gpt2, "llama": make_llama, "neox": make_neox}


@pytest.fixture(scope="session", params=sorted(MAKERS))
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def adapter_dirs(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: make_adapter(model_dir, root / name, seed=seed) for seed, name in enumerate(("sft", "policy"))}


@pytest.fixture(scope="session", params=["plain", "fast"])
def backbone(request: pytest.FixtureRequest, model_dir: Path, adapter_dirs: dict[str, Path]) -> Backbone:
    """Both engines, held to the same independent references."""
    return load_backbone(
        model_dir, adapter_dirs, engine=request.param, trainable=["policy"], dtype=torch.float32, device="cpu"
    )
