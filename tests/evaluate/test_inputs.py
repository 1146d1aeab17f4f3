"""Input that is broken, missing or extreme, through the whole stage: one clear line, or numbers that are defined."""

import csv
import math
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import rlhf.models.policy.backbone as plain_engine
from rlhf.core.artifacts import read_json, write_json, write_jsonl
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.evaluate.params import EvaluateParams
from rlhf.evaluate.run import write
from rlhf.measure import policies
from rlhf.models.policy.backbone import Backbone
from rlhf.models.policy.sampling import Sample
from rlhf.models.policy.settings import Sampling
from rlhf.models.reward.referee import save_referee
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import save_reward
from tests.evaluate.conftest import World, params
from tests.evaluate.test_run import measured
from tests.judge_server import SILENCE, Answer, JudgeServer

POLICIES = ("base", "sft", "ppo")


def test_a_single_prompt_has_means_and_no_intervals(world: World) -> None:
    at = world(gold="synthetic", prompts=1, ood=1)
    found = measured(at, params(probes=1)).metrics
    assert found["eval_prompts"] == found["eval_ood_prompts"] == found["eval_sycophancy_probes"] == 1
    means = [
        f"eval_{name}_{policy}" for name in ("reward", "gold", "referee", "length", "rating") for policy in POLICIES
    ]
    gains = [f"eval_{name}_gain" for name in ("reward", "gold", "referee", "length", "flattery", "sycophancy")]
    for name in [*means, *gains, "eval_kl", "eval_ood_gold_gain", "eval_sycophancy_effect_gain"]:
        assert isinstance(found[name], int | float), name
        assert (found[f"{name}_low"], found[f"{name}_high"]) == (None, None), name
    # a rate of one has an interval, and says how little it means
    low, high = found["eval_rm_winrate_low"], found["eval_rm_winrate_high"]
    assert float(high) - float(low) > 0.5  # type: ignore[arg-type]
    assert read_json(at.metrics("evaluate"))["eval_prompts"] == 1


def mute(backbone: Backbone, prompts: list[str], sampling: Sampling, **_: object) -> list[Sample]:
    return [Sample(prompt, "", True, (backbone.eos_id,)) for prompt in prompts]


def test_policies_that_say_nothing_are_measured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "sample_texts", mute)
    found = measured(world(gold="synthetic"))
    metrics = found.metrics
    assert all(math.isfinite(value) for value in metrics.values() if isinstance(value, float))
    for policy in POLICIES:
        assert (metrics[f"eval_empty_{policy}"], metrics[f"eval_length_{policy}"]) == (1, 1)
        assert (metrics[f"eval_distinct1_{policy}"], metrics[f"eval_compression_{policy}"]) == (None, None)
        assert (metrics[f"eval_repetition_{policy}"], metrics[f"eval_flattery_{policy}"]) == (0, 0)
        assert metrics[f"eval_sycophancy_{policy}"] == 0
        assert metrics[f"eval_rating_{policy}"] == pytest.approx(1000)
    for name in ("rm_winrate", "rm_lc_winrate", "gold_lc_winrate", "referee_winrate", "gold_winrate_ppo_base"):
        assert metrics[f"eval_{name}"] == pytest.approx(0.5), name
    assert (metrics["eval_people_identical"], found.sheet.rows) == (4, [])


def test_a_policy_alone_that_says_nothing_loses(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = policies.sample_texts

    def ppo_is_mute(backbone: Backbone, prompts: list[str], sampling: Sampling, **rest: object) -> list[Sample]:
        spoken = mute if rest["adapter"] == "policy" else original
        return spoken(backbone, prompts, sampling, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(policies, "sample_texts", ppo_is_mute)
    metrics = measured(world(gold="synthetic")).metrics
    assert all(math.isfinite(value) for value in metrics.values() if isinstance(value, float))
    assert (metrics["eval_empty_ppo"], metrics["eval_empty_sft"]) == (1, 0)
    assert metrics["eval_length_ppo"] == 1


def other_width(at: Layout) -> tuple[RewardModel, Path]:
    """A reward model for a wider model, which lies elsewhere."""
    elsewhere = Path(str(at.base) + "-wider")
    write_json(elsewhere / "config.json", {"hidden_size": 64})
    return RewardModel(64, pooling="mean", pool_over="sequence", backbone_adapter="artifacts/sft"), elsewhere


def wider_reward(at: Layout) -> None:
    model, elsewhere = other_width(at)
    save_reward(model, at.reward, base=elsewhere, sft=at.sft)


def wider_referee(at: Layout) -> None:
    model, elsewhere = other_width(at)
    save_referee(model, at.referee, base=elsewhere, sft=at.sft)


OTHER = {"base": "x", "sft": "y"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda at: write_jsonl(at.pairs / "test.jsonl", [{"prompt": None}]), r"test\.jsonl:1: prompt: expected text"),
        (lambda at: write_jsonl(at.pairs / "test.jsonl", []), "test.*no prompts"),
        (lambda at: (at.pairs / "test.jsonl").unlink(), r"test\.jsonl: no such file"),
        (lambda at: write_jsonl(at.rollouts, [{"iteration": 0}]), r"ppo\.jsonl:1: prompt"),
        (lambda at: (at.ppo / "adapter_model.safetensors").unlink(), "no adapter_model"),
        (lambda at: write_json(at.reward / "backbone.json", OTHER), r"reward: .* another base model"),
        (lambda at: write_json(at.referee / "backbone.json", OTHER), r"artifacts/referee: .* another base model"),
        (wider_reward, r"artifacts/reward: .* another base model"),
        (wider_referee, r"artifacts/referee: .* another base model"),
        (lambda at: shutil.rmtree(at.referee), r"artifacts/referee: no reward\.json"),
    ],
)
def test_bad_input_stops_before_anything_is_sampled(
    world: World, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Layout], None], message: str
) -> None:
    at = world()
    spoil(at)
    monkeypatch.setattr(policies, "sample_texts", None)
    with pytest.raises(UserError, match=message) as caught:
        measured(at)
    assert "\n" not in str(caught.value)


