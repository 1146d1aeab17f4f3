"""Helpfulness on a real model: folds without leaks, judges beside length, the table; all of it on a tiny model."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.core.artifacts import read_jsonl, write_json, write_jsonl
from rlhf.core.yaml import read_yaml
from rlhf.params import resolve
from rlhf.reward.fit import FitSettings
from rlhf.reward.pairs import TextPair
from studies.folder import put
from studies.real import folds, helpful, model
from studies.run import ROOT
from studies.runner import make
from tests.chat_families import make_chat_model
from tests.model_fixtures import make_encoder
from tests.studies.test_real import HH, write_hh


@pytest.mark.parametrize("way", helpful.WAYS)
def test_the_helpful_studys_settings_are_parameters_that_there_are(tmp_path: Path, way: str) -> None:
    own = helpful.AS_IT_IS if way == "reward" else helpful.TRAINED | (helpful.TUNED if way == "tuned" else {})
    values = copy.deepcopy(read_yaml(ROOT / "params.yaml"))
    put(values, helpful.COMMON | own, where="params.yaml")
    write_json(tmp_path / "params.yaml", values)
    found = resolve(tmp_path / "params.yaml", ROOT / "profiles")
    assert (found.data.format, found.reward.train) == ("hh", "lora" if way == "tuned" else "head")
    if way != "reward":
        assert found.ppo.response_tokens == found.evaluate.response_tokens == found.sft.sample_tokens
        assert found.offline.dpo.run
        assert found.offline.best_of_n.run


def test_the_helpful_studys_pairs_are_one_folder_with_prompts_from_elsewhere(tmp_path: Path) -> None:
    sources = [write_hh(tmp_path / name, rows) for name, rows in (("a", HH[:2]), ("b", HH[2:3]))]
    elsewhere = tmp_path / "question.jsonl"
    write_jsonl(elsewhere, [{"category": "writing", "turns": ["Write."]}])
    folder = helpful.collected(sources, elsewhere, tmp_path / "made")
    assert [row["chosen"] for row in read_jsonl(folder / "pairs.jsonl")] == [chosen for chosen, _ in HH[:3]]
    assert (folder / "ood.jsonl").read_bytes() == elsewhere.read_bytes()


def pair(prompt: str, chosen: str, rejected: str) -> TextPair:
    return TextPair(prompt, chosen, rejected, None, 1)


def test_no_head_judges_a_prompt_that_it_was_fitted_on() -> None:
    pairs = [pair(f"p{number // 2}", "a", "b") for number in range(60)]  # two pairs a prompt
    features = torch.arange(60.0).reshape(60, 1, 1).expand(60, 2, 1)
    judged: list[int] = []

    def fit(train: torch.Tensor, validation: torch.Tensor) -> Any:
        seen = {int(value) // 2 for value in torch.cat((train, validation))[:, 0, 0]}
        assert {int(value) // 2 for value in train[:, 0, 0]}.isdisjoint(
            int(value) // 2 for value in validation[:, 0, 0]
        )

        def scores(left: torch.Tensor) -> torch.Tensor:
            assert seen.isdisjoint(int(value) // 2 for value in left[:, 0, 0])
            assert len(seen) == 24
            judged.extend(int(value) for value in left[:, 0, 0])
            return torch.stack((left[:, 0, 0], torch.zeros(len(left))), dim=1)

        return scores

    assert folds.out_of_fold(pairs, features, fit, seed=0) == [float(number) for number in range(60)]
    assert sorted(judged) == list(range(60))


def test_a_judge_is_held_against_the_longer_reply_pair_by_pair() -> None:
    pairs = [pair("a", "long", "x"), pair("b", "x", "long"), pair("c", "yes", "nay"), pair("d", "long", "x")]
    found = folds.judged(pairs, {"linear": [1.0, 1.0, 1.0, -1.0]}, seed=0)
    assert found["length"] == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert found["linear"] == pytest.approx(3 / 4)
    assert found["linear_over_length"] == pytest.approx((0 + 1 + 0.5 - 1) / 4)


@pytest.mark.parametrize("kind", ["linear", "hidden"])
def test_the_heads_of_the_folds_find_what_is_there_and_nothing_where_nothing_is(kind: str) -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(300, 2, 4, generator=draw)
    pairs = [pair(f"p{number}", "a", "b") for number in range(300)]
    settings = FitSettings(
        lr=0.05, weight_decay=0.01, epochs=10, batch_size=32, standardise=True, dropout=0.0, patience=0
    )
    make_fit = {"linear": folds._linear, "hidden": folds._hidden}[kind]
    none = folds.out_of_fold(pairs, features, make_fit(settings, 0), seed=0)
    assert 0.35 < sum(margin > 0 for margin in none) / 300 < 0.65
    features[:, 0, 2] += 1.5
    some = folds.out_of_fold(pairs, features, make_fit(settings, 0), seed=0)
    assert sum(margin > 0 for margin in some) / 300 > 0.78  # the best there is: P(N(1.5, 2) > 0) = .856


def test_the_helpful_table_has_judges_reward_models_and_policies() -> None:
    metrics = {
        "pairs": 100, "length": 0.58, "linear": 0.6, "linear_over_length": 0.02, "linear_over_length_low": -0.01,
        "linear_over_length_high": 0.05,
    }  # fmt: skip
    reward = {"seed": 0, "way": "reward", "metrics": metrics}
    numbers = {
        "reward_accuracy": 0.61, "reward_train_pairs": 80, "reward_referee_pairs": 30, "reward_test_pairs": 20,
        "eval_rm_winrate": 0.7, "diagnose_overall": "suspect", "eval_reward_sft": 0.1,
        "eval_ood_rm_winrate": 0.55, "eval_tax_copa_base": 0.7,
    }  # fmt: skip
    row = {"prompt": "Hi", "sft": "A.", "ppo": "B."}
    policies = {"seed": 0, "way": "policies", "metrics": numbers, "samples": [row]}
    others = {"seed": 0, "way": "alternatives", "metrics": {"compare_kl_best_of_4": 0.6}, "samples": []}
    found = {"reward-0": reward, "policies-0": policies, "tuned-0": policies | {"way": "tuned"}}
    text = helpful.table(found | {"alternatives-0": others})
    assert "| 0, frozen, linear | 100 | 0.600 | 0.020 (-0.010 to 0.050) |" in text
    assert "| 0, tuned | 80, 30, 20 | 0.61 | – | – | – | – |" in text
    assert "| 0, ppo | – | – | 0.70 | – | – | 0.55 | – | suspect |" in text
    assert "| 0, best of 4 | – | 0.60 | – |" in text
    assert "| 0, sft | 0.10 | – | – | – | – | – | – | – |" in text
    assert "| Hi | A. | B. |" in text
    assert "best of" not in helpful.table(found)
    beaten = {"reward_referee_beats_length": False, "eval_referee_winrate": 0.9}
    text = helpful.table({"policies-0": policies | {"metrics": numbers | beaten}})
    assert "| 0, ppo | – | – | 0.70 | – | no judge | 0.55 | – | suspect |" in text
    assert helpful.table({}) == "Not run yet.\n"
    assert "policy" not in helpful.table({"reward-0": reward})


@pytest.mark.thorough
@pytest.mark.slow
def test_the_whole_helpful_study_on_a_tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("cat", "dog", "love", "hate", "good", "sad", "sun", "sea")
    rows = [
        (f"\n\nHuman: {a} {b} {k}?\n\nAssistant: {a} is good", f"\n\nHuman: {a} {b} {k}?\n\nAssistant: {b} is bad")
        for a in words
        for b in words
        for k in range(3)
    ]
    for name, own in zip(helpful.FILES, (rows[:64], rows[64:]), strict=True):
        write_hh(tmp_path / "made" / name, own).rename(put_in(tmp_path, name))
    asked = [{"category": "w", "turns": [f"Write {word}."]} for word in words[:3]]
    write_jsonl(put_in(tmp_path, "mtbench-prompts/question.jsonl"), asked)
    write_jsonl(put_in(tmp_path, "tax/lambada_500.jsonl"), [{"context": "The cat", "continuation": "sat"}])
    monkeypatch.setenv("RLHF_SHARED_DATA", str(tmp_path))
    monkeypatch.setattr(model, "MODEL", make_chat_model(tmp_path / "model", "smollm2"))
    monkeypatch.setattr(model, "ENCODER", make_encoder(tmp_path / "encoder"))
    small = {
        "data.max_tokens": 120, "ppo.max_prompt_tokens": 80, "ppo.batch": 8, "ppo.minibatch": 4, "ppo.iterations": 3,
        "evaluate.prompts": 20, "evaluate.samples": 20, "sft.max_examples": 40, "offline.shared.max_examples": 20,
        "reward.epochs": 2, "reward.normalise_prompts": 10,
    }  # fmt: skip
    monkeypatch.setattr(helpful, "AS_IT_IS", helpful.AS_IT_IS | {"data.max_tokens": 120})
    monkeypatch.setattr(helpful, "TRAINED", helpful.TRAINED | small)
    found = {}
    for way in helpful.WAYS:
        entry = helpful.plan(tmp_path / "work", 0, way)
        list(make(entry.runs, 1))
        found[f"{way}-0"] = entry.read()
    folds_found = found["reward-0"]["metrics"]
    assert folds_found["pairs"] == len(rows)
    assert folds_found["linear"] > 0.9  # one word tells which is better
    assert found["policies-0"]["metrics"]["eval_ood_prompts"] == 3
    assert found["policies-0"]["metrics"]["reward_referee_encoder"]
    assert found["tuned-0"]["metrics"]["reward_accuracy"] is not None
    assert "| 0, best of 4 |" in helpful.table(found)


def put_in(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
