"""Soft targets: what several annotators say together is the probability that the loss goes for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rlhf.core.errors import UserError
from rlhf.models.policy.backbone import Backbone
from rlhf.models.reward.reward_model import RewardModel
from rlhf.models.reward.scoring import REWARD, Scorer
from rlhf.reward.fit import Weights, fit_head, pair_loss
from rlhf.reward.lora_trainer import PairRows, Pairwise, _collator
from rlhf.reward.pairs import TextPair, pair_targets, read_pairs
from tests.reward.test_fit import problem, settings_of
from tests.reward.test_pairs import ROW, write


def test_the_loss_by_hand() -> None:
    # leads 2, 0, -1 with targets 1, .5, .75 (softplus(-2) = .126928, log 2 = .693147, softplus(1) = 1.313262 and
    # softplus(-1) = .313262): .126928, .693147, .75 * 1.313262 + .25 * .313262 = 1.063262
    leads, targets = torch.tensor([2.0, 0.0, -1.0]).double(), torch.tensor([1.0, 0.5, 0.75]).double()
    assert float(pair_loss(leads, targets=targets)) == pytest.approx((0.126928 + 0.693147 + 1.063262) / 3, abs=1e-6)
    weights, margins = torch.tensor([3.0, 0.0, 0.0]).double(), torch.tensor([1.0, 0.0, 0.0]).double()
    assert float(pair_loss(leads, weights, margins, targets)) == pytest.approx(0.313262, abs=1e-6)
    tie = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    pair_loss(tie, targets=torch.tensor([0.5]).double()).backward()
    assert tie.grad is not None
    assert float(tie.grad) == pytest.approx(1 / (1 + np.exp(-0.3)) - 0.5)


def soft_newton(features: torch.Tensor, targets: np.ndarray, decay: float) -> np.ndarray:
    """argmin of the mean of t log(1 + exp(-w·d)) + (1 - t) log(1 + exp(w·d)), and decay/2 |w|², by Newton's method."""
    d = (features[:, 0].double() - features[:, 1].double()).numpy()
    w = np.zeros(d.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-d @ w))
        hessian = (d.T * (p * (1 - p))) @ d / len(d) + decay * np.eye(len(w))
        w -= np.linalg.solve(hessian, (d * (p - targets)[:, None]).mean(0) + decay * w)
    return w


def test_a_head_agrees_with_regression_on_probabilities() -> None:
    train = problem(300, 5, seed=0)
    targets = np.random.default_rng(1).choice([0.5, 2 / 3, 0.9, 1.0], 300)
    ones, soft = torch.ones(300), torch.tensor(targets)
    of = Weights(ones, ones, train_targets=soft, validation_targets=soft)
    fit = fit_head(train, train, settings_of(epochs=800, batch_size=300, weight_decay=0.0), seed=0, weights=of)
    np.testing.assert_allclose(fit.head.weight.numpy(), soft_newton(train, targets, 0.0), atol=1e-4)


def test_targets_of_one_train_as_without_them() -> None:
    train, ones = problem(100, 5, seed=0), torch.ones(100)
    soft_ones = Weights(ones, ones, None, None, ones.double(), ones.double())
    settings = settings_of(epochs=3, batch_size=30)
    plain, soft = (fit_head(train, train, settings, seed=0, weights=of) for of in (Weights(ones, ones), soft_ones))
    assert torch.equal(plain.head.weight, soft.head.weight)
    assert plain.curve == soft.curve


def test_targets_follow_the_pairs_that_are_drawn() -> None:
    targets = torch.tensor([0.5, 0.6, 0.7])
    drawn = Weights(torch.ones(3), torch.ones(3), train_targets=targets).drawn(torch.tensor([2, 0]))
    assert drawn.train_targets is not None
    assert drawn.train_targets.tolist() == pytest.approx([0.7, 0.5])


def test_pairs_carry_their_targets(tmp_path: Path) -> None:
    rows = [ROW, ROW | {"target": 0.5, "labelled_by": "people"}]
    pairs = read_pairs(write(tmp_path / "train.jsonl", *rows))
    assert [(pair.target, pair.labelled_by) for pair in pairs] == [(1.0, None), (0.5, "people")]
    found = pair_targets(pairs)
    assert found is not None
    assert found.tolist() == [1.0, 0.5]
    assert pair_targets(pairs[:1]) is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"target": 0.4}, r":2: target: expected a number from 0.5 to 1, found 0.4"),
        ({"target": True}, r":2: target: .* found True"),
        ({"target": "1"}, r":2: target: .* found '1'"),
        ({"target": float("nan")}, r":2: target: .* found nan"),
        ({"target": 0.9, "margin": 1.0}, r":2: margin: found 1 beside a target of 0.9; one of them only"),
    ],
)
def test_a_bad_target_is_named(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + json.dumps(ROW | row) + "\n")
    with pytest.raises(UserError, match=message):
        read_pairs(path)


def test_a_tuned_backbone_learns_from_targets(tiny_model_dir: Path, sft_dir: Path) -> None:
    backbone = Backbone.load(tiny_model_dir, {REWARD: sft_dir}, dtype=torch.float32, device="cpu")
    model = RewardModel(backbone.hidden_size, pooling="mean", pool_over="sequence", backbone_adapter="x")
    torch.nn.init.normal_(model.head.weight)
    texts = [TextPair("Hi", " yes yes", " no", None, 1), TextPair("Ho", " maybe", " never", None, 1, target=0.6)]
    encode = lambda text: backbone.tokenizer(text)["input_ids"]  # noqa: E731 - used twice below
    rows = [PairRows((encode(p.prompt), encode(p.chosen)), (encode(p.prompt), encode(p.rejected)), 1.0, 0.0, p.target) for p in texts]  # fmt: skip # noqa: E501
    batch = _collator(backbone.pad_id)(rows)
    loss = float(Pairwise(backbone, model)(**batch)["loss"])
    scores = Scorer(backbone, model, REWARD).score_rows([side for row in rows for side in (row.chosen, row.rejected)], batch_tokens=100)  # fmt: skip # noqa: E501
    leads = [scores[0] - scores[1], scores[2] - scores[3]]
    by_hand = np.log1p(np.exp(-leads[0])) + 0.6 * np.log1p(np.exp(-leads[1])) + 0.4 * np.log1p(np.exp(leads[1]))
    assert loss == pytest.approx(by_hand / 2, rel=1e-4)
    assert "targets" not in _collator(backbone.pad_id)(rows[:1])
