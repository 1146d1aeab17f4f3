import pytest
import torch
from torch import tensor

from rlhf.offline.rrhf import rrhf_loss

ALL = torch.ones(1, 3, 2, dtype=torch.bool)


def loss(logprobs: list[list[float]], scores: list[float], sft_coef: float, mask: torch.Tensor = ALL) -> float:
    found = rrhf_loss(tensor([logprobs]), mask, tensor([scores]), sft_coef=sft_coef)
    assert found.shape == (1,)
    return float(found)


def test_the_ranking_by_hand() -> None:
    """Mean logprobs -1, -2, -4. The worst response is the likeliest: it loses 1 to the middle one and 3 to the best,
    and the middle one 2 to the best: 6."""
    logprobs = [[-0.5, -1.5], [-2.0, -2.0], [-3.0, -5.0]]
    assert loss(logprobs, [0.0, 1.0, 2.0], 0.0) == pytest.approx(6.0)
    assert loss(logprobs, [2.0, 1.0, 0.0], 0.0) == 0  # as they should be
    assert loss(logprobs, [1.0, 1.0, 1.0], 0.0) == 0  # equal rewards ask for nothing
    assert loss(logprobs, [1.0, 2.0, 1.0], 0.0) == pytest.approx(1.0)  # only the first is too likely, by 1


def test_the_best_response_is_learnt_as_well() -> None:
    logprobs = [[-0.5, -1.5], [-2.0, -2.0], [-3.0, -5.0]]
    assert loss(logprobs, [2.0, 1.0, 0.0], 1.0) == pytest.approx(1.0)
    assert loss(logprobs, [0.0, 1.0, 2.0], 0.5) == pytest.approx(6.0 + 0.5 * 4.0)


def test_likelihoods_are_means_over_real_tokens() -> None:
    mask = ALL.clone()
    mask[0, 2, 1] = False
    logprobs = [[-0.5, -1.5], [-2.0, -2.0], [-3.0, 0.0]]
    assert loss(logprobs, [0.0, 1.0, 2.0], 1.0, mask) == pytest.approx((1 + 2 + 1) + 3.0)


def test_gradients_raise_the_better_and_lower_the_worse() -> None:
    logprobs = tensor([[[-1.0, -1.0], [-2.0, -2.0]]], requires_grad=True)
    rrhf_loss(logprobs, ALL[:, :2], tensor([[0.0, 1.0]]), sft_coef=0.0).sum().backward()
    assert torch.equal(logprobs.grad, tensor([[[0.5, 0.5], [-0.5, -0.5]]]))  # of the loss: a step goes the other way
