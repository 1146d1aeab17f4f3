"""The update: micro-batches and padding change nothing, and nothing bad is applied."""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rlhf.models.text.tokens import Episodes
from rlhf.ppo import update as module
from rlhf.ppo.actors import Actors
from rlhf.ppo.guards import SelfCheckError, Tripped
from rlhf.ppo.params import PPOParams
from rlhf.ppo.step import Experience, Setup, experience
from rlhf.ppo.types import Advantages, Rollout
from tests.ppo.worlds import make_params, make_setup, snapshot


def explored(actors: Actors, params: PPOParams) -> tuple[Setup, Experience]:
    setup = make_setup(actors, params)
    return setup, experience(setup, setup.prompts.batch(0, params.batch), setup.uniforms(0), params.kl_coef)


def gradients(setup: Setup, rollout: Rollout, advantages: Advantages, index: Tensor, params: PPOParams) -> list[Tensor]:
    module.accumulate_gradients(setup.actors, setup.learner, rollout, advantages, index=index, params=params)
    found = [parameter.grad for parameter in setup.learner.parameters.values()]
    assert all(gradient is not None for gradient in found)
    return [gradient.clone() for gradient in found if gradient is not None]


def assert_all_close(found: list[Tensor], expected: list[Tensor]) -> None:
    assert any(gradient.abs().max() > 1e-4 for gradient in expected)
    for a, b in zip(found, expected, strict=True):
        # Relative to the largest entry: small ones are sums in which large ones cancel, in an order of the processor's.
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_size_of_micro_batches_changes_nothing(actors: Actors, size: int) -> None:
    params = make_params(missing_eos="cap", response_tokens=10)
    setup, made = explored(actors, params)
    lengths = made.rollout.mask.sum(1)
    index = torch.tensor([4, 0, 6, 1, 7, 2])
    # Unequal lengths, so that weighing micro-batches by episodes instead of tokens would show.
    mask = made.rollout.mask & (torch.arange(made.rollout.mask.shape[1]) < torch.arange(1, 9)[:, None])
    rollout = with_mask(made.rollout, mask)
    assert lengths.min() > 0
    whole = gradients(setup, rollout, made.advantages, index, params)
    pieces = gradients(setup, rollout, made.advantages, index, make_params(microbatch=size, missing_eos="cap"))
    assert_all_close(pieces, whole)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_statistics_are_means_over_tokens_whatever_the_micro_batches(actors: Actors, size: int) -> None:
    """Old logprobs are the new ones plus known noise, and values are 0, so that every term follows from the noise."""
    params = make_params(microbatch=size, clip_ratio=0.1, value_clip=0)
    setup, made = explored(actors, params)
    shape = made.rollout.mask.shape
    rollout = with_mask(made.rollout, made.rollout.mask & (torch.arange(shape[1]) < torch.arange(1, 9)[:, None]))
    noise = 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(3))
    answers = dataclasses.replace(rollout.answers, logprobs=rollout.answers.logprobs + noise)
    rollout = dataclasses.replace(rollout, answers=answers)
    stats = module.accumulate_gradients(
        setup.actors,
        setup.learner,
        rollout,
        made.advantages,
        index=torch.tensor([4, 0, 6, 1, 7, 2, 3, 5]),
        params=params,
    )
    columns = (noise, made.advantages.advantages, made.advantages.returns)
    tokens = list(zip(*(column[rollout.mask].tolist() for column in columns), strict=True))
    ratios = [math.exp(-x) for x, _, _ in tokens]
    kept = [min(max(ratio, 0.9), 1.1) for ratio in ratios]
    gains = [(r * a, k * a) for r, k, (_, a, _) in zip(ratios, kept, tokens, strict=True)]
    expected = {
        "policy_loss": -sum(min(pair) for pair in gains) / len(tokens),
        "value_loss": sum(target**2 for _, _, target in tokens) / 2 / len(tokens),
        "clip_fraction": sum(limited < free for free, limited in gains) / len(tokens),
        "approx_kl": sum(ratio - 1 + x for ratio, (x, _, _) in zip(ratios, tokens, strict=True)) / len(tokens),
        "ratio_gap": max(abs(ratio - 1) for ratio in ratios),
    }
    assert dataclasses.asdict(stats) == pytest.approx(expected, abs=1e-4)


