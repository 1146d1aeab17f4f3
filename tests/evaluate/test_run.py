"""The whole stage on a run in miniature."""

import math

import pytest
import torch

from rlhf.core.artifacts import write_jsonl, write_metrics
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.evaluate.params import EvaluateParams
from rlhf.evaluate.run import Evaluation, evaluate
from rlhf.measure import policies
from rlhf.measure.panel import Panel, known_gold
from rlhf.measure.policies import measure_policies
from rlhf.measure.prompts import choose
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import ADAPTER, REWARD, Scorer, load_reward, save_reward
from rlhf.models.text.prompts import read_prompts
from rlhf.synthetic.gold import gold_reward
from tests.evaluate.conftest import World, params
from tests.judge_server import JudgeServer


def measured(at: Layout, settings: EvaluateParams | None = None, *, corpus_share: float | None = None) -> Evaluation:
    threads = RuntimeParams(
        device="cpu", dtype="float32", threads=1, portable=False, checkpoint_s=60.0, checkpoint_steps=0
    )
    found = evaluate(at, settings or params(), Runtime.start(threads, seed=0), corpus_share=corpus_share)
    write_metrics(at.metrics("evaluate"), found.metrics)
    return found


def test_a_policy_equal_to_sft_wins_half_and_has_not_moved(world: World) -> None:
    metrics = measured(world(policy_seed=5, gold="synthetic")).metrics
    for prefix in ("eval_", "eval_ood_"):
        assert metrics[f"{prefix}rm_winrate"] == metrics[f"{prefix}gold_winrate"] == 0.5
        assert metrics[f"{prefix}kl"] == metrics[f"{prefix}kl_k3"] == metrics[f"{prefix}kl_exact"] == 0
        assert metrics[f"{prefix}reward_gain"] == metrics[f"{prefix}gold_gain"] == metrics[f"{prefix}length_gain"] == 0
        assert metrics[f"{prefix}reward_ppo"] == metrics[f"{prefix}reward_sft"]
        assert float(metrics[f"{prefix}kl_base"]) != 0  # type: ignore[arg-type]


def test_numbers_agree_with_the_answers(world: World) -> None:
    at = world(gold="synthetic")
    found = measured(at, params(samples=12))
    metrics, rows = found.metrics, found.samples
    assert metrics["eval_prompts"] == len(rows) == 12
    assert metrics["eval_ood_prompts"] == 5
    assert len({row["prompt"] for row in rows}) == 12
    for policy in ("base", "sft", "ppo"):
        golds = [gold_reward(str(row["prompt"]), str(row[policy]), ended=bool(row[f"{policy}_ended"])) for row in rows]
        assert metrics[f"eval_gold_{policy}"] == pytest.approx(math.fsum(golds) / 12)
        rewards = [float(row[f"{policy}_reward"]) for row in rows]  # type: ignore[arg-type]
        assert metrics[f"eval_reward_{policy}"] == pytest.approx(math.fsum(rewards) / 12)
        assert metrics[f"eval_ended_{policy}"] == sum(bool(row[f"{policy}_ended"]) for row in rows) / 12
    better = [float(row["ppo_reward"]) > float(row["sft_reward"]) for row in rows]  # type: ignore[arg-type]
    assert metrics["eval_rm_winrate"] == pytest.approx(sum(better) / 12)
    gain = float(metrics["eval_reward_ppo"]) - float(metrics["eval_reward_sft"])  # type: ignore[arg-type]
    assert metrics["eval_reward_gain"] == pytest.approx(gain)
    assert float(metrics["eval_kl_k3"]) > 0  # type: ignore[arg-type]
    assert [point.sqrt_kl for point in found.overoptimisation] == [0.0, 1.0, math.sqrt(2), math.sqrt(3)]


def test_without_gold_and_without_ood_prompts(world: World) -> None:
    metrics = measured(world(ood=0)).metrics
    assert metrics["eval_ood_prompts"] == 0
    assert not [
        name
        for name in metrics
        if name.startswith("eval_ood_") and name not in ("eval_ood_prompts", "eval_ood_too_long")
    ]
    assert not [name for name in metrics if "gold" in name and metrics[name] is not None]


