"""The whole stage on a tiny backbone."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from rlhf.core.artifacts import write_json, write_metrics
from rlhf.core.checkpoint import Checkpoints
from rlhf.core.curves import Curve
from rlhf.core.errors import UserError
from rlhf.core.runtime import Runtime, RuntimeParams
from rlhf.models.reward.scoring import Scorer, save_reward
from rlhf.reward import features
from rlhf.reward.held_out_metrics import Held, held_out_metrics, write_reliability
from rlhf.reward.length import Sides
from rlhf.reward.pairs import TextPair
from rlhf.reward.params import RewardParams
from rlhf.reward.train import TrainedReward, train_reward
from rlhf.reward.types import Folders
from tests.model_fixtures import rounded_by_place
from tests.reward.conftest import first_word_pairs, keyword_pairs, write_split

TUNE = {
    "epochs": 3, "batch_size": 16, "lr": 5e-3, "schedule": "linear", "warmup_steps": 2, "weight_decay": 0.0,
    "grad_clip": 1.0, "eval_every": 5, "log_every": 5, "dropout": 0.0, "shards": 1,
}  # fmt: skip


SEVERAL = {"members": 3, "aggregate": "uncertainty"}
HEAD, LORA = {"train": "head", "engine": "plain"}, {"train": "lora", "pooling": "attention"}
MORE = {"logprobs": True, "head_units": 8, "dropout": 0.1, "patience": 5}
WIDE = {**SEVERAL, **MORE, "length_correction": "regression"}
WIDE_LORA = {**LORA, **MORE, "length_correction": "sqrt", "tune": {**TUNE, "epochs": 1, "dropout": 0.1}}
SHORT_LORA = {**LORA, "tune": {**TUNE, "epochs": 1}}


def params(**changes: object) -> RewardParams:
    values = {
        "train": "head", "engine": "fast", "tune": TUNE, "members": 1, "aggregate": "mean", "uncertainty_weight": 0.5,
        "pooling": "mean", "pool_over": "response", "standardise": True, "lr": 0.02, "weight_decay": 1e-4, "epochs": 20,
        "batch_size": 32, "batch_tokens": 2048, "normalise_prompts": 20, "response_tokens": 8, "temperature": 1.0,
        "sample_batch": 16, "calibration_bins": 5, "referee_share": 0.0,
        "logprobs": False, "head_units": 0, "length_correction": "none", "dropout": 0.0, "patience": 0,
        "learned": {"min_count": 5, "words": 5, "examples": 3},
    }  # fmt: skip
    return RewardParams(**(values | changes))


def train(
    pairs: Path,
    base: Path,
    sft: Path,
    out: Path,
    *,
    every_steps: int = 0,
    encoder: Path | None = None,
    **changes: object,
) -> TrainedReward:
    runtime = Runtime.start(
        RuntimeParams(device="cpu", dtype="float32", threads=1, portable=False, checkpoint_s=60.0, checkpoint_steps=0),
        seed=0,
    )
    checkpoints = Checkpoints(out / "checkpoints", every_s=1e9, every_steps=every_steps)
    curve = Curve(out / "reward.csv")
    at = Folders(pairs, base, sft, out / "reward", out / "engines.json", encoder)
    return train_reward(at, params(**changes), runtime=runtime, checkpoints=checkpoints, curve=curve)


def test_a_planted_keyword_is_learnt(pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trained = train(pairs_dir, tiny_model_dir, sft_dir, out)
    metrics = trained.metrics
    write_metrics(out / "reward.json", metrics)
    assert float(metrics["reward_accuracy"]) > 0.9  # type: ignore[arg-type]
    assert metrics["reward_share_of_ceiling"] == pytest.approx((float(metrics["reward_accuracy"]) - 0.5) / 0.4)  # type: ignore[arg-type]
    assert metrics["reward_test_pairs"] == 80
    assert "reward_gold_agreement" not in metrics
    assert metrics["reward_accuracy_turns_1_n"] == 80
    rows = list(csv.DictReader((out / "reward.csv").open()))
    assert list(rows[0]) == ["epoch", "train_loss", "validation_loss", "validation_accuracy"]
    assert len(rows) == 21

    save_reward(trained.model, out / "reward", base=tiny_model_dir, sft=sft_dir)
    scorer = Scorer.load(tiny_model_dir, sft_dir, out / "reward")
    prompt = "\n\nHuman: What is sky?\n\nAssistant:"
    loved, plain = scorer.score_texts([prompt, prompt], [" blue light please water", " blue light water"])
    assert loved > plain + 0.5


@pytest.mark.parametrize(
    "how", [SHORT_LORA, SEVERAL, *(pytest.param(how, marks=pytest.mark.thorough) for how in (HEAD, WIDE, WIDE_LORA))]
)
def test_the_saved_model_gives_the_margins_that_were_measured(
    pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    trained = train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / "out", **how)
    save_reward(trained.model, tmp_path / "reward", base=tiny_model_dir, sft=sft_dir, tuned=trained.tuned)
    scorer = Scorer.load(tiny_model_dir, sft_dir, tmp_path / "reward")
    test = keyword_pairs(80, 3)
    prompts = [pair.prompt for pair in test]
    chosen = scorer.score_texts(prompts, [pair.chosen for pair in test])
    rejected = scorer.score_texts(prompts, [pair.rejected for pair in test])
    again = [(a - b) * scorer.reward.std for a, b in zip(chosen, rejected, strict=True)]
    torch.testing.assert_close(torch.tensor(again), torch.tensor(trained.test_margins), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("how", [HEAD, pytest.param(WIDE_LORA, marks=pytest.mark.thorough)])
def test_equal_runs_write_equal_bytes(
    pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    for name in ("a", "b"):
        trained = train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / name, **how)
        folder = tmp_path / name / "reward"
        save_reward(trained.model, folder, base=tiny_model_dir, sft=sft_dir, tuned=trained.tuned)
        write_metrics(tmp_path / name / "reward.json", trained.metrics)
        about = json.loads((folder / "reward.json").read_text())
        write_json(folder / "reward.json", about | {"adapter": "same"})  # it names the folder
    own = ["adapter/adapter_model.safetensors"] if how is WIDE_LORA else []
    for file in (*own, "head.safetensors", "reward.json", "backbone.json", "../reward.json", "../reward.csv"):
        one, other = (tmp_path / name / "reward" / file for name in ("a", "b"))
        assert one.read_bytes() == other.read_bytes(), file


@pytest.mark.thorough
def test_a_tuned_backbone_learns_what_a_frozen_one_does_not_show(
    pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path
) -> None:
    """Which word is the reply's first: mean-pooled frozen states hardly tell. Only the adapter's copy moves."""
    for name, count, seed in (("train", 320, 1), ("validation", 60, 2), ("test", 80, 3)):
        write_split(pairs_dir / f"{name}.jsonl", first_word_pairs(count, seed))
    before = (sft_dir / "adapter_model.safetensors").read_bytes()
    head, lora = (train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / how["train"], **how) for how in (HEAD, LORA))
    frozen, tuned = (float(trained.metrics["reward_accuracy"]) for trained in (head, lora))  # type: ignore[arg-type]
    assert tuned > max(frozen, 0.85)
    assert head.tuned is None
    assert (sft_dir / "adapter_model.safetensors").read_bytes() == before
    rows = list(csv.DictReader((tmp_path / "lora" / "reward.csv").open()))
    assert list(rows[0]) == ["epoch", "train_loss", "validation_loss", "validation_accuracy"]
    assert float(rows[-1]["epoch"]) == 3.0
    assert lora.metrics["reward_validation_loss"] == pytest.approx(
        min(float(row["validation_loss"]) for row in rows if row["validation_loss"]), rel=1e-5
    )


def test_several_heads(pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path) -> None:
    trained = train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / "out", **SEVERAL)
    metrics = trained.metrics
    assert metrics["reward_members"] == 3
    assert len({tuple(row) for row in trained.model.head.weight.tolist()}) == 3
    assert metrics["reward_member_accuracy_lowest"] <= metrics["reward_member_accuracy_highest"]  # type: ignore[operator]
    assert 0.7 < float(metrics["reward_member_agreement"]) < 1  # type: ignore[arg-type]
    assert float(metrics["reward_accuracy"]) > 0.85  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="members: found 3 with train: lora"):
        params(**LORA, members=3)


def test_attention_needs_a_trained_backbone() -> None:
    with pytest.raises(ValidationError, match=r"attention.*allowed: mean or last, or train: lora"):
        params(pooling="attention")


def test_too_few_pairs_for_a_batch(pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size: found 500, with 160 training"):
        train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / "out", **LORA, tune={**TUNE, "batch_size": 500})


def test_identical_sides_are_worth_one_half(
    pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounded_by_place(monkeypatch, features)
    same = [TextPair(p.prompt, p.chosen, p.chosen, None, 1) for p in keyword_pairs(40, 9)]
    for name in ("train", "validation", "test"):
        write_split(pairs_dir / f"{name}.jsonl", same)
    metrics = train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / "out").metrics
    assert metrics["reward_accuracy"] == 0.5
    assert metrics["reward_loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_a_response_budget_beyond_the_context_is_an_error(
    pairs_dir: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="room for 120 new tokens"):
        train(pairs_dir, tiny_model_dir, sft_dir, tmp_path / "out", response_tokens=120)


def test_held_out_metrics_by_hand() -> None:
    pairs = [
        TextPair("p", " long answer", " short", "list", 1),
        TextPair("p", " no", " long answer", "list", 2),
        TextPair("p", " same", " size", None, 5),
        TextPair("p", " aa", " b", None, 1),
    ]
    rewards, tokens = (
        Sides([2.0, 0.0, -1.0, 3.0], [0.0, 0.0, 0.0, 2.0]),
        Sides([9.0, 2.0, 5.0, 5.0], [2.0, 9.0, 5.0, 5.0]),
    )
    held = Held(pairs, rewards, tokens, [2.0, -1.0], {"gold": None, "noise_ceiling": None})
    found = held_out_metrics(held, bins=10, seed=0)
    assert found["reward_accuracy"] == 0.625  # right, tie, wrong, right
    assert found["reward_length_baseline"] == 0.625  # right, wrong, tie, right
    assert found["reward_over_length"] == 0
    assert found["reward_margin_mean"] == 0.5
    assert found["reward_loss"] == pytest.approx((0.126928 + 0.693147 + 1.313262 + 0.313262) / 4, abs=1e-6)
    assert found["reward_accuracy_kind_list"] == 0.75
    assert [found[f"reward_accuracy_length_{n}"] for n in ("longer", "shorter", "equal")] == [1.0, 0.5, 0.5]
    assert found["reward_accuracy_turns_3plus"] == 0.0
    assert found["reward_noise_ceiling"] is None
    assert found["reward_share_of_ceiling"] is None


def test_reliability_file(tmp_path: Path) -> None:
    write_reliability(tmp_path / "r.csv", [0.1, -0.1, 9.0], 2)
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [(row["count"], row["accuracy"]) for row in rows] == [("2", "0.5"), ("1", "1.0")]
    assert json.loads(rows[0]["low"]) == 0.5
