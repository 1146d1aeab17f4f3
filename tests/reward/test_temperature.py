import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from rlhf.reward.calibration import HIGHEST, LOWEST, fit_temperature

RNG = np.random.default_rng(3)


def test_the_temperature_is_where_the_loss_is_lowest() -> None:
    margins = RNG.normal(1.0, 3.0, 400)

    def loss(t: float) -> float:
        return float(np.log1p(np.exp(-margins / t)).mean())

    oracle = minimize_scalar(loss, bounds=(0.1, 50), method="bounded", options={"xatol": 1e-9}).x
    found = fit_temperature(margins.tolist(), 0)
    assert found is not None
    assert found.mean == pytest.approx(oracle, rel=1e-5)
    assert found.low < found.mean < found.high  # type: ignore[operator]


def test_margins_that_were_multiplied_are_divided_again() -> None:
    """Labels drawn from sigmoid(x): x itself needs T = 1, 2.5 x needs 2.5 times what x needs."""
    x = np.abs(RNG.normal(0, 2, 20_000))
    honest = np.where(RNG.random(20_000) < 1 / (1 + np.exp(-x)), x, -x)
    one, more = (fit_temperature((k * honest).tolist(), 0, resamples=50) for k in (1.0, 2.5))
    assert one is not None
    assert more is not None
    assert one.mean == pytest.approx(1, abs=0.05)
    assert more.mean == pytest.approx(2.5 * one.mean, rel=1e-6)


def test_ends() -> None:
    assert fit_temperature([0.0, 0.0], 0) is None
    sure, wrong = fit_temperature([1.0, 2.0], 0), fit_temperature([-1.0, -2.0], 0)
    assert sure is not None
    assert wrong is not None
    assert sure.mean == pytest.approx(LOWEST)  # separable: the surer the better
    assert wrong.mean == pytest.approx(HIGHEST)
    assert math.isfinite(sure.high or math.nan)
