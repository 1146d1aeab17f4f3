"""A finished run in miniature: everything that `evaluate` reads, with random weights."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.core.artifacts import write_json, write_jsonl
from rlhf.core.layout import Layout
from rlhf.evaluate.params import EvaluateParams
from rlhf.models.reward.referee import save_referee
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import save_reward
from tests.model_fixtures import make_adapter, make_gpt2

World = Callable[..., Layout]

INPUTS = Path(__file__).resolve().parents[2] / "inputs"

TOPICS = ["cat", "sky", "egg", "sea", "car", "fig", "hat", "ink", "jam", "kit", "log", "map", "nut", "oak", "pea"]


def params(**changes: object) -> EvaluateParams:
    values = {
        "split": "test", "prompts": 12, "ood_prompts": 5, "response_tokens": 6, "temperature": 0.9, "batch_size": 8,
        "batch_tokens": 400, "exact_kl_prompts": 6, "samples": 3, "probes": 7,
        "tax": {"path": str(INPUTS / "benchmarks"), "items": 0, "documents": 0},
        "people": {"rows": 4, "path": str(INPUTS / "people")},
        "judge": {
            "prompts": 0, "endpoint": "", "model": "", "key_env": "", "temperature": 0.0, "max_tokens": 20,
            "attempts": 2, "timeout_s": 120.0, "requests_per_minute": 0.0, "budget_requests": 100,
            "budget_tokens": 10**6,
        },
    }  # fmt: skip
    return EvaluateParams(**(values | changes))


def build(at: Layout, *, policy_seed: int, gold: str | None, prompts: int, ood: int, referee: bool) -> None:
    """Write a run into a folder."""
    make_gpt2(at.base)
    make_adapter(at.base, at.sft, seed=5)
    make_adapter(at.base, at.ppo, seed=policy_seed)
    asked = [{"prompt": f"\n\nHuman: What is a {topic}?\n\nAssistant:"} for topic in TOPICS[:prompts]]
    write_jsonl(at.pairs / "test.jsonl", [*asked, *asked[:3]])
    write_jsonl(at.pairs / "validation.jsonl", [{"prompt": "\n\nHuman: Who?\n\nAssistant:"}])
    write_jsonl(at.pairs / "ood.jsonl", [{"prompt": f"\n\nHuman: {n} + {n}?\n\nAssistant:"} for n in range(ood)])
    write_json(at.pairs / "task.json", {"gold": gold, "noise_ceiling": None})
    rows = [
        {"iteration": k, "prompt": "p", "response": " r", "ended": True, "score": float(k), "kl": float(k)}
        for k in range(4)
    ]
    write_jsonl(at.rollouts, rows)
    model = RewardModel(32, pooling="mean", pool_over="sequence", backbone_adapter="artifacts/sft")
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(1, 32, generator=torch.Generator().manual_seed(0)))
    save_reward(model, at.reward, base=at.base, sft=at.sft)
    second = RewardModel(32, pooling="mean", pool_over="response", backbone_adapter="artifacts/sft")
    with torch.no_grad():
        second.head.weight.copy_(torch.randn(1, 32, generator=torch.Generator().manual_seed(1)))
    save_referee(second if referee else None, at.referee, base=at.base, sft=at.sft)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a run with these properties, written once; tests work on copies."""

    @cache
    def run(**properties: Any) -> Path:
        folder = tmp_path_factory.mktemp("run")
        build(Layout(folder), **properties)
        return folder

    return run


@pytest.fixture
def world(tmp_path: Path, built: Callable[..., Path]) -> World:
    """`world(policy_seed=…, gold=…, prompts=…, ood=…)` writes a run; a policy seed equal to SFT's (5) is SFT itself."""

    def make(
        policy_seed: int = 6, gold: str | None = None, prompts: int = 15, ood: int = 6, referee: bool = True
    ) -> Layout:
        folder = built(policy_seed=policy_seed, gold=gold, prompts=prompts, ood=ood, referee=referee)
        shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
        return Layout(tmp_path)

    return make
