"""A number against two thresholds, and how states add up."""

import itertools

import pytest
from pydantic import ValidationError

from rlhf.diagnose.params import Above, Below
from rlhf.diagnose.verdict import Sign, State, all_of, any_of

HIGH = Above(suspect=1.0, failed=2.0, source="a test")
LOW = Below(suspect=1.0, failed=0.5, source="a test")


@pytest.mark.parametrize(
    ("limit", "value", "state"),
    [
        (HIGH, 0.99, "sound"),
        (HIGH, 1.0, "suspect"),
        (HIGH, 1.99, "suspect"),
        (HIGH, 2.0, "failed"),
        (HIGH, None, "unknown"),
        (LOW, 1.01, "sound"),
        (LOW, 1.0, "suspect"),
        (LOW, 0.51, "suspect"),
        (LOW, 0.5, "failed"),
        (LOW, -3.0, "failed"),
    ],
)
def test_a_sign_on_both_sides_of_its_thresholds(limit: Above | Below, value: float | None, state: State) -> None:
    assert Sign("x", value, limit, "x").state == state


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValidationError, match="higher is worse"):
        Above(suspect=2.0, failed=1.0, source="a test")
    with pytest.raises(ValidationError, match="lower is worse"):
        Below(suspect=0.5, failed=1.0, source="a test")


def test_any_takes_the_worst_and_all_the_best() -> None:
    assert any_of(["sound", "failed", "suspect", "unknown"]) == "failed"
    assert any_of(["sound", "unknown"]) == "sound"
    assert any_of(["unknown", "unknown"]) == any_of([]) == "unknown"
    assert all_of(["suspect", "failed"]) == "suspect"
    assert all_of(["failed", "failed"]) == "failed"
    assert all_of(["failed", "unknown"]) == all_of([]) == "unknown"
    assert all_of(["sound", "unknown"]) == "sound"


def test_neither_gets_better_when_a_part_gets_worse() -> None:
    order: list[State] = ["sound", "suspect", "failed"]
    for first, second in itertools.product(order, repeat=2):
        for worse in order[order.index(first) :]:
            for combine in (any_of, all_of):
                assert order.index(combine([worse, second])) >= order.index(combine([first, second]))
