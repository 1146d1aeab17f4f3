"""Peak and fall of a curve, by hand and against simulated noise."""

import random

import pytest

from rlhf.diagnose.peak_and_fall import fall


def test_by_hand() -> None:
    # Ten points: windows of two. Means .4 .6 .75 .8 .8 .8 .775 .7 .625: the rise is .4, and .175 of it is lost.
    golds = [0.3, 0.5, 0.7, 0.8, 0.8, 0.8, 0.8, 0.75, 0.65, 0.6]
    found = fall([float(k) for k in range(10)], golds, golds)
    assert found is not None
    assert (found.peak, found.peak_at, found.end) == pytest.approx((0.8, 3.5, 0.625))
    assert found.lost == pytest.approx(0.175 / 0.4)
    # Second differences 0 -.1 -.1 0 0 -.05 -.05 .05: variance .0275 / 8 / 6, and that of two windows' difference is it.
    assert found.noise == pytest.approx(0.175 / (0.0275 / 48) ** 0.5)
    assert not found.proxy_held


def test_the_order_is_that_of_distance() -> None:
    distances = [5.0, 0.0, 4.0, 1.0, 3.0, 2.0]
    judged = [-1.0, 0.0, 0.0, 1.0, 1.0, 2.0]
    found = fall(distances, distances, judged)
    assert found is not None
    assert (found.end, found.peak) == (-0.5, 1.5)
    assert found.proxy_held


def test_a_curve_that_never_falls_has_lost_nothing() -> None:
    rising = [float(k) for k in range(8)]
    found = fall(rising, rising, rising)
    assert found is not None
    assert (found.lost, found.noise) == (0.0, 0.0)


def test_too_short_a_curve_shows_no_peak() -> None:
    assert fall([0.0] * 5, [0.0] * 5, [0.0] * 5) is None
    assert fall([], [], []) is None


def test_noise_alone_seldom_looks_like_a_fall() -> None:
    """Flat curves of 21 points of Gaussian noise: the bias of taking the highest window stays below 4 errors."""
    draw = random.Random(0)
    falls = 0
    for _ in range(500):
        judged = [draw.gauss(0.6, 0.1) for _ in range(21)]
        found = fall([0.05 * k for k in range(21)], [0.1 * k for k in range(21)], judged)
        assert found is not None
        falls += found.noise >= 4 and found.lost >= 0.5
    assert falls / 500 < 0.05


def test_a_real_fall_is_seen_through_noise() -> None:
    draw = random.Random(1)
    seen = 0
    for _ in range(200):
        judged = [0.6 - 0.1 * max(0, k - 8) + draw.gauss(0, 0.1) for k in range(21)]
        found = fall([0.05 * k for k in range(21)], [0.1 * k for k in range(21)], judged)
        assert found is not None
        seen += found.noise >= 4 and found.lost >= 0.5
    assert seen / 200 > 0.98
