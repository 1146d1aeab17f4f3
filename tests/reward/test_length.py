"""How much of a reward is length: by hand, against scipy and numpy, and as properties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf.models.reward.length_correction import UNCORRECTED, LengthCorrection
from rlhf.reward.length import Sides, correlation, length_labels, length_metrics

RNG = np.random.default_rng(7)


def sides(values: np.ndarray) -> Sides:
    return Sides(values[:, 0].tolist(), values[:, 1].tolist())


def test_labels_of_length_differences() -> None:
    found = length_labels(Sides([10, 9, 20, 8, 100, 0], [10, 10, 10, 10, 91, 0]))
    assert found == ["equal", "equal", "longer", "shorter", "equal", "equal"]


def test_r2_is_the_share_that_a_line_explains() -> None:
    """The oracle fits the line and looks at what is left."""
    lengths = RNG.integers(1, 60, (150, 2)).astype(float)
    rewards = 0.05 * lengths + RNG.normal(size=(150, 2))
    found = length_metrics(sides(rewards), sides(lengths), {}, 0)
    left = np.polyfit(lengths.ravel(), rewards.ravel(), 1, full=True)[1][0]
    expected = 1 - left / ((rewards - rewards.mean()) ** 2).sum()
    assert found["reward_length_r2"] == pytest.approx(expected)
    assert found["reward_length_r2_low"] < expected < found["reward_length_r2_high"]  # type: ignore[operator]


def test_the_partial_correlation_is_that_of_residuals() -> None:
    """By definition: correlate what two regressions on length leave (no formula shared with the subject)."""
    lengths = RNG.integers(1, 60, (200, 2)).astype(float)
    truth = 0.02 * lengths + RNG.normal(size=(200, 2))
    rewards = 0.1 * lengths + 0.5 * truth + RNG.normal(size=(200, 2))
    x, r, t = lengths.ravel(), rewards.ravel(), truth.ravel()
    rest = [y - np.polyval(np.polyfit(x, y, 1), x) for y in (r, t)]
    found = length_metrics(sides(rewards), sides(lengths), {"_gold": sides(truth)}, 0)
    assert found["reward_length_partial_gold"] == pytest.approx(np.corrcoef(*rest)[0, 1])


def test_a_reward_that_is_length_has_no_more_to_say() -> None:
    lengths = RNG.integers(1, 60, (300, 2)).astype(float)
    rewards = lengths + RNG.normal(size=(300, 2)) * 0.01
    labels = Sides([1.0] * 300, [0.0] * 300)
    found = length_metrics(sides(rewards), sides(lengths), {"": labels}, 0)
    assert found["reward_length_r2"] > 0.999  # type: ignore[operator]
    assert found["reward_length_partial_low"] < 0 < found["reward_length_partial_high"]  # type: ignore[operator]


def test_a_constant_has_no_correlation() -> None:
    same = Sides([3.0] * 5, [3.0] * 5)
    found = length_metrics(same, sides(RNG.normal(size=(5, 2))), {"": sides(RNG.normal(size=(5, 2)))}, 0)
    assert set(found.values()) == {None}
    assert np.isnan(correlation(same.array(), RNG.normal(size=(5, 2)), 0).mean)


def test_the_bootstrap_holds_the_truth_about_as_often_as_it_says() -> None:
    """200 data sets with a known correlation of .6: 95 % intervals hold it in 90 % to 99 %."""
    rng, hits = np.random.default_rng(1), 0
    for k in range(200):
        a = rng.normal(size=(80, 2))
        found = correlation(a, 0.6 * a + 0.8 * rng.normal(size=(80, 2)), k)
        hits += (found.low or 0) <= 0.6 <= (found.high or 0)
    assert 180 <= hits <= 198


def test_corrections_by_hand() -> None:
    scores, lengths = torch.tensor([6.0, -8.0, 5.0]), torch.tensor([9.0, 16, 0])
    assert UNCORRECTED.apply(scores, lengths) is scores
    torch.testing.assert_close(LengthCorrection("sqrt").apply(scores, lengths), torch.tensor([2.0, -2.0, 5.0]))
    line = LengthCorrection("regression").fitted([1.0, 3.0, 5.0, 7.0], [1, 2, 3, 4])  # 2 L - 1
    assert (line.slope, line.intercept) == (pytest.approx(2.0), pytest.approx(-1.0))
    torch.testing.assert_close(line.apply(torch.tensor([9.0, 10.0]), torch.tensor([5.0, 5])), torch.tensor([0.0, 1.0]))
    assert LengthCorrection("regression").fitted([1.0, 2.0], [3, 3]).slope == 0
    assert LengthCorrection("sqrt").fitted([1.0], [3]) == LengthCorrection("sqrt")


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 60)), min_size=3, max_size=40))
def test_what_a_regression_leaves_does_not_go_with_length(rows: list[tuple[float, int]]) -> None:
    scores, lengths = [row[0] for row in rows], [row[1] for row in rows]
    line = LengthCorrection("regression").fitted(scores, lengths)
    left = line.apply(torch.tensor(scores, dtype=torch.float64), torch.tensor(lengths, dtype=torch.float64)).numpy()
    assert left @ (np.array(lengths) - np.mean(lengths)) == pytest.approx(0, abs=1e-6)
    assert left.sum() == pytest.approx(0, abs=1e-6)
