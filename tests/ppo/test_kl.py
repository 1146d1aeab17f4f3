"""The KL estimators against published numbers, numbers worked by hand and exact expectations."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.ppo.kl import k1, k2, k3

# huggingface/trl v0.11.4 (714cd42f67cb) tests/test_ppo_trainer.py, test_ppo_trainer_kl_penalty, restated as numbers.
LOGPROBS = torch.tensor([[0.5, 0.2, 0.1], [0.6, 0.2, 0.1]])
REFERENCE = torch.tensor([[0.4, 0.3, 0.0], [0.7, 0.1, 0.3]])


def test_published_k1_and_k2() -> None:
    torch.testing.assert_close(k1(LOGPROBS, REFERENCE), torch.tensor([[0.1, -0.1, 0.1], [-0.1, 0.1, -0.2]]))
    torch.testing.assert_close(k2(LOGPROBS, REFERENCE), torch.tensor([[0.005, 0.005, 0.005], [0.005, 0.005, 0.02]]))


def test_k3_by_hand() -> None:
    # r = q / p = 1/2 and 2: (r - 1) - log r
    found = k3(torch.log(torch.tensor([0.5, 0.25])), torch.log(torch.tensor([0.25, 0.5])))
    assert found.tolist() == pytest.approx([-0.5 + math.log(2), 1 - math.log(2)], abs=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=6), st.lists(st.floats(0.01, 1), min_size=6, max_size=6))
def test_expectations_over_the_whole_distribution(p: list[float], q: list[float]) -> None:
    """k1 and k3 are unbiased: summed over every outcome with its probability they give the true KL."""
    p = [x / sum(p) for x in p]
    q = [x / sum(q[: len(p)]) for x in q[: len(p)]]
    true = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    log_p, log_q = torch.tensor(p, dtype=torch.float64).log(), torch.tensor(q, dtype=torch.float64).log()
    weights = log_p.exp()
    assert (weights * k1(log_p, log_q)).sum().item() == pytest.approx(true, abs=1e-9)
    assert (weights * k3(log_p, log_q)).sum().item() == pytest.approx(true, abs=1e-9)
    assert (k3(log_p, log_q) >= 0).all()
    assert (k2(log_p, log_q) >= 0).all()


def test_k3_keeps_its_digits_where_policies_are_close() -> None:
    # For a small log ratio x, k3 = x^2/2 + x^3/6 + ...; exp(x) - 1 - x in float32 would give 0 or 6e-8.
    assert k3(torch.tensor(1e-5), torch.tensor(0.0)).item() >= 0
    assert k3(torch.tensor(-2.0), torch.tensor(-2.001)).item() == pytest.approx(5e-7, rel=1e-2)
