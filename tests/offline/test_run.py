"""Methods that learn from the SFT policy's own samples, and what a method leaves on disk."""

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from rlhf.core.artifacts import read_json, sha256_tree, write_jsonl
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.reward.scoring import Scorer
from rlhf.models.text.tokens import decode_response
from rlhf.offline.methods import METHODS, switched_off
from rlhf.offline.params import SECTIONS, SharedParams
from rlhf.offline.samples import Sampler
from tests.offline.helpers import METHOD, SHARED, Plain, run
from tests.sft.helpers import cpu, row

Make = Callable[..., Layout]


def drawn(at: Layout, n: int, seed: int = 0) -> list[tuple[list[int], tuple[list[int], ...], tuple[float, ...]]]:
    sampler = Sampler(at, SharedParams.model_validate(SHARED), cpu(seed))
    return [(e.prompt, e.responses, e.scores) for e in sampler.draw("train", n, 0).examples]


def test_samples_are_scored_as_the_reward_model_scores_text(project: Make) -> None:
    at = project()
    scorer = Scorer.load(at.base, at.sft, at.reward)
    tokenizer = scorer.backbone.tokenizer
    for prompt, responses, scores in drawn(at, 2)[:4]:
        for ids, score in zip(responses, scores, strict=True):
            ended = ids[-1] == tokenizer.eos_token_id
            by_hand = scorer.score_rows([(prompt, ids)], batch_tokens=1000)[0]
            assert score == pytest.approx(by_hand, abs=1e-4)
            assert decode_response(tokenizer, ids) or ended


def test_the_first_samples_of_many_are_those_of_few(project: Make) -> None:
    at = project()
    few, many = drawn(at, 2), drawn(at, 3)
    assert [(p, r) for p, r, _ in few] == [(p, r[:2]) for p, r, _ in many]
    assert drawn(at, 2, seed=1) != few


def test_rejection_learns_the_best_of_n(project: Make) -> None:
    at = project()
    metrics = run(at, "rejection", n=4, lr=3e-3, epochs=4)
    best = [
        (prompt, max(zip(scores, responses, strict=True), key=lambda pair: pair[0])[1])
        for prompt, responses, scores in drawn(at, 4)
    ]
    policy, reference = Plain(at.base, at.offline("rejection")), Plain(at.base, at.sft)

    def likelihood(of: Plain) -> float:
        return sum(of.of_ids(prompt, response) for prompt, response in best)

    assert likelihood(policy) > likelihood(reference) + 1
    assert metrics["reward_best"] > metrics["reward_sampled"]
    assert metrics["tokens_sampled"] == sum(len(r) for _, responses, _ in drawn(at, 4) for r in responses)
    assert metrics["tokens_trained"] == 4 * sum(len(response) for _, response in best)


def test_rrhf_puts_likelihoods_in_the_order_of_rewards(project: Make) -> None:
    at = project()
    metrics = run(at, "rrhf", n=3, lr=3e-3, epochs=6, sft_coef=0.0)
    assert metrics["train_examples"] == 12

    def lost(of: Plain) -> float:
        total = 0.0
        for prompt, responses, scores in drawn(at, 3):
            means = [of.of_ids(prompt, r) / len(r) for r in responses]
            total += sum(
                max(0.0, means[i] - means[j]) for i in range(3) for j in range(3) if scores[i] < scores[j]
            )  # fmt: skip
        return total

    assert lost(Plain(at.base, at.offline("rrhf"))) < lost(Plain(at.base, at.sft)) * 0.9


@pytest.mark.parametrize("method", ["rrhf", pytest.param("rejection", marks=pytest.mark.thorough)])
def test_same_seed_same_bytes(project: Make, method: str) -> None:
    hashes = []
    for name in ("a", "b"):
        at = project(name)
        hashes.append((run(at, method), sha256_tree(at.offline(method) / "adapter_model.safetensors")))
    assert hashes[0] == hashes[1]


def test_best_of_n_is_described_and_nothing_is_trained(project: Make) -> None:
    at = project()
    assert run(at, "best_of_n") == {"run": True}
    assert [path.name for path in at.offline("best_of_n").iterdir()] == ["policy.json"]
    assert read_json(at.offline("best_of_n") / "policy.json")["n"] == [1, 2, 4]


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_off_leaves_a_note(project: Make, method: str) -> None:
    at = project()
    assert switched_off(method, at) == {f"offline_{method}_run": False}
    assert read_json(at.offline(method) / "policy.json") == {"method": method, "run": False}


def test_a_line_without_a_prompt_is_named(project: Make) -> None:
    at = project()
    write_jsonl(at.pairs / "train.jsonl", [row(0), {"chosen": " a"}])
    with pytest.raises(UserError, match=r"train\.jsonl:2: prompt: expected text, found None"):
        run(at, "rrhf")


@pytest.mark.parametrize(
    ("method", "change"),
    [("best_of_n", {"n": [4, 2]}), ("best_of_n", {"n": []}), ("rejection", {"n": 1}), ("dpo", {"beta": 0.0})],
)
def test_values_out_of_range_are_refused(method: str, change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SECTIONS[method].model_validate(METHOD[method] | change)
