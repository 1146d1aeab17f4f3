"""Generalised advantage estimation against the definition, published numbers and numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlhf.ppo.advantages import estimate_advantages, explained_variance


def everything(shape: tuple[int, int]) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)


def definition(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """A_t = (1 - lam) sum_n lam^(n-1) A_t^(n) of n-step advantages (arXiv 1506.02438, eq. 11-16), episode of finite
    length: beyond the end all rewards and values are 0. Quadratic in time, written from the definition."""
    n = len(rewards)

    def n_step(t: int, steps: int) -> float:
        total = sum(gamma**k * rewards[t + k] for k in range(min(steps, n - t)))
        bootstrap = gamma**steps * values[t + steps] if t + steps < n else 0.0
        return total + bootstrap - values[t]

    result = []
    for t in range(n):
        left = n - t
        weighted = (1 - lam) * sum(lam ** (k - 1) * n_step(t, k) for k in range(1, left))
        result.append(weighted + lam ** (left - 1) * n_step(t, left))
    return result


def test_published_returns() -> None:
    # pytorch/torchtune@bd2a0fc7c314, same file as token rewards: g = .9, l = .95, returns [g^3 l^2, g^2 l, g, 1].
    found = estimate_advantages(
        torch.tensor([[0.0, 0, 0, 1]]),
        torch.tensor([[0.0, 0, 0, 1]]),
        everything((1, 4)),
        gamma=0.9,
        lam=0.95,
        whitened=False,
    )
    torch.testing.assert_close(found.returns, torch.tensor([[0.6579225, 0.7695, 0.9, 1.0]]))


def test_by_hand() -> None:
    # gamma 1/2, lambda 1/2. Row 1: deltas 1 + 2 - 2 = 1, 0 + 1 - 4 = -3, 2 + 0 - 2 = 0; A = 1 + (-3)/4, -3, 0.
    # Row 2 has two tokens: deltas 0 + 0 - 0, 4 - 0 = 4; A = 0 + 4/4, 4.
    found = estimate_advantages(
        torch.tensor([[1.0, 0, 2], [0.0, 4, 50]]),
        torch.tensor([[2.0, 4, 2], [0.0, 0, 70]]),
        torch.tensor([[True, True, True], [True, True, False]]),
        gamma=0.5,
        lam=0.5,
        whitened=False,
    )
    torch.testing.assert_close(found.advantages, torch.tensor([[0.25, -3.0, 0.0], [1.0, 4.0, 0.0]]))
    torch.testing.assert_close(found.returns, torch.tensor([[2.25, 1.0, 2.0], [1.0, 4.0, 0.0]]))
    torch.testing.assert_close(found.rewards, torch.tensor([[1.0, 0, 2], [0.0, 4, 0]]))


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1.0, 0.97, 0.5, 0.0]), st.sampled_from([1.0, 0.95, 0.3, 0.0]))
def test_against_the_definition_with_padding(seed: int, gamma: float, lam: float) -> None:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 7, size=4)
    rewards, values = generator.normal(size=(2, 4, 7))
    mask = np.arange(7) < lengths[:, None]
    junk = np.where(mask, 0, math.nan)  # what stands in the padding is never read
    found = estimate_advantages(
        torch.tensor(rewards + junk),
        torch.tensor(values + junk),
        torch.tensor(mask),
        gamma=gamma,
        lam=lam,
        whitened=False,
    )
    for row, n in enumerate(lengths):
        expected = definition(rewards[row, :n].tolist(), values[row, :n].tolist(), gamma, lam)
        assert found.advantages[row, :n].tolist() == pytest.approx(expected, abs=1e-9)
        assert found.returns[row, :n].tolist() == pytest.approx(expected + values[row, :n], abs=1e-9)
        assert found.advantages[row, n:].tolist() == [0.0] * (7 - n)
        assert found.returns[row, n:].tolist() == [0.0] * (7 - n)


def test_whitening_is_over_real_tokens_and_leaves_returns_alone() -> None:
    rewards, mask = torch.tensor([[1.0, 2.0], [6.0, 99.0]]), torch.tensor([[True, True], [True, False]])
    values = torch.zeros(2, 2)
    plain = estimate_advantages(rewards, values, mask, gamma=1.0, lam=0.0, whitened=False)
    found = estimate_advantages(rewards, values, mask, gamma=1.0, lam=0.0, whitened=True)
    numbers = np.array([1.0, 2.0, 6.0])
    expected = (numbers - 3) / numbers.std()  # numpy's std is the biased one
    assert found.advantages[mask].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert found.advantages[1, 1].item() == 0.0
    torch.testing.assert_close(found.returns, plain.returns)


def test_permuting_episodes_permutes_results() -> None:
    generator = torch.Generator().manual_seed(3)
    rewards, values = torch.randn(2, 5, 6, generator=generator)
    mask = torch.arange(6) < torch.tensor([6, 1, 3, 5, 2])[:, None]
    order = torch.tensor([3, 0, 4, 1, 2])
    whole = estimate_advantages(rewards, values, mask, gamma=0.9, lam=0.8, whitened=True)
    moved = estimate_advantages(rewards[order], values[order], mask[order], gamma=0.9, lam=0.8, whitened=True)
    torch.testing.assert_close(moved.advantages, whole.advantages[order])
    torch.testing.assert_close(moved.returns, whole.returns[order])


def test_explained_variance() -> None:
    returns, mask = torch.tensor([[1.0, 2.0, 3.0, 77.0]]), torch.tensor([[True, True, True, False]])
    assert explained_variance(returns, returns, mask).item() == pytest.approx(1)
    assert explained_variance(torch.full_like(returns, 5.0), returns, mask).item() == pytest.approx(0)
    # values 3 2 1: errors -2 0 2, variance 8/3 against 2/3: 1 - 4
    assert explained_variance(torch.tensor([[3.0, 2, 1, 0]]), returns, mask).item() == pytest.approx(-3)
    assert not math.isfinite(explained_variance(returns, torch.ones(1, 4), mask).item())
