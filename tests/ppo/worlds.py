"""Worlds for the tests of PPO: parameters, actors over a tiny model, prompts, a reward that is easy to learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.models.fast.engine import Engine, load_backbone
from rlhf.models.text.tokens import encode_prompt
from rlhf.ppo.actors import POLICY, REFERENCE, Actors
from rlhf.ppo.learner import Learner
from rlhf.ppo.params import PPOParams
from rlhf.ppo.prompts import PromptStream
from rlhf.ppo.reward_sources import RewardSource, Scorable
from rlhf.ppo.step import Setup
from rlhf.ppo.types import Prompt
from rlhf.ppo.value_head import ValueHead

QUESTIONS = (
    "What is the capital of France?",
    "How do I boil an egg?",
    "Why?",
    "Is the sky blue because air scatters light?",
    "Hello",
    "Tell me more",
)

BASIC: dict[str, object] = {
    "iterations": 3, "batch": 8, "minibatch": 4, "microbatch": 8, "shards": 1, "epochs": 2, "response_tokens": 8,
    "max_prompt_tokens": 0, "temperature": 1.0, "lr": 1e-3, "value_lr": 1e-2, "lr_schedule": "linear",
    "adam_eps": 1e-5, "max_grad_norm": 1.0, "kl_coef": 0.1, "kl_controller": "fixed", "kl_target": 6.0,
    "engine": "plain", "rescore": "auto", "sampler": "native",
    "sampler_url": "http://127.0.0.1:8123", "source": "model", "function": "", "function_path": "inputs/reward",
    "function_timeout_s": 300.0,
    "kl_horizon": 1000.0, "kl_estimator": "k1", "gamma": 1.0, "lam": 0.95, "clip_ratio": 0.2, "value_clip": 0.2,
    "value_coef": 0.1, "value_init": "zero", "value_backprop": True, "score_clip": 5.0, "missing_eos": "keep",
    "missing_eos_penalty": 1.0, "whiten_rewards": False, "whiten_advantages": True, "approx_kl_stop": 0,
    "kl_limit": 0, "entropy_floor": 0, "score_jump": 0, "ratio_tolerance": 1e-4, "sampler_tolerance": 1e-3,
    "validation_every": 0, "validation_by": "reward", "validation_prompts": 4, "validation_patience": 2,
    "logged_episodes": 4,
    "fallback": "none", "fallback_path": "artifacts/sft",
}  # fmt: skip


def make_params(**changes: object) -> PPOParams:
    return PPOParams.model_validate(BASIC | changes)


def make_runtime(seed: int = 0, *, checkpoint_steps: int = 0) -> Runtime:
    params = RuntimeParams(
        device="cpu", dtype="float32", threads=1, portable=False, checkpoint_s=1e9, checkpoint_steps=checkpoint_steps
    )
    return Runtime.start(params, seed)


@dataclass
class TokenShare:
    """Scores a response by the share of its tokens whose id is even: dense, and trivially learnable."""

    scale: float = 4.0

    def score(self, batch: Scorable) -> Tensor:
        mask, ids = batch.episodes.mask, batch.episodes.response_ids
        share = ((ids % 2 == 0) & mask).sum(1) / mask.sum(1)
        return self.scale * (share.float() - 0.5)


def make_actors(base: Path, adapter: Path, source: RewardSource | None = None, *, engine: Engine = "plain") -> Actors:
    adapters = {REFERENCE: adapter, POLICY: adapter}
    backbone = load_backbone(base, adapters, engine=engine, trainable=(POLICY,), dtype=torch.float32, device="cpu")
    return Actors(backbone, ValueHead(backbone.hidden_size), source or TokenShare())


def make_prompts(actors: Actors) -> list[Prompt]:
    texts = [f"\n\nHuman: {question}\n\nAssistant:" for question in QUESTIONS]
    return [
        Prompt(f"train-{i:05d}", text, tuple(encode_prompt(actors.backbone.tokenizer, text)))
        for i, text in enumerate(texts)
    ]


def make_setup(actors: Actors, params: PPOParams, *, seed: int = 0, runtime: Runtime | None = None) -> Setup:
    learner = Learner(
        actors,
        lr=params.lr,
        value_lr=params.value_lr,
        adam_eps=params.adam_eps,
        max_grad_norm=params.max_grad_norm,
    )
    runtime = runtime or make_runtime(seed)
    return Setup(actors, learner, PromptStream(make_prompts(actors), runtime.seed), params, runtime)


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Bytes of tensors, to be compared."""
    return {name: value.detach().numpy().tobytes() for name, value in tensors.items()}
