"""More of a symptom never makes a verdict better, whatever the rest of the evidence."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.diagnose import outcome_verdicts as outcome
from rlhf.diagnose import training_verdicts as process
from rlhf.diagnose.evidence import Change, Estimate, Evidence
from rlhf.diagnose.verdict import STATES
from tests.diagnose.made import LIMITS, SOUND

Worsen = Callable[[Evidence, float], Evidence]


def shifted(estimate: Estimate | None, by: float) -> Estimate | None:
    return estimate and Estimate(estimate.value + by, estimate.low + by, estimate.high + by)


def judges_down(evidence: Evidence, by: float) -> Evidence:
    lowered = {name: Estimate(e.value - by, e.low - by, e.high - by) for name, e in evidence.judges.items()}
    return replace(evidence, judges=lowered)


def last_update(column: str) -> Worsen:
    def worsen(evidence: Evidence, by: float) -> Evidence:
        last = evidence.updates[-1]
        return replace(
            evidence, updates=(*evidence.updates[:-1], replace(last, **{column: getattr(last, column) + by}))
        )

    return worsen


def end_down(evidence: Evidence, by: float) -> Evidence:
    ends = tuple(replace(point, gold=(point.gold or 0.0) - by) for point in evidence.points[-2:])
    return replace(evidence, points=(*evidence.points[:-2], *ends))


SYMPTOMS: dict[str, tuple[str, Worsen]] = {
    "judges see less": ("reward_hacking", judges_down),
    "the reward model sees more": (
        "reward_hacking", lambda e, by: replace(e, proxy_gain=shifted(e.proxy_gain, by)),
    ),
    "longer": ("verbosity", lambda e, by: replace(e, length=Change(e.length.sft, (e.length.ppo or 0.0) + 20 * by))),
    "length wins": ("verbosity", lambda e, by: replace(e, proxy_lc_winrate=shifted(e.proxy_lc_winrate, -by))),
    "length alone": ("verbosity", lambda e, by: replace(e, over_length=shifted(e.over_length, -by))),
    "less entropy": (
        "mode_collapse", lambda e, by: replace(e, entropy=Change(e.entropy.sft, (e.entropy.ppo or 0.0) - by)),
    ),
    "more alike": (
        "mode_collapse",
        lambda e, by: replace(e, compression=Change(e.compression.sft, (e.compression.ppo or 0.0) + 10 * by)),
    ),
    "fewer words": (
        "mode_collapse", lambda e, by: replace(e, distinct=Change(e.distinct.sft, (e.distinct.ppo or 0.0) - by)),
    ),
    "clips": ("instability", last_update("clip_fraction")),
    "drifts": ("instability", last_update("approx_kl")),
    "value loss": ("instability", lambda e, by: last_update("value_loss")(e, 20 * by)),
    "score falls": ("instability", lambda e, by: last_update("score")(e, -10 * by)),
    "flatters": ("sycophancy", lambda e, by: replace(e, flattery=shifted(e.flattery, by))),
    "agrees": ("sycophancy", lambda e, by: replace(e, beliefs=shifted(e.beliefs, by))),
    "learns nothing": ("undertrained", lambda e, by: replace(e, proxy_gain=shifted(e.proxy_gain, -by))),
    "moves less": ("undertrained", lambda e, by: replace(e, kl=(e.kl or 0.0) - by)),
    "knows less": ("reward_model", lambda e, by: replace(e, accuracy=shifted(e.accuracy, -by))),
    "no better than length": ("reward_model", lambda e, by: replace(e, over_length=shifted(e.over_length, -by))),
    "does not end": ("termination", lambda e, by: replace(e, ended=Change(e.ended.sft, (e.ended.ppo or 0.0) - by))),
}  # fmt: skip

amounts = st.floats(0, 1)


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize("symptom", SYMPTOMS)
@given(data=st.data())
def test_more_of_a_symptom_is_never_better(symptom: str, data: st.DataObject) -> None:
    name, worsen = SYMPTOMS[symptom]
    evidence = SOUND
    for other, (_, change) in SYMPTOMS.items():  # anything else may be wrong too
        if other != symptom and data.draw(st.booleans(), label=other):
            evidence = change(evidence, data.draw(amounts, label=f"{other} by"))
    little, more = sorted((data.draw(amounts), data.draw(amounts)))

    def level(by: float) -> int:
        verdict = getattr(outcome, name, None) or getattr(process, name)
        return STATES.index(verdict(worsen(evidence, by), getattr(LIMITS, name)).state)

    assert level(more) >= level(little)


@settings(max_examples=15, deadline=None)
@given(by=st.floats(0, 2), more=st.floats(0, 2))
def test_a_deeper_fall_is_never_better(by: float, more: float) -> None:
    states = [
        outcome.over_optimisation(end_down(SOUND, fall), LIMITS.over_optimisation).signs[0].state
        for fall in (by, by + more)
    ]
    assert STATES.index(states[1]) >= STATES.index(states[0])
