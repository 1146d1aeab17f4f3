"""Scores and token rewards against published numbers and numbers worked by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.ppo.kl import ESTIMATORS, k1, k3
from rlhf.ppo.rewards import effective_scores, last_token, token_rewards, whiten_rewards


def test_published_token_rewards() -> None:
    # pytorch/torchtune@bd2a0fc7c314 tests/torchtune/rlhf/test_rewards.py (BSD-3), restated as numbers.
    logprobs = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.6, 0.7, 0.8]])
    reference = torch.tensor([[0.2, 0.3, 0.4], [0.6, 0.7, 0.8], [0.9, 1.0, 1.1]])
    found = token_rewards(torch.tensor([1.0, 2, 3]), 0.5 * k1(logprobs, reference), torch.ones(3, 3, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[0.05, 0.05, 1.05], [0.1, 0.1, 2.1], [0.15, 0.15, 3.15]]))


def test_the_score_lands_on_the_last_real_token() -> None:
    mask = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    assert last_token(mask).tolist() == [[False, True, False], [True, False, False], [False, False, True]]
    penalties = torch.tensor([[0.05, 0.0, -0.8], [0.0, -0.8, -0.8], [0.0, 0.2, -0.05]])  # in the padding: never read
    found = token_rewards(torch.tensor([1.0, -2.0, 3.0]), penalties, mask)
    expected = torch.tensor([[-0.05, 1.0, 0.0], [-2.0, 0.0, 0.0], [0.0, -0.2, 3.05]])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("estimator", "penalty"), [("k1", -0.5), ("k2", 0.125), ("k3", math.exp(0.5) - 1.5)])
def test_each_estimator(estimator: str, penalty: float) -> None:
    # log p - log q = -0.5; the sign of the penalty is minus
    estimate = ESTIMATORS[estimator](torch.tensor([[-2.0, -2.0]]), torch.tensor([[-1.5, -2.0]]))  # type: ignore[index]
    found = token_rewards(torch.tensor([0.0]), 2.0 * estimate, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found, torch.tensor([[-2.0 * penalty, 0.0]]))


SCORES, ENDED = torch.tensor([2.0, -2.0, 9.0, 0.5, -0.5]), torch.tensor([True, True, True, False, False])


@pytest.mark.parametrize(
    ("rule", "clip", "expected"),
    [
        ("keep", None, [2.0, -2.0, 9.0, 0.5, -0.5]),
        ("keep", 1.5, [1.5, -1.5, 1.5, 0.5, -0.5]),
        ("replace", 5.0, [2.0, -2.0, 5.0, -1.0, -1.0]),
        ("cap", 5.0, [2.0, -2.0, 5.0, -1.0, -1.5]),
    ],
)
def test_clipping_and_the_eos_rule(rule: str, clip: float | None, expected: list[float]) -> None:
    found = effective_scores(SCORES, ENDED, clip=clip, missing_eos=rule, penalty=1.0)  # type: ignore[arg-type]
    assert found.tolist() == pytest.approx(expected)


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=8), st.floats(0, 3))
def test_being_cut_off_never_pays(values: list[float], penalty: float) -> None:
    scores = torch.tensor(values)
    cut = torch.zeros(len(values), dtype=torch.bool)
    for rule in ("replace", "cap"):
        found = effective_scores(scores, cut, clip=None, missing_eos=rule, penalty=penalty)  # type: ignore[arg-type]
        assert (found <= -penalty + 1e-6).all()


def test_nan_scores_are_not_hidden_by_clipping() -> None:
    found = effective_scores(
        torch.tensor([math.nan, 1.0]), torch.tensor([True, False]), clip=5.0, missing_eos="cap", penalty=1.0
    )
    assert math.isnan(found[0].item())


def test_whitened_rewards_keep_their_mean() -> None:
    rewards, mask = torch.tensor([[1.0, 3.0, 99.0], [5.0, 7.0, 4.0]]), torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    found = whiten_rewards(rewards, mask)
    # real rewards 1 3 5 7 4: mean 4, deviations -3 -1 1 3 0, biased variance 20 / 5 = 4
    torch.testing.assert_close(found, torch.tensor([[2.5, 3.5, 0.0], [4.5, 5.5, 4.0]]))


@given(st.integers(1, 5), st.integers(0, 2**31))
def test_padding_changes_nothing(extra: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 5, (4,), generator=generator)
    mask = torch.arange(4) < lengths[:, None]
    logprobs, reference = torch.randn(2, 4, 4, generator=generator)
    scores = torch.randn(4, generator=generator)

    def rewards(width: int) -> torch.Tensor:
        wide = [torch.nn.functional.pad(x, (0, width), value=math.nan) for x in (logprobs, reference)]
        padded = torch.nn.functional.pad(mask, (0, width))
        return token_rewards(scores, 0.3 * k3(wide[0], wide[1]), padded)

    torch.testing.assert_close(rewards(extra)[:, :4], rewards(0))
    assert (rewards(extra)[:, 4:] == 0).all()