def test_an_engine_that_is_not_the_models_own_measures_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at = world()
    monkeypatch.setattr(
        plain_engine, "position_ids", lambda mask: torch.arange(mask.shape[1]).expand(mask.shape).clone()
    )
    with pytest.raises(UserError, match=r"not reproduced with the adapter of .*nats apart; 0.001 is allowed") as caught:
        measured(at)
    assert "\n" not in str(caught.value)
    assert not at.evaluate.exists()


def judged(url: str, **changes: object) -> EvaluateParams:
    judge = {"prompts": 2, "endpoint": url, "model": "m", "attempts": 1}
    few = {"prompts": 2, "ood_prompts": 0, "exact_kl_prompts": 0, "probes": 0}
    return params(**few, judge=params().judge.model_dump() | judge | changes)


@pytest.mark.parametrize(
    ("answers", "key", "message"),
    [
        ([], "secret", r"judge\.key_env is empty\) \(HTTP 401\)"),
        ([SILENCE] * 4, None, r"no answer within 0\.3 s \(timeout_s\)"),
        ([Answer(body=b"<html>busy</html>")] * 4, None, "answers with something that is not JSON"),
        ([Answer(body=b'{"choices": []}')] * 4, None, "answers with something that is no chat completion"),
    ],
)
def test_a_judge_that_fails_for_good_is_one_line(
    world: World, monkeypatch: pytest.MonkeyPatch, answers: list[Answer], key: str | None, message: str
) -> None:
    monkeypatch.delenv("RLHF_JUDGE_CACHE", raising=False)
    with JudgeServer(script=answers, key=key) as server:
        with pytest.raises(UserError, match=message) as caught:
            measured(world(), judged(server.url, timeout_s=0.3 if SILENCE in answers else 120.0))
        assert str(caught.value).startswith("evaluate.judge.")
        assert "\n" not in str(caught.value)


def test_a_judge_that_is_not_there_or_has_no_key(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    at = world()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with pytest.raises(UserError, match=f"{url}: cannot be reached"):
        measured(at, judged(url))
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.setattr(policies, "sample_texts", None)  # this one is seen before anything is sampled
    with pytest.raises(UserError, match="NO_SUCH_KEY holds no key"):
        measured(at, judged(url, key_env="NO_SUCH_KEY"))


def _letters(text: str) -> str:
    """What of a reply stands in a cell as it is: control characters are shown there, formulas made harmless."""
    return "".join(re.findall(r"\w", re.sub(r"\\(x..|u....|[rnt])|[\x00-\x1f\x7f-\x9f]|'", "", text)))


def test_people_fill_in_the_sheet_and_are_counted(world: World, tmp_path: Path) -> None:
    at, folder = world(ood=0), tmp_path / "people"
    folder.mkdir()
    settings = params(
        samples=12, exact_kl_prompts=0, probes=0, response_tokens=10,  # so long that no two say the same
        people={"rows": 12, "path": str(folder)},
    )  # fmt: skip
    found = measured(at, settings)
    write(found, at.evaluate, "test")
    with (at.evaluate / "people.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    shown, same = len(rows), found.metrics["eval_people_identical"]
    assert shown + int(str(same)) == 12
    assert shown > 5
    by_ppo = {_letters(str(row["ppo"])) for row in found.samples}
    text = ["id,better", *(f"{row['id']},{1 if _letters(row['response_1']) in by_ppo else 2}" for row in rows[:5])]
    (folder / "ann.csv").write_text("\n".join(text) + "\n")  # a person who always prefers PPO's
    again = measured(at, settings).metrics
    assert (again["eval_people_winrate"], again["eval_people_judged"], again["eval_people_blank"]) == (1, 5, shown - 5)
    assert again["eval_people_winrate_low"] == pytest.approx(5 / (5 + 1.96**2), abs=1e-3)
    changed = {name for name, value in again.items() if found.metrics.get(name, 0) != value}
    assert {name for name in changed if not name.startswith("eval_people_")} == set()
    (folder / "ben.csv").write_text("id,better\n0000-old,1\n")
    with pytest.raises(UserError, match=r"ben\.csv:2: id '0000-old' is not on this run's sheet"):
        measured(at, settings)


def test_a_malformed_sheet_stops_before_anything_is_sampled(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = world()
    (tmp_path / "ben.csv").write_text("id,better\n0000-abc,left\n")
    monkeypatch.setattr(policies, "sample_texts", None)
    with pytest.raises(UserError, match=r"ben\.csv:2: better: found 'left'; allowed are 1, 2, tie, or nothing"):
        measured(at, params(people={"rows": 4, "path": str(tmp_path / "ben.csv")}))