def with_mask(rollout: Rollout, mask: Tensor) -> Rollout:
    old = rollout.answers.episodes
    episodes = Episodes(old.prompt_ids, old.prompt_mask, old.response_ids, mask)
    return dataclasses.replace(rollout, answers=dataclasses.replace(rollout.answers, episodes=episodes))


def test_permuting_episodes_changes_nothing(actors: Actors) -> None:
    params = make_params()
    setup, made = explored(actors, params)
    order = torch.tensor([3, 1, 7, 0, 5, 6, 2, 4])
    whole = gradients(setup, made.rollout, made.advantages, torch.arange(8), params)
    assert_all_close(gradients(setup, made.rollout, made.advantages, order, params), whole)


def test_padding_changes_nothing(actors: Actors) -> None:
    params = make_params()
    setup, made = explored(actors, params)
    index = torch.arange(8)
    whole = gradients(setup, made.rollout, made.advantages, index, params)

    def right(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (0, 3), value=False if x.dtype == torch.bool else 7)

    def left(x: Tensor) -> Tensor:
        return torch.nn.functional.pad(x, (2, 0), value=False if x.dtype == torch.bool else 9)

    answers, old = made.rollout.answers, made.rollout.answers.episodes
    wider = dataclasses.replace(
        answers,
        episodes=Episodes(left(old.prompt_ids), left(old.prompt_mask), right(old.response_ids), right(old.mask)),
        **{name: right(getattr(answers, name)) for name in ("sampler_logprobs", "logprobs", "entropy", "values")},
    )
    rollout = Rollout(wider, right(made.rollout.ref_logprobs), made.rollout.scores)
    advantages = Advantages(*(right(getattr(made.advantages, f.name)) for f in dataclasses.fields(Advantages)))
    assert_all_close(gradients(setup, rollout, advantages, index, params), whole)


def test_the_value_loss_reaches_the_policy_only_if_asked(actors: Actors) -> None:
    for shared in (True, False):
        params = make_params(value_backprop=shared, value_coef=1.0)
        setup, made = explored(actors, params)
        torch.nn.init.constant_(actors.value_head.linear.weight, 0.3)
        nothing = torch.zeros_like(made.advantages.advantages)
        only_value = Advantages(made.advantages.rewards, nothing, made.advantages.returns)
        found = gradients(setup, made.rollout, only_value, torch.arange(8), params)
        names = list(setup.learner.parameters)
        moved = {n for n, g in zip(names, found, strict=True) if g.abs().max() > 0}
        assert {n for n in names if n.startswith("value/")} <= moved
        assert any(n.startswith("policy/") for n in moved) == shared


