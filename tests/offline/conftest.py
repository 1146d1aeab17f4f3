"""A project root with a tiny base model, an SFT adapter, a reward model and pairs."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf.core.artifacts import write_jsonl
from rlhf.core.layout import Layout
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import save_reward
from tests.model_fixtures import make_adapter
from tests.sft.helpers import row


@pytest.fixture(scope="session")
def offline_template(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project root with a base, an SFT adapter, a reward model and pairs; tests copy it."""
    at = Layout(tmp_path_factory.mktemp("offline") / "project")
    at.base.parent.mkdir(parents=True)
    shutil.copytree(tiny_model_dir, at.base)
    make_adapter(at.base, at.sft, seed=4)
    model = RewardModel(32, pooling="mean", pool_over="response", backbone_adapter="artifacts/sft")
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(1, 32, generator=torch.Generator().manual_seed(0)))
    save_reward(model, at.reward, base=at.base, sft=at.sft)
    for split, start, count in (("train", 0, 12), ("validation", 100, 5)):
        write_jsonl(at.pairs / f"{split}.jsonl", [row(start + index) for index in range(count)])
    return at.root


@pytest.fixture
def project(tmp_path: Path, offline_template: Path) -> Callable[..., Layout]:
    def make(name: str = "project") -> Layout:
        return Layout(shutil.copytree(offline_template, tmp_path / name))

    return make
