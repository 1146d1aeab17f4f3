"""The value head: where it starts, and which state a value belongs to."""

import torch

from rlhf.ppo.value_head import ValueHead


def test_values_start_at_zero() -> None:
    assert not ValueHead(4)(torch.randn(2, 5, 4), 3).any()


def test_a_value_belongs_to_the_state_before_its_token() -> None:
    # Hidden states hold their own position; prompt of 3, response of 2: tokens 3 and 4 are drawn from states 2 and 3.
    head = ValueHead(1)
    with torch.no_grad():
        head.linear.weight.fill_(10.0)
        head.linear.bias.fill_(1.0)
    assert head(torch.arange(5.0).reshape(1, 5, 1), 3).tolist() == [[21.0, 31.0]]


def test_started_from_the_reward_model() -> None:
    head = ValueHead(2)
    head.load_from_reward(torch.tensor([2.0, 4.0]), torch.tensor(1.0), mean=3.0, std=2.0)
    # (2 * 5 + 4 * 7 + 1 - 3) / 2 = 18
    hidden = torch.tensor([[[5.0, 7.0], [0.0, 0.0]]])
    assert head(hidden, 1).tolist() == [[18.0]]
