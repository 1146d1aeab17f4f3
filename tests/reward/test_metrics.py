import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.core.stats import wins
from rlhf.reward.metrics import (
    accuracy,
    agreement,
    by_slice,
    length_baseline,
    member_metrics,
    share_of_ceiling,
    slug,
    turns_label,
)


def test_ties_count_half() -> None:
    # two right, one wrong, one tie: (2 + 1/2) / 4
    assert wins([2.0, 0.1, -3.0, 0.0]) == [1.0, 1.0, 0.0, 0.5]
    assert accuracy([2.0, 0.1, -3.0, 0.0]).mean == 0.625


def test_a_constant_reward_earns_what_guessing_earns() -> None:
    # The degenerate run of ppo-notes: accuracy .995 at loss .6931, because ties were wins.
    assert accuracy([0.0] * 1000).mean == 0.5


@given(st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_rounding_noise_is_a_tie_whatever_its_sign(n: int, seed: int) -> None:
    noise = [1e-9 * math.sin(seed + k) + 1e-8 for k in range(n)]  # all positive: a padding artefact would look so
    assert accuracy(noise).mean == 0.5


def test_wilson_interval_of_a_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263 gives .2553 to .3662 (method 3, Wilson without continuity correction)
    found = accuracy([1.0] * 81 + [-1.0] * 182)
    assert found.mean == pytest.approx(81 / 263)
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50))
def test_swapping_both_sides_gives_the_complement(margins: list[float]) -> None:
    assert accuracy(margins).mean + accuracy([-m for m in margins]).mean == pytest.approx(1)


def test_length_baseline_by_hand() -> None:
    # longer chosen, shorter chosen, equal: (1 + 0 + 1/2) / 3
    assert length_baseline(["aaa", "a", "bb"], ["a", "aaa", "cc"]).mean == 0.5
    assert length_baseline(["aaa", "aaa"], ["a", "a"]).mean == 1.0


def test_agreement_counts_a_tie_on_either_side_half() -> None:
    assert agreement([1.0, -1.0, 0.0, 2.0], [3.0, 1.0, 1.0, 0.0]).mean == (1 + 0 + 0.5 + 0.5) / 4


@pytest.mark.parametrize(
    ("rate", "ceiling", "share"),
    [(0.7, 0.8, 2 / 3), (0.5, 0.8, 0.0), (0.8, 0.8, 1.0), (0.7, None, None), (0.7, 0.5, None)],
)
def test_share_of_ceiling(rate: float, ceiling: float | None, share: float | None) -> None:
    assert share_of_ceiling(rate, ceiling) == (None if share is None else pytest.approx(share))


def test_slices_hold_their_own_pairs_only() -> None:
    found = by_slice([1.0, -1.0, 1.0, 1.0], ["Look up", "Look up", None, "list"], "kind")
    assert found["reward_accuracy_kind_look_up"] == 0.5
    assert found["reward_accuracy_kind_look_up_n"] == 2
    assert found["reward_accuracy_kind_list"] == 1.0
    assert not [name for name in found if "none" in name]


def test_labels() -> None:
    assert [turns_label(n) for n in (1, 2, 3, 9)] == ["1", "2", "3plus", "3plus"]
    assert slug("How-To 2") == "how_to_2"


def test_members_by_hand() -> None:
    found = member_metrics([[1.0, -1.0, 2.0, 1.0], [1.0, 1.0, -2.0, 1.0], [3.0, -1.0, 0.0, -1.0]])
    # right: 3, 3 and 1.5 of 4; agreement of 1-2: 2/4, 1-3: (1 + 1 + .5 + 0)/4, 2-3: (1 + 0 + .5 + 0)/4
    assert found == {
        "reward_members": 3,
        "reward_member_accuracy_lowest": 0.375,
        "reward_member_accuracy_highest": 0.75,
        "reward_member_agreement": pytest.approx((2 + 2.5 + 1.5) / 12),
    }
    assert member_metrics([[1.0]])["reward_member_agreement"] is None
