"""Each guard and each self-check, just within and just beyond its limit."""

import dataclasses
import math

import pytest

from rlhf.core.errors import UserError
from rlhf.ppo.guards import (
    Limits,
    SelfCheckError,
    Tripped,
    check_first_minibatch,
    check_gradient,
    check_loss,
    check_rollout,
    check_sampler,
)
from rlhf.ppo.types import Measures

FINE = Measures(
    score=1.0, score_std=0.5, reward=0.9, kl=2.0, kl_k2=2.0, kl_k3=2.0, entropy=1.5, length=10.0, ended=1.0,
    explained_variance=math.nan, sampler_gap=1e-6,
)  # fmt: skip
LIMITS = Limits(kl=10.0, entropy=0.1, score_jump=2.0)


def test_a_sound_policy_passes() -> None:
    check_rollout(FINE, None, LIMITS)
    check_rollout(FINE, -0.9, LIMITS)
    check_rollout(dataclasses.replace(FINE, kl=1e9, entropy=0.0), -99.0, Limits(None, None, None))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"score": math.nan}, "nonfinite_score"),
        ({"score": math.inf}, "nonfinite_score"),
        ({"score_std": math.nan}, "nonfinite_score"),
        ({"kl": math.nan}, "nonfinite_rollout"),
        ({"kl_k3": math.inf}, "nonfinite_rollout"),
        ({"entropy": math.nan}, "nonfinite_rollout"),
        ({"sampler_gap": math.nan}, "nonfinite_rollout"),
        ({"kl": 10.1}, "kl_limit"),
        ({"entropy": 0.09}, "entropy_collapse"),
        ({"score": 3.6}, "score_spike"),
        ({"score": -0.6}, "score_spike"),
    ],
)
def test_each_guard_on_its_own(change: dict[str, float], reason: str) -> None:
    with pytest.raises(Tripped) as caught:
        check_rollout(dataclasses.replace(FINE, **change), 1.5, LIMITS)
    assert caught.value.reason == reason
    assert not caught.value.by_update


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_losses_and_gradients(value: float) -> None:
    check_loss(0.0)
    check_gradient(1e30)
    with pytest.raises(Tripped, match="nonfinite_loss") as caught:
        check_loss(value)
    assert caught.value.by_update
    with pytest.raises(Tripped, match="nonfinite_gradient"):
        check_gradient(value)


def test_self_checks() -> None:
    check_first_minibatch(1e-5, 1e-9, tolerance=1e-4, temperature=1.0)
    for gap, kl in ((1e-3, 0.0), (0.0, 1e-3), (math.nan, 0.0), (0.0, math.nan)):
        with pytest.raises(SelfCheckError, match=r"ppo\.ratio_tolerance allows 0\.0001\. "):
            check_first_minibatch(gap, kl, tolerance=1e-4, temperature=1.0)
    check_sampler(1e-4, tolerance=1e-3, temperature=1.0)
    with pytest.raises(UserError, match=r"off the forward's by 0\.01 nats"):
        check_sampler(0.01, tolerance=1e-3, temperature=1.0)


def test_rounding_grows_as_the_temperature_falls_and_so_does_what_is_allowed() -> None:
    check_first_minibatch(9e-4, 9e-4, tolerance=1e-4, temperature=0.1)
    check_sampler(9e-3, tolerance=1e-3, temperature=0.1)
    with pytest.raises(SelfCheckError, match=r"allows 0\.001 \(0\.0001 / ppo\.temperature 0\.1\)"):
        check_first_minibatch(1.1e-3, 0.0, tolerance=1e-4, temperature=0.1)
    with pytest.raises(SelfCheckError, match=r"allows 0\.01 \(0\.001 / ppo\.temperature 0\.1\)"):
        check_sampler(1.1e-2, tolerance=1e-3, temperature=0.1)
    with pytest.raises(SelfCheckError, match=r"allows 0\.0001\. "):  # above 1 nothing is gained
        check_first_minibatch(9e-5 * 2, 0.0, tolerance=1e-4, temperature=2.0)
