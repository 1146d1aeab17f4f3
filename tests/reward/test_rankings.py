"""A file of rankings through the real `prepare` and `reward` code: what one ranking counts."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlhf.core.artifacts import read_jsonl
from rlhf.core.errors import UserError
from rlhf.core.layout import Layout
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import REWARD, Scorer, save_reward
from rlhf.prepare.build import BaseChoice, prepare
from rlhf.prepare.write import write_prepared
from rlhf.reward.lora_trainer import PairRows, Pairwise, _collator
from rlhf.reward.pairs import pair_weights, read_pairs
from tests.prepare.helpers import data_params, write_lines
from tests.reward.conftest import WORDS
from tests.reward.test_train import HEAD, LORA, train


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """60 prompts with five responses in an order that two annotators agree on: the more "please", the better. Three
    prompts have a ranking of nine (36 pairs) that says the opposite."""
    rows = []
    for k in range(60):
        texts = [f"{WORDS[k % len(WORDS)]} {'please ' * n}{WORDS[(k + n) % len(WORDS)]}" for n in range(9)]
        several = texts[:9] if k % 20 == 0 else texts[:2]
        ranks = list(range(len(several), 0, -1)) if k % 20 else list(range(1, len(several) + 1))
        rows += [{"prompt": f"Question {k}?", "responses": several, "ranks": ranks, "annotator": a} for a in "xy"]
    data = data_params(path=str(write_lines(tmp_path / "r.jsonl", rows)), format="rankings", max_tokens=400)
    write_prepared(prepare(data, BaseChoice("pretrain", None, None, None, 4096), seed=1), Layout(tmp_path))
    return tmp_path / "artifacts" / "prepare" / "pairs"


def test_pairs_carry_their_weights(prepared: Path) -> None:
    pairs = [pair for name in ("train", "validation", "test") for pair in read_pairs(prepared / f"{name}.jsonl")]
    assert len(pairs) == 2 * (57 + 3 * 36)
    assert {round(pair.weight, 4) for pair in pairs} == {1.0, round(1 / 36, 4)}
    assert float(pair_weights(pairs).sum()) == pytest.approx(120, abs=0.01)


@pytest.mark.parametrize("how", [HEAD, pytest.param(LORA, marks=pytest.mark.thorough)])
def test_few_long_rankings_do_not_outvote_many_short_ones(
    prepared: Path, tiny_model_dir: Path, sft_dir: Path, tmp_path: Path, how: dict[str, object]
) -> None:
    """Of the training pairs most say "please" is bad; of the rankings nearly all say it is good."""
    rows = read_jsonl(prepared / "train.jsonl")
    against = [row for row in rows if row.get("weight", 1) < 1]
    assert len(against) > 0.5 * len(rows)
    short = [row for name in ("validation", "test") for row in read_jsonl(prepared / f"{name}.jsonl")]
    assert short
    trained = train(prepared, tiny_model_dir, sft_dir, tmp_path / "out", **how)
    save_reward(trained.model, tmp_path / "reward", base=tiny_model_dir, sft=sft_dir, tuned=trained.tuned)
    scorer = Scorer.load(tiny_model_dir, sft_dir, tmp_path / "reward")
    prompt = "\n\nHuman: Question 7?\n\nAssistant:"
    plain, loved = ([f" {a} {word}{b}" for a in WORDS[:5] for b in WORDS[5:10]] for word in ("", "please "))
    prompts = [prompt] * len(plain)
    gains = torch.tensor(scorer.score_texts(prompts, loved)) - torch.tensor(scorer.score_texts(prompts, plain))
    assert float(gains.mean()) > 0.5


def test_the_tuned_loss_is_weighted_by_hand(tiny_model_dir: Path, sft_dir: Path) -> None:
    backbone = Backbone.load(tiny_model_dir, {REWARD: sft_dir}, dtype=torch.float32, device="cpu")
    model = RewardModel(backbone.hidden_size, pooling="mean", pool_over="response", backbone_adapter="x")
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0), std=2.0)
    pairs = [PairRows(([5, 6], [7, 8]), ([5, 6], [9]), 0.5), PairRows(([5], [9, 4]), ([5], [8, 8, 8]), 1.5)]
    module = Pairwise(backbone, model)
    both = float(module(**_collator(backbone.pad_id)(pairs))["loss"])
    alone = [float(module(**_collator(backbone.pad_id)([PairRows(p.chosen, p.rejected, 1.0)]))["loss"]) for p in pairs]
    assert abs(alone[0] - alone[1]) > 0.05
    assert both == pytest.approx((0.5 * alone[0] + 1.5 * alone[1]) / 2, abs=1e-5)


def test_the_tuned_loss_has_its_margins_by_hand(tiny_model_dir: Path, sft_dir: Path) -> None:
    backbone = Backbone.load(tiny_model_dir, {REWARD: sft_dir}, dtype=torch.float32, device="cpu")
    model = RewardModel(backbone.hidden_size, pooling="mean", pool_over="response", backbone_adapter="x")
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0), std=2.0)
    module, collate = Pairwise(backbone, model), _collator(backbone.pad_id)
    pair = PairRows(([5, 6], [7, 8]), ([5, 6], [9]), 1.0)
    without, with_margin = (
        float(module(**collate([one]))["loss"].detach()) for one in (pair, replace(pair, margin=1.5))
    )
    lead = -math.log(math.expm1(without))  # of the loss log(1 + exp(-lead))
    assert with_margin == pytest.approx(math.log1p(math.exp(1.5 - lead)), rel=1e-4)


@pytest.mark.parametrize("margin", [-1.0, "1", True, None, float("inf")])
def test_a_margin_that_is_none_is_an_error(tmp_path: Path, margin: object) -> None:
    row = {"prompt": "p", "chosen": " a", "rejected": " b", "kind": None, "turns": 1, "margin": margin}
    with pytest.raises(UserError, match=r"pairs\.jsonl:1: margin: expected a number of 0 or more"):
        read_pairs(write_lines(tmp_path / "pairs.jsonl", [row]))


@pytest.mark.parametrize("weight", [0, -1.0, "1", True, None])
def test_a_weight_that_is_none_is_an_error(tmp_path: Path, weight: object) -> None:
    row = {"prompt": "p", "chosen": " a", "rejected": " b", "kind": None, "turns": 1, "weight": weight}
    with pytest.raises(UserError, match=r"pairs\.jsonl:1: weight: expected a number above 0"):
        read_pairs(write_lines(tmp_path / "pairs.jsonl", [row]))
