"""Learning rates, gradient clipping and what a resumed optimiser gets back."""

import pytest
import torch

from rlhf.ppo.actors import Actors
from rlhf.ppo.learner import Learner, learning_rate_factor
from tests.ppo.worlds import make_params, make_setup, snapshot


def test_the_rate_falls_on_a_line_to_zero_at_the_end() -> None:
    assert [learning_rate_factor(i, 4, "linear") for i in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert learning_rate_factor(3, 4, "constant") == 1.0


def make_learner(actors: Actors, clip: float | None) -> Learner:
    return Learner(actors, lr=1e-3, value_lr=1e-2, adam_eps=1e-5, max_grad_norm=clip)


def test_two_rates_two_groups(actors: Actors) -> None:
    learner = make_learner(actors, None)
    assert learner.set_rate(0.5) == 5e-4
    assert [group["lr"] for group in learner.optimizer.param_groups] == [5e-4, 5e-3]
    assert {name.split("/")[0] for name in learner.parameters} == {"policy", "value"}


def test_groups_are_clipped_apart(actors: Actors) -> None:
    learner = make_learner(actors, 1.0)
    for name, parameter in learner.parameters.items():
        parameter.grad = torch.full_like(parameter, 1e-4 if name.startswith("policy/") else 100.0)
    count = sum(p.numel() for name, p in learner.parameters.items() if name.startswith("policy/"))
    assert learner.apply() == pytest.approx(1e-4 * count**0.5, rel=1e-4)
    for name, parameter in learner.parameters.items():
        assert parameter.grad is not None
        if name.startswith("policy/"):  # a huge gradient of the value head has not shrunk it
            assert parameter.grad.flatten()[0].item() == pytest.approx(1e-4)
    value = [p.grad for name, p in learner.parameters.items() if name.startswith("value/")]
    assert sum(g.square().sum() for g in value if g is not None).item() == pytest.approx(1, rel=1e-3)


def test_weights_and_moments_come_back(actors: Actors) -> None:
    setup = make_setup(actors, make_params())
    learner = setup.learner

    def shake(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in learner.parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        learner.apply()

    shake(1)
    weights, moments = learner.weights(), learner.optimizer_state()
    shake(2)
    expected = snapshot(learner.parameters)
    learner.restore_weights(weights)
    learner.restore_optimizer(moments)
    shake(2)
    assert snapshot(learner.parameters) == expected


def test_a_fresh_optimizer_has_nothing_to_restore(actors: Actors) -> None:
    learner = make_learner(actors, None)
    assert learner.optimizer_state() == {}
    learner.restore_optimizer({})
    assert not learner.optimizer.state
