"""The KL coefficient worked by hand, and what an iteration leaves in the state of a run."""

import math
from dataclasses import replace

import pytest

from rlhf.ppo.state import Progress, next_kl_coef
from rlhf.ppo.types import Measures, PPOStats
from tests.ppo.worlds import make_params

# lm-human-preferences: start .15, target 6 nats, horizon 10k, batches of 512
ADAPTIVE: dict[str, object] = {"kl_coef": 0.15, "kl_controller": "adaptive", "kl_target": 6.0, "kl_horizon": 10_000.0}

MEASURES = Measures(
    score=1.0, score_std=0.5, reward=0.9, kl=6.6, kl_k2=2.0, kl_k3=2.0, entropy=1.5, length=10.0, ended=1.0,
    explained_variance=math.nan, sampler_gap=1e-6,
)  # fmt: skip
STATS = PPOStats(
    policy_loss=-0.1, value_loss=0.2, clip_fraction=0.0, approx_kl=0.01, grad_norm=1.0, minibatches=4,
    first_ratio_gap=2e-7, first_approx_kl=-3e-8,
)  # fmt: skip


def test_a_fixed_coefficient_never_moves() -> None:
    assert next_kl_coef(make_params(kl_controller="fixed"), 0.3, 1e9, 512) == 0.3


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 0.15),  # on target
        (6.6, 0.150768),  # 10 % above: 0.15 * (1 + 0.1 * 512 / 10000)
        (5.4, 0.149232),
        (60.0, 0.151536),  # far above: the error is clipped to 20 %
        (-3.0, 0.148464),  # far below
    ],
)
def test_an_adaptive_coefficient_by_hand(kl: float, expected: float) -> None:
    assert next_kl_coef(make_params(**ADAPTIVE), 0.15, kl, 512) == pytest.approx(expected, rel=1e-12)


def test_an_adaptive_coefficient_brings_a_simple_plant_to_its_target() -> None:
    params, coef = make_params(**ADAPTIVE | {"kl_horizon": 1000.0}), 0.15
    for _ in range(200):
        coef = next_kl_coef(params, coef, 0.6 / coef, 512)  # KL falls as the coefficient rises
    assert 0.6 / coef == pytest.approx(6.0, rel=1e-3)


def test_an_iteration_is_written_down_with_the_coefficient_that_it_used_and_the_next_one_gets_the_moved() -> None:
    params = make_params(**ADAPTIVE, batch=500, minibatch=500)
    progress = Progress.start(params)
    progress.advance(params, MEASURES, STATS, lr=1e-3, validation=None)
    progress.advance(params, replace(MEASURES, score=3.0, kl=60.0), STATS, lr=5e-4, validation=0.25)
    first, second = progress.rows
    assert (first["iteration"], first["kl_coef"], first["lr"], first["validation_reward"]) == (0, 0.15, 1e-3, None)
    assert second["kl_coef"] == pytest.approx(0.15 * 1.005)  # 10 % above, 500 of 10000 episodes
    assert (second["iteration"], second["validation_reward"]) == (1, 0.25)
    assert progress.kl_coef == pytest.approx(0.15 * 1.005 * 1.01)  # clipped to 20 %
    assert (progress.iteration, progress.last_score) == (2, 3.0)
    assert first["explained_variance"] is None  # NaN has no number
    assert (progress.ratio_gap, progress.first_approx_kl, progress.sampler_gap) == (2e-7, 3e-8, 1e-6)


def test_the_summary_names_the_best_score_and_says_nothing_of_an_empty_run() -> None:
    params = make_params(**ADAPTIVE)
    progress = Progress.start(params)
    empty = progress.summary()
    assert (empty["iterations"], empty["score_first"], empty["score_best"]) == (0, None, None)
    assert empty["kl_coef_final"] == 0.15
    for score in (1.0, 3.0, 2.0, math.nan):
        progress.advance(params, replace(MEASURES, score=score), STATS, lr=1e-3, validation=None)
    found = progress.summary()
    assert (found["score_first"], found["score_best"], found["score_best_iteration"]) == (1.0, 3.0, 1)
    assert found["iterations"] == 4
