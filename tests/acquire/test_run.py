"""The queue of a tiny project: whose replies, to which prompts, which pairs; the same each time."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from rlhf.acquire.params import AcquireParams
from rlhf.acquire.replies import Reply, pair_replies
from rlhf.acquire.run import Queue, Sizes, acquire
from rlhf.acquire.strategies import Pool
from rlhf.acquire.write import write_questions
from rlhf.core.artifacts import write_jsonl
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.label.serve import read_pairs
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.ensemble import Ensemble
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import Scorer, save_reward
from tests.model_fixtures import make_adapter
from tests.sft.helpers import cpu, row
from tests.stages.forker import Forker

VALUES: dict[str, Any] = {
    "run": True, "strategy": "random", "pairs": 6, "prompts": 0, "policies": ["sft", "ppo"], "temperatures": [1.0],
    "samples": 2, "per_prompt": 1, "ridge": 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Layout:
    """Base, SFT, PPO, an ensemble of three heads, and 12 training prompts with two pairs for the first."""
    at = Layout(tmp_path_factory.mktemp("acquire"))
    at.base.parent.mkdir(parents=True)
    shutil.copytree(tiny_model_dir, at.base)
    make_adapter(at.base, at.sft, seed=4)
    make_adapter(at.base, at.ppo, seed=5)
    model = RewardModel(
        32, pooling="mean", pool_over="response", backbone_adapter="artifacts/sft", mean=0.3, std=2.0,
        ensemble=Ensemble(3, "mean", 0.0),
    )  # fmt: skip
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(3, 32, generator=torch.Generator().manual_seed(0)))
    save_reward(model, at.reward, base=at.base, sft=at.sft)
    write_jsonl(at.pairs / "train.jsonl", [row(index) for index in (0, *range(12))])
    return at


def queue(at: Layout, *, seed: int = 0, round_: int = 0, **changes: Any) -> Queue:
    params = AcquireParams.model_validate(VALUES | changes)
    return acquire(at, params, Sizes(6, 5, 200), runtime=cpu(seed), round_=round_)


@pytest.mark.parametrize("strategy", ["ensemble", "d_optimal"])
def test_a_queue_of_each_strategy(at: Layout, strategy: str, tmp_path: Path) -> None:
    found = queue(at, strategy=strategy, round_=2)
    prompts = {str(row(index)["prompt"]) for index in range(12)}
    assert len(found.questions) == len({one.prompt for one in found.questions} & prompts) == 6
    assert {one.round for one in found.questions} == {3}
    assert {one.policy_a for one in found.questions} | {one.policy_b for one in found.questions} == {"sft@1", "ppo@1"}
    assert all(one.a.strip() and one.b.strip() and one.a.strip() != one.b.strip() for one in found.questions)
    expected = {"acquire_pairs": 6, "acquire_prompts": 12, "acquire_round": 3, "acquire_prompts_asked": 6}
    assert expected.items() <= found.metrics.items()
    if strategy == "d_optimal":
        assert found == queue(at, strategy=strategy, round_=2)
    write_questions(Layout(tmp_path), found.questions)
    read = read_pairs(tmp_path / "artifacts" / "acquire" / "pairs.jsonl")
    assert [one.model_dump(exclude={"conversation"}) for one in read] == [one.model_dump() for one in found.questions]


def test_rounds_ask_other_questions(at: Layout) -> None:
    texts = [{(one.a, one.b) for one in queue(at, round_=round_).questions} for round_ in (0, 1)]
    assert not texts[0] & texts[1]


def test_the_pool_is_what_the_reward_model_says(at: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the plain engine, a reply at a time."""
    seen: list[Any] = []

    def noted(name: str, pool: Pool, count: int, draws: object, **options: object) -> list[int]:
        seen.append(pool)
        return list(range(len(pool)))

    def paired(replies: Any, seed: int) -> Any:
        seen.append(pair_replies(replies, seed))
        return seen[-1]

    monkeypatch.setattr("rlhf.acquire.run.choose", noted)
    monkeypatch.setattr("rlhf.acquire.run.pair_replies", paired)
    questions = queue(at, strategy="d_optimal", prompts=3).questions
    pairs, pool = seen
    assert [(one.a, one.b) for one in questions] == [(p.a.sample.response, p.b.sample.response) for p in pairs]
    scorer = Scorer.load(at.base, at.sft, at.reward)
    tokenizer = scorer.backbone.tokenizer
    ids = [(tokenizer(pair.prompt)["input_ids"], one.sample.response_ids) for pair in pairs for one in (pair.a, pair.b)]
    scores = [scorer.score_rows([one], batch_tokens=500)[0] * 2.0 for one in ids]  # the scale of its std taken back
    leads = np.subtract(scores[::2], scores[1::2])
    np.testing.assert_allclose(pool.leads, leads, atol=1e-4)
    weights = scorer.reward.line.weight.double().numpy()
    np.testing.assert_allclose(pool.differences @ weights.T, pool.members, atol=1e-4)
    np.testing.assert_allclose(pool.members.mean(1), leads, atol=1e-4)
    assert len(pool.known) == 13  # every training pair, the second one to the same prompt too
    np.testing.assert_allclose(pool.known[:, :-1] @ weights.mean(0), pool.known[:, -1], atol=1e-4)


