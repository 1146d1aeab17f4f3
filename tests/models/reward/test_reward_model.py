"""Pooling, heads, corrections and scores worked by hand; saved and loaded models score the same."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf.core.errors import UserError
from rlhf.models.reward.ensemble import Ensemble
from rlhf.models.reward.length_correction import LengthCorrection
from rlhf.models.reward.reward_model import RewardModel, logprob_features
from rlhf.models.text.tokens import Episodes

# Two episodes: real tokens at 1..3 (response 2..3) and 0..2 (response 2 only); P = 2, R = 2, D = 1.
EPISODES = Episodes.of([[5], [5, 5]], [[6, 6], [6]], pad_id=0, device="cpu")
HIDDEN = torch.tensor([[100.0, 1, 2, 6], [4, 5, 9, 100]]).unsqueeze(-1)


def make(**changes: Any) -> RewardModel:
    return RewardModel(
        **{"hidden_size": 1, "pooling": "mean", "pool_over": "sequence", "backbone_adapter": "artifacts/sft", **changes}
    )


@pytest.mark.parametrize(
    ("pooling", "pool_over", "expected"),
    [
        ("mean", "sequence", [3.0, 6.0]),
        ("mean", "response", [4.0, 9.0]),
        ("last", "sequence", [6.0, 9.0]),
        ("last", "response", [6.0, 9.0]),
    ],
)
def test_pooling_by_hand(pooling: str, pool_over: str, expected: list[float]) -> None:
    features = make(pooling=pooling, pool_over=pool_over).pool(HIDDEN, EPISODES)
    torch.testing.assert_close(features, torch.tensor(expected).unsqueeze(-1))


def test_attention_weighs_tokens_by_a_softmax(tmp_path: Path) -> None:
    model = make(pooling="attention", pool_over="response")
    torch.testing.assert_close(model.pool(HIDDEN, EPISODES), torch.tensor([[4.0], [9.0]]))  # query 0: the mean
    assert model.query is not None
    with torch.no_grad():
        model.query.fill_(math.log(3) / 4)  # the states 2 and 6 weigh 1 to 3
        model.head.weight.fill_(1.0)
    torch.testing.assert_close(model.pool(HIDDEN, EPISODES), torch.tensor([[5.0], [9.0]]))
    empty = Episodes.of([[5, 5]], [[]], pad_id=0, device="cpu")
    assert model.pool(torch.ones(1, 2, 1), empty).tolist() == [[0.0]]
    model.save(tmp_path)
    assert RewardModel.load(tmp_path).score(HIDDEN, EPISODES).tolist() == model.score(HIDDEN, EPISODES).tolist()


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("mean", (2 + 3 + 7) / 3), ("worst", 2.0), ("uncertainty", 4.0 - 0.5 * (4 + 1 + 9) / 3)],
)
def test_several_heads_by_hand(aggregate: Any, expected: float, tmp_path: Path) -> None:
    """Heads 2x - 4, x, 3x - 2 at x = 3 give 2, 3, 7: mean 4, variance 14 / 3."""
    model = make(ensemble=Ensemble(3, aggregate, 0.5), mean=1.0, std=2.0)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[2.0], [1.0], [3.0]]))
        model.head.bias.copy_(torch.tensor([-4.0, 0.0, -2.0]))
    model.save(tmp_path)
    for one in (model, RewardModel.load(tmp_path)):
        assert one.score(HIDDEN, EPISODES)[0].item() == pytest.approx((expected - 1) / 2, abs=1e-6)


def test_logprob_features_by_hand() -> None:
    logprobs, mask = (
        torch.tensor([[-1.0, -3.0, 0.0], [0.0, 0.0, 0.0]]),
        torch.tensor([[True, True, False], [False] * 3]),
    )
    assert logprob_features(logprobs, mask).tolist() == [[-2.0, -3.0, pytest.approx(-0.4)], [0.0, 0.0, 0.0]]


def test_a_correction_comes_before_the_scale_and_is_saved(tmp_path: Path) -> None:
    """Raw score 2x - 1 at x = 3 and 6, responses of 2 tokens and of 1."""
    for correction, expected in (
        (LengthCorrection("sqrt"), [5 / math.sqrt(2), 11.0]),
        (LengthCorrection("regression", 1 / 3, 0.25), [5 - 2 / 3 - 0.25, 11 - 1 / 3 - 0.25]),
    ):
        model = make(correction=correction, mean=1.0, std=2.0)
        with torch.no_grad():
            model.head.weight.fill_(2.0)
            model.head.bias.fill_(-1.0)
        assert model.score(HIDDEN, EPISODES).tolist() == pytest.approx([(value - 1) / 2 for value in expected])
        assert not model.is_plain
        model.save(tmp_path)
        loaded = RewardModel.load(tmp_path)
        assert loaded.correction == correction  # to the last digit
        assert loaded.score(HIDDEN, EPISODES).tolist() == model.score(HIDDEN, EPISODES).tolist()


def test_hidden_states_alone_are_refused_where_logprobs_are_read(tmp_path: Path) -> None:
    model = make(logprobs=True, head_units=3)
    assert model.feature_size == 4
    with pytest.raises(ValueError, match="logprobs"):
        model.score(HIDDEN, EPISODES)
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path)
    assert (loaded.logprobs, loaded.head_units, loaded.hidden_size) == (True, 3, 1)


def test_an_empty_response_pools_to_zero_not_nan() -> None:
    empty = Episodes.of([[5, 5]], [[]], pad_id=0, device="cpu")
    for pooling in ("mean", "last"):
        assert make(pooling=pooling, pool_over="response").pool(torch.ones(1, 2, 1), empty).tolist() == [[0.0]]


def test_scores_are_normalised_and_come_back(tmp_path: Path) -> None:
    model = make(mean=1.0 / 3.0, std=0.1)
    with torch.no_grad():
        model.head.weight.fill_(2.0)
        model.head.bias.fill_(-1.0)
    expected = torch.tensor([(2 * 3 - 1 - 1 / 3) / 0.1, (2 * 6 - 1 - 1 / 3) / 0.1])
    torch.testing.assert_close(model.score(HIDDEN, EPISODES), expected)
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path, hidden_size=1, adapter="artifacts/sft")
    assert torch.equal(loaded.score(HIDDEN, EPISODES), model.score(HIDDEN, EPISODES))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert (loaded.pooling, loaded.pool_over, loaded.mean) == ("mean", "sequence", 1.0 / 3.0)


def test_another_backbone_is_refused(tmp_path: Path) -> None:
    make().save(tmp_path)
    with pytest.raises(UserError, match="hidden_size is 1, the backbone's is 2"):
        RewardModel.load(tmp_path, hidden_size=2)
    with pytest.raises(UserError, match="adapter is 'artifacts/sft', the backbone's is 'elsewhere'"):
        RewardModel.load(tmp_path, adapter="elsewhere")
    with pytest.raises(UserError, match="fitted on 1 features, the backbone has 3"):
        make().pool(torch.zeros(2, 4, 3), EPISODES)
    (tmp_path / "head.safetensors").unlink()
    with pytest.raises(UserError, match=r"no head\.safetensors"):
        RewardModel.load(tmp_path)


def test_features_may_be_on_another_device_than_the_head() -> None:
    """As in the reward stage on a GPU: features come from it, the head that was fitted is on the CPU.

    Fake tensors know devices and shapes only, and refuse to mix devices, without a GPU.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    model = make()
    with FakeTensorMode(allow_non_fake_inputs=True):
        features = torch.randn(2, 1, device="cuda")
        with pytest.raises(RuntimeError, match="device"):
            model.head(features)
        assert model.score_features(features, torch.ones(2)).device.type == "cpu"
