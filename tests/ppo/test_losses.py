"""Every branch of the clipped losses, with gradients, against published numbers and numbers worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlhf.ppo.losses import approx_kl, clip_fraction, policy_loss, ratio_gap, value_loss

ONE = torch.ones(1, 1, dtype=torch.bool)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_first_step_follows_the_policy_gradient() -> None:
    old, advantages = normal(0, 2, 3, 5)
    logprobs, mask = old.clone().requires_grad_(), torch.ones(3, 5).bool()
    loss = policy_loss(logprobs, old_logprobs=old, advantages=advantages, mask=mask, clip_ratio=0.2)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    torch.testing.assert_close(gradient, -advantages / 15)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "loss", "clipped"),
    [
        # pytorch/torchtune test_ppo_loss.py: the numbers in its comments, right for -min(r A, clip(r) A), eps .2
        (1.0, 1.0, -1.2, True),
        (-1.0, 1.0, -0.36787944, False),
        (0.1, 1.0, -1.10517092, False),
        # the other sign, by hand: a bad token is pushed down until the ratio is .8, and without limit above 1
        (1.0, -1.0, math.e, False),
        (-1.0, -1.0, 0.8, True),
        (-0.1, -1.0, math.exp(-0.1), False),
        (0.0, 2.0, -2.0, False),
        (1.0, 0.0, 0.0, False),
    ],
)
def test_every_branch(log_ratio: float, advantage: float, loss: float, clipped: bool) -> None:
    logprobs = torch.tensor([[log_ratio - 2.0]], requires_grad=True)
    args = {"old_logprobs": torch.tensor([[-2.0]]), "advantages": torch.tensor([[advantage]]), "mask": ONE}
    found = policy_loss(logprobs, **args, clip_ratio=0.2)
    assert found.item() == pytest.approx(loss, abs=1e-5)
    (gradient,) = torch.autograd.grad(found, logprobs)
    assert gradient.item() == pytest.approx(0.0 if clipped else -advantage * math.exp(log_ratio), abs=1e-5)
    assert clip_fraction(logprobs, **args, clip_ratio=0.2).item() == float(clipped)


@pytest.mark.parametrize(
    ("value", "old", "target", "expected", "gradient"),
    [
        (1.0, 0.9, 2.0, 0.5, -1.0),  # within the clip: plain
        (1.5, 1.0, 2.0, 0.32, 0.0),  # clipped to 1.2: (1.2 - 2)^2 / 2 is the larger, no gradient
        (1.5, 1.0, 1.0, 0.125, 0.5),  # clipped to 1.2 would be nearer: the unclipped error counts
        (0.0, 1.0, 1.0, 0.5, -1.0),  # below: clipped to .8, error .04 < 1
        (0.5, 1.0, 0.0, 0.32, 0.0),  # moved towards its target too fast: kept at .8
    ],
)
def test_value_loss_branches(value: float, old: float, target: float, expected: float, gradient: float) -> None:
    values = torch.tensor([[value]], requires_grad=True)
    args = {"old_values": torch.tensor([[old]]), "returns": torch.tensor([[target]]), "mask": ONE}
    found = value_loss(values, **args, clip=0.2)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    assert torch.autograd.grad(found, values)[0].item() == pytest.approx(gradient, abs=1e-6)


def test_value_loss_without_clipping() -> None:
    found = value_loss(
        torch.tensor([[3.0, 1.0]]),
        old_values=torch.tensor([[-50.0, 50.0]]),
        returns=torch.tensor([[1.0, 2.0]]),
        mask=torch.ones(1, 2).bool(),
        clip=None,
    )
    assert found.item() == pytest.approx((4 + 1) / 2 / 2)


def test_approx_kl_and_ratio_gap_by_hand() -> None:
    old, new = torch.tensor([[-1.0, -2.0, 9.0]]), torch.tensor([[-1.0, -2.0 + math.log(1.5), 0.0]])
    mask = torch.tensor([[True, True, False]])
    expected = (0.5 - math.log(1.5)) / 2  # k3 with r = 1.5 on one of two tokens
    assert approx_kl(new, old_logprobs=old, mask=mask).item() == pytest.approx(expected, abs=1e-6)
    assert ratio_gap(new, old_logprobs=old, mask=mask).item() == pytest.approx(0.5, abs=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.sampled_from([math.nan, math.inf, 1e30, -1e30]))
def test_padding_never_matters(seed: int, extra: int, junk: float) -> None:
    new, old, adv, values, before, returns = normal(seed, 6, 3, 4)
    mask = torch.arange(4) < torch.tensor([4, 1, 2])[:, None]

    def run(width: int) -> tuple[list[Tensor], Tensor]:
        def wide(x: Tensor) -> Tensor:
            inner = torch.where(mask, x, junk) if width else x
            return torch.nn.functional.pad(inner, (0, width), value=junk)

        m = torch.nn.functional.pad(mask, (0, width))
        v, logprobs = wide(values).requires_grad_(), wide(new).requires_grad_()
        args = {"old_logprobs": wide(old), "advantages": wide(adv), "mask": m}
        losses = [
            policy_loss(logprobs, **args, clip_ratio=0.2),
            value_loss(v, old_values=wide(before), returns=wide(returns), mask=m, clip=0.2),
        ]
        gradients = torch.autograd.grad(sum(losses), (logprobs, v))
        others = [
            clip_fraction(logprobs, **args, clip_ratio=0.2),
            approx_kl(logprobs, old_logprobs=wide(old), mask=m),
            ratio_gap(logprobs, old_logprobs=wide(old), mask=m),
        ]
        return [*losses, *others], torch.stack(gradients)

    plain, gradients = run(0)
    padded, wide_gradients = run(extra)
    for a, b in zip(plain, padded, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(wide_gradients[:, :, :4], gradients)
    assert (wide_gradients[:, :, 4:] == 0).all()


def test_only_the_new_logprobs_and_values_need_gradients() -> None:
    # Swapping roles would be wrong: the loss is not symmetric.
    a, b, adv = normal(5, 3, 2, 3)
    mask = torch.ones(2, 3).bool()
    one = policy_loss(a, old_logprobs=b, advantages=adv, mask=mask, clip_ratio=0.2)
    other = policy_loss(b, old_logprobs=a, advantages=adv, mask=mask, clip_ratio=0.2)
    assert abs(one - other) > 1e-3