def test_limits(at: Layout) -> None:
    found = queue(at, prompts=5, temperatures=[0.7, 1.0], policies=["sft"], per_prompt=0, pairs=1000)
    assert len({one.prompt for one in found.questions}) == 5
    assert {one.policy_a for one in found.questions} <= {"sft@0.7", "sft@1"}
    assert found.metrics["acquire_pool"] == len(found.questions) > 5 * 3
    assert {one.policy_a for one in found.questions} == {one.policy_b for one in found.questions}  # A is either


def test_replies_that_say_nothing_or_the_same_are_no_question() -> None:
    texts = [" Yes.", "Yes. ", "", "  ", " No."]
    replies = [
        [Reply("sft", Sample("p", text, True, (1,))) for text in texts],
        [Reply("sft", Sample("q", "", True, ()))],
    ]
    (pair,) = pair_replies(replies, seed=0)
    assert {pair.a.sample.response, pair.b.sample.response} == {" Yes.", " No."}


def test_where_nothing_differs(at: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf.acquire.run.pair_replies", lambda replies, seed: [])
    with pytest.raises(UserError, match=r"acquire: no two replies to any of 12 prompts differ; ask for more"):
        queue(at)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policies": ["sft"], "samples": 1}, "make one reply to a prompt; a pair needs two"),
        ({"policies": ["sft", "sft"]}, "each once"), ({"temperatures": [0.0]}, "greater than 0"),
        ({"policies": ["base"]}, "'sft' or 'ppo'"), ({"strategy": "bald"}, "'random', 'margin', 'ensemble' or 'd_opt"),
        ({"pairs": 0}, "greater than or equal to 1"), ({"ridge": 0.0}, "greater than 0"),
        ({"policies": []}, "at least 1"),
    ],
)  # fmt: skip
def test_settings_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AcquireParams.model_validate(VALUES | changes)


def test_off_it_writes_an_empty_queue(forker: Forker, tmp_path: Path) -> None:
    resolved = {"acquire": VALUES | {"run": False}, "data": {"labels": {"round": 0}}, "runtime": {}, "seed": 0}
    (tmp_path / "params.resolved.json").write_text(json.dumps(resolved))
    done = forker.run("acquire", tmp_path)  # nothing else is there
    assert done.code == 0, done.said
    assert (tmp_path / "artifacts" / "acquire" / "pairs.jsonl").read_text() == ""
    assert json.loads((tmp_path / "metrics" / "acquire.json").read_text()) == {"acquire_run": False}