def test_the_referee_reads_the_plain_sft_backbone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first reward model brings an adapter of its own."""
    at, original, settings = world(gold=None), policies.sample_texts, params(exact_kl_prompts=0, probes=0)
    taken: list[list[Sample]] = []

    def recorded(*given: object, **rest: object) -> list[Sample]:
        taken.append(original(*given, **rest))  # type: ignore[arg-type]
        return taken[-1]

    tuned = Backbone.load(at.base, {REWARD: at.ppo}, dtype=torch.float32, device="cpu")
    first = load_reward(at.reward, base=at.base, sft=at.sft)
    before = measured(at, settings).metrics
    monkeypatch.setattr(policies, "sample_texts", recorded)
    save_reward(first, at.reward, base=at.base, sft=at.sft, tuned=tuned)
    found = measured(at, settings)
    assert found.metrics["eval_reward_ppo"] != before["eval_reward_ppo"]
    scorer = Scorer.load(at.base, at.sft, at.referee)
    for policy, samples in zip(("base", "sft", "ppo"), taken, strict=False):
        assert found.metrics[f"eval_referee_{policy}"] == before[f"eval_referee_{policy}"]
        mean = math.fsum(scorer.score_samples(samples, batch_tokens=4000)) / 12
        assert found.metrics[f"eval_referee_{policy}"] == pytest.approx(mean, abs=1e-4)
    gain = float(before["eval_referee_ppo"]) - float(before["eval_referee_sft"])  # type: ignore[arg-type]
    assert before["eval_referee_gain"] == pytest.approx(gain)
    assert 0 <= float(before["eval_ood_referee_winrate"]) <= 1  # type: ignore[arg-type]
    (single,) = {point.referee for point in found.overoptimisation}  # every logged episode is the same
    assert single == pytest.approx(scorer.score_texts(["p"], [" r"])[0], abs=1e-4)


def test_without_a_referee_its_metrics_are_left_out(world: World) -> None:
    found = measured(world(gold="synthetic", referee=False))
    named = {name for name in found.metrics if "referee" in name and found.metrics[name] is not None}
    assert named == set()
    assert {point.referee for point in found.overoptimisation} == {None}


def test_validation_prompts_are_used_when_asked_for(world: World) -> None:
    found = measured(world(), params(split="validation"))
    assert [row["prompt"] for row in found.samples] == ["\n\nHuman: Who?\n\nAssistant:"]


@pytest.mark.thorough
def test_the_batch_size_changes_no_answer(world: World) -> None:
    at = world()
    first, second = measured(at, params(batch_size=12)), measured(at, params(batch_size=5, batch_tokens=100))
    assert [row["ppo"] for row in first.samples] == [row["ppo"] for row in second.samples]
    assert first.metrics["eval_kl"] == pytest.approx(second.metrics["eval_kl"], abs=1e-4)


@pytest.mark.thorough
def test_equal_runs_write_equal_bytes(world: World) -> None:
    at = world(gold="synthetic")
    written = []
    for _ in range(2):
        measured(at)
        written.append(at.metrics("evaluate").read_bytes())
    assert written[0] == written[1]


def test_prompts_that_do_not_fit_are_counted(world: World) -> None:
    at = world()
    long = {"prompt": "\n\nHuman: " + "sky " * 200 + "\n\nAssistant:"}
    write_jsonl(at.pairs / "ood.jsonl", [long, {"prompt": "\n\nHuman: Hi\n\nAssistant:"}])
    metrics = measured(at).metrics
    assert (metrics["eval_ood_prompts"], metrics["eval_ood_too_long"], metrics["eval_too_long"]) == (1, 1, 0)


def test_policies_draw_with_the_same_numbers_on_the_same_prompts(world: World) -> None:
    at = world(policy_seed=5)
    backbone = Backbone.load(at.base, {ADAPTER: at.sft, "policy": at.ppo}, dtype=torch.float32, device="cpu")
    model = RewardModel(32, pooling="mean", pool_over="sequence", backbone_adapter="artifacts/sft")
    panel = Panel(backbone, Scorer(backbone, model, ADAPTER), None, None, params(), 0)
    prompts = choose(read_prompts(at.pairs / "test.jsonl"), 8, 0, "held-out")
    answers = measure_policies(panel, prompts, "held-out")
    assert answers["sft"].samples == answers["ppo"].samples
    assert [s.prompt for s in answers["base"].samples] == prompts


def test_chosen_prompts_do_not_depend_on_training(world: World) -> None:
    prompts = [str(k) for k in range(30)]
    assert choose(prompts, 10, 0, "held-out") == choose(prompts, 10, 0, "held-out")
    assert len(set(choose(prompts, 10, 0, "held-out"))) == 10
    assert len(choose(prompts, 99, 0, "ood")) == 30
    assert known_gold(world(gold=None).pairs) is None


def test_a_language_model_may_judge_and_is_asked_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLHF_JUDGE_CACHE", raising=False)
    at = world()
    with JudgeServer() as server:
        judged = params().judge.model_dump() | {"prompts": 8, "endpoint": server.url, "model": "m"}
        few: dict[str, object] = {"prompts": 8, "ood_prompts": 2, "exact_kl_prompts": 2, "probes": 2}
        found = measured(at, params(**few, judge=judged)).metrics
        assert (found["eval_judge_prompts"], found["eval_judge_malformed"], found["eval_judge_unasked"]) == (8, 0, 0)
        assert isinstance(found["eval_judge_winrate"], float)
        asked = len(server.asked)
        assert 0 < asked <= 16
        assert measured(at, params(**few, judge=judged)).metrics == found
        assert len(server.asked) == asked
        monkeypatch.delenv("JUDGE_KEY", raising=False)
        with pytest.raises(UserError, match="JUDGE_KEY holds no key"):
            measured(at, params(**few, judge=judged | {"key_env": "JUDGE_KEY"}))
    without = measured(at, params(**few)).metrics
    assert without == {name: value for name, value in found.items() if not name.startswith("eval_judge_")}
