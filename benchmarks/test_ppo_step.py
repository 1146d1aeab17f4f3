"""Time the parts of a PPO step, plain and fast, with pytest-benchmark (`make bench`)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.workload import TINY, Scheduled, make_setup
from rlhf.ppo.rollout import respond, score
from rlhf.ppo.step import experience
from rlhf.ppo.update import update

SHAPES = {"tiny": TINY, "tiny-ragged": replace(TINY, shortest=4)}


@pytest.fixture(scope="module", params=["plain", "fast"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=list(SHAPES))
def setup(request: pytest.FixtureRequest, engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Scheduled:
    return make_setup(SHAPES[request.param], engine, Path(tmp_path_factory.mktemp(engine)), threads=2)


def answer(setup: Scheduled) -> Any:
    """Sample the policy's answers to the first batch."""
    prompts = setup.prompts.batch(0, setup.params.batch)
    return respond(
        setup.actors, prompts, uniforms=setup.uniforms(0), temperature=1.0, microbatch=setup.params.microbatch,
        rescore=False,
    )  # fmt: skip


def test_rollout(benchmark: Callable[..., Any], setup: Scheduled) -> None:
    assert benchmark(answer, setup).episodes.mask.any()


def test_scoring(benchmark: Callable[..., Any], setup: Scheduled) -> None:
    answers = answer(setup)
    rollout = benchmark(score, setup.actors, answers, temperature=1.0, microbatch=setup.params.microbatch)
    assert torch.isfinite(rollout.scores).all()


def test_update(benchmark: Any, setup: Scheduled) -> None:
    prompts = setup.prompts.batch(0, setup.params.batch)
    start = setup.learner.weights()

    def prepare() -> tuple[tuple[Any, ...], dict[str, Any]]:
        setup.learner.restore_weights(start)
        made = experience(setup, prompts, setup.uniforms(0), 0.05)
        given = (setup.actors, setup.learner, made.rollout, made.advantages)
        return given, {"params": setup.params, "stream": (0, 0)}

    stats = benchmark.pedantic(update, setup=prepare, rounds=3)
    assert stats.minibatches == setup.params.epochs
