"""Verdicts on how it came, each on both sides of its thresholds."""

from typing import Any

import pytest

from rlhf.diagnose import training_verdicts as process
from rlhf.diagnose.evidence import Change, Estimate, Update
from rlhf.diagnose.verdict import State
from tests.diagnose.made import LIMITS, SOUND, run, updates


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"entropy": Change(0.7, 0.11)}, "sound"),  # sharp, but as diverse as before
        ({"entropy": Change(0.7, 0.1)}, "suspect"),
        ({"entropy": Change(0.7, 0.05)}, "failed"),
        ({"entropy": Change(0.7, 0.4), "distinct": Change(0.2, 0.05)}, "suspect"),  # .57 of the entropy, diversity gone
        ({"entropy": Change(0.7, 0.2), "distinct": Change(0.2, 0.13)}, "suspect"),
        ({"entropy": Change(0.7, 0.2), "distinct": Change(0.2, 0.1)}, "failed"),
        ({"entropy": Change(0.7, 0.2), "compression": Change(5.0, 8.5)}, "failed"),
        ({"entropy": Change(0.7, 0.6), "compression": Change(5.0, 8.5)}, "sound"),
        ({"stop_reason": "entropy_collapse"}, "failed"),
        ({"entropy": Change(None, 0.6)}, "sound"),
        ({name: Change(None, None) for name in ("entropy", "distinct", "compression")}, "unknown"),
    ],
)
def test_collapsed_if_nothing_is_left_to_choose(changes: dict[str, Any], state: State) -> None:
    assert process.mode_collapse(run(**changes), LIMITS.mode_collapse).state == state


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"clip_fraction": 0.29}, "sound"),
        ({"clip_fraction": 0.3}, "suspect"),
        ({"clip_fraction": 0.5}, "failed"),
        ({"approx_kl": 0.06}, "suspect"),
        ({"approx_kl": 0.2}, "failed"),
        ({"grad_norm": 2.1}, "suspect"),
        ({"grad_norm": 21.0}, "failed"),
        ({"value_loss": 11.0}, "failed"),
        ({"score": -2.1}, "suspect"),  # (.3 + .4 - 2.1) / 3 after (.2 + .3 + .4) / 3: a fall of .77
        ({"score": -6.0}, "failed"),
        ({"grad_norm": None, "score": None}, "sound"),
    ],
)
def test_unstable_if_a_curve_says_so(changes: dict[str, Any], state: State) -> None:
    assert process.instability(run(updates=updates(**changes)), LIMITS.instability).state == state


@pytest.mark.parametrize(
    ("reason", "state"),
    [("completed", "sound"), ("validation_reward", "sound"), ("score_spike", "failed"), ("nonfinite_loss", "failed"),
     ("kl_limit", "failed"), ("entropy_collapse", "sound")],
)  # fmt: skip
def test_a_guard_that_stopped_the_run_says_so(reason: str, state: State) -> None:
    assert process.instability(run(stop_reason=reason), LIMITS.instability).state == state


def test_the_guards_are_those_of_ppo() -> None:
    from typing import get_args

    from rlhf.ppo.guards import Reason

    assert {*process.UNSTABLE_STOPS, process.COLLAPSED_STOP} == set(get_args(Reason))


@pytest.mark.parametrize(
    ("accuracy", "over_length", "state"),
    [
        (Estimate(0.6, 0.56, 0.64), Estimate(0.1, 0.06, 0.14), "sound"),
        (Estimate(0.58, 0.54, 0.62), Estimate(0.1, 0.06, 0.14), "suspect"),
        (Estimate(0.53, 0.49, 0.57), Estimate(0.1, 0.06, 0.14), "failed"),
        (Estimate(0.8, 0.77, 0.83), Estimate(0.04, 0.01, 0.07), "suspect"),
        (Estimate(0.8, 0.77, 0.83), Estimate(0.01, -0.01, 0.03), "failed"),
        (Estimate(0.8, 0.77, 0.83), None, "sound"),
        (None, None, "unknown"),
    ],
)
def test_no_reward_model_if_chance_or_length_does_as_well(
    accuracy: Estimate | None, over_length: Estimate | None, state: State
) -> None:
    evidence = run(accuracy=accuracy, over_length=over_length)
    assert process.reward_model(evidence, LIMITS.reward_model).state == state


@pytest.mark.parametrize(("ended", "state"), [(0.91, "sound"), (0.89, "suspect"), (0.69, "failed"), (None, "unknown")])
def test_replies_that_do_not_end(ended: float | None, state: State) -> None:
    assert process.termination(run(ended=Change(0.96, ended)), LIMITS.termination).state == state


@pytest.mark.parametrize(
    ("values", "deepest"),
    [([], None), ([1.0], 0.0), ([0.0, 1.0, 2.0], 0.0), ([3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 3.0], 3.0)],
)
def test_drawdown(values: list[float], deepest: float | None) -> None:
    assert process.drawdown(values) == deepest


def test_a_run_of_two_iterations_has_no_spike() -> None:
    few = (Update(0.0, 0.0, 0.0, 0.01, 0.1), Update(0.1, 0.0, 0.0, 5.0, 0.1))
    assert process.instability(run(updates=few), LIMITS.instability).signs[3].value is None


def test_a_sound_run_is_sound() -> None:
    for name in ("mode_collapse", "instability", "reward_model", "termination"):
        assert getattr(process, name)(SOUND, getattr(LIMITS, name)).state == "sound", name