def recorded_indices(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    seen: list[list[int]] = []
    real: Callable[..., module.MinibatchStats] = module.accumulate_gradients

    def spy(*args: object, index: Tensor, **rest: object) -> module.MinibatchStats:
        seen.append(index.tolist())
        return real(*args, index=index, **rest)

    monkeypatch.setattr(module, "accumulate_gradients", spy)
    return seen


def run(setup: Setup, made: Experience, iteration: int = 0) -> module.PPOStats:
    return module.update(
        setup.actors, setup.learner, made.rollout, made.advantages, params=setup.params, stream=(0, iteration)
    )


def test_every_epoch_sees_every_episode_once_in_a_new_order(actors: Actors, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, made = explored(actors, make_params(epochs=3, minibatch=2))
    seen = recorded_indices(monkeypatch)
    stats = run(setup, made)
    assert stats.minibatches == len(seen) == 12
    epochs = [functools.reduce(operator.iadd, seen[i : i + 4], []) for i in (0, 4, 8)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_self_check_passes_in_a_sound_run_and_says_what_it_saw(actors: Actors) -> None:
    setup, made = explored(actors, make_params(minibatch=2, lr=1e-2, batch=8))
    stats = run(setup, made)
    assert stats.first_ratio_gap <= 5e-5  # the rounding of two passes, see tests/models/helpers.py
    assert abs(stats.first_approx_kl) <= 1e-8
    assert stats.approx_kl > 1e-5  # later minibatches have moved


@pytest.mark.parametrize("wrong", ["temperature", "shift"])
def test_the_self_check_is_loud(actors: Actors, wrong: str) -> None:
    setup, made = explored(actors, make_params())
    before = snapshot(setup.learner.parameters)
    if wrong == "temperature":  # a logprob pass that forgot it
        setup = make_setup(actors, make_params(temperature=0.7))
    else:
        answers = dataclasses.replace(made.rollout.answers, logprobs=made.rollout.answers.logprobs.roll(1, 1))
        made = dataclasses.replace(made, rollout=dataclasses.replace(made.rollout, answers=answers))
    with pytest.raises(SelfCheckError, match="before any update the ratio is off 1 by"):
        run(setup, made)
    assert snapshot(setup.learner.parameters) == before


def test_at_a_low_temperature_rounding_is_no_fault(actors: Actors) -> None:
    """Logits that differ by 5e-5 between two passes give logprobs that differ by 5e-4 at temperature 0.1."""
    for temperature, gap, sound in ((0.1, 5e-4, True), (0.1, 2e-3, False), (1.0, 5e-4, False)):
        setup, made = explored(actors, make_params(temperature=temperature, lr=0.0, value_lr=0.0))
        answers = made.rollout.answers
        off = dataclasses.replace(answers, logprobs=answers.logprobs + gap * answers.episodes.mask)
        made = dataclasses.replace(made, rollout=dataclasses.replace(made.rollout, answers=off))
        if sound:
            assert run(setup, made).first_ratio_gap == pytest.approx(gap, rel=0.4)  # rounding: 2e-5 / 0.1
        else:
            with pytest.raises(SelfCheckError):
                run(setup, made)


def test_a_policy_that_runs_away_ends_the_update(actors: Actors) -> None:
    setup, made = explored(actors, make_params(epochs=8, lr=0.05, approx_kl_stop=0.01))
    stats = run(setup, made)
    assert 1 <= stats.minibatches < 16
    free, made = explored(actors, make_params(epochs=8, lr=1e-5, approx_kl_stop=0.01))
    assert run(free, made).minibatches == 16


@pytest.mark.parametrize("what", ["advantages", "returns"])
def test_a_loss_that_is_not_finite_trips_before_anything_moves(actors: Actors, what: str) -> None:
    setup, made = explored(actors, make_params())
    broken = getattr(made.advantages, what).clone()
    broken[:, 0] = math.nan
    before = snapshot(setup.learner.parameters)
    with pytest.raises(Tripped, match="nonfinite_loss") as caught:
        run(setup, dataclasses.replace(made, advantages=dataclasses.replace(made.advantages, **{what: broken})))
    assert caught.value.by_update
    assert snapshot(setup.learner.parameters) == before


def test_a_gradient_that_is_not_finite_trips_before_anything_moves(actors: Actors) -> None:
    setup, made = explored(actors, make_params())
    before = snapshot(setup.learner.parameters)
    first = next(iter(setup.learner.parameters.values()))
    first.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(Tripped, match="nonfinite_gradient"):
        run(setup, made)
    assert snapshot(setup.learner.parameters) == before


def test_what_an_update_reports_by_hand() -> None:
    """Means over minibatches; the first one's gap and KL; one minibatch more than was applied, where KL stopped it."""
    first = module.MinibatchStats(policy_loss=1.0, value_loss=2.0, clip_fraction=0.0, approx_kl=0.125, ratio_gap=1e-6)
    second = module.MinibatchStats(policy_loss=2.0, value_loss=6.0, clip_fraction=0.5, approx_kl=0.375, ratio_gap=0.75)
    found = module._summary([first, second], [8.0])
    assert found == module.PPOStats(
        policy_loss=1.5, value_loss=4.0, clip_fraction=0.25, approx_kl=0.25, grad_norm=8.0, minibatches=1,
        first_ratio_gap=1e-6, first_approx_kl=0.125,
    )  # fmt: skip
