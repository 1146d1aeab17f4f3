"""The study of strategies: its head, its curves on a small pool, and its reading of curves, by hand."""

import numpy as np
import pytest
from scipy.optimize import minimize

from studies.active_learning import BUDGETS, START, STRATEGIES, Pairs, curve, fit
from studies.active_learning_table import needed, summary, table


def pairs(n: int, seed: int) -> Pairs:
    rng, truth = np.random.default_rng(seed), np.random.default_rng(0).normal(size=5)
    x = rng.normal(size=(n, 5))
    return Pairs([f"p{k // 2}" for k in range(n)], x, 2 * x @ truth)


def test_the_head_is_where_the_penalised_loss_is_least() -> None:
    x, weights = pairs(40, 1).differences, np.random.default_rng(2).integers(0, 3, 40).astype(float)
    found = minimize(
        lambda w: float(np.sum(weights * np.log1p(np.exp(-x @ w))) + 1.5 * w @ w), np.zeros(5), tol=1e-12
    )  # fmt: skip
    np.testing.assert_allclose(fit(x, weights, 3.0), found.x, atol=1e-4)


def test_curves_begin_and_end_alike_whatever_the_strategy() -> None:
    pool, test = pairs(1100, 3), pairs(300, 4)
    found = {name: curve(name, pool, test, 0, 1.0) for name in STRATEGIES}
    assert {len(own["accuracy"]) for own in found.values()} == {len(BUDGETS) + 1}
    for kind in ("accuracy", "gold"):
        assert len({own[kind][0] for own in found.values()}) == 1  # the same first pairs
        assert len({own[kind][-1] for own in found.values()}) == 1  # all labels
    assert len({tuple(own["gold"]) for own in found.values()}) == len(STRATEGIES)
    assert found["random"]["gold"][-1] > 0.95
    assert curve("d_optimal", pool, test, 0, 1.0) == found["d_optimal"]
    assert curve("random", pool, test, 1, 1.0) != found["random"]
    assert BUDGETS[0] == START


@pytest.mark.parametrize(
    ("accuracy", "target", "labels"),
    [([0.5, 0.6, 0.7], 0.6, 16), ([0.5, 0.6, 0.7], 0.55, 8 * 2**0.5), ([0.7, 0.5, 0.6], 0.6, 8), ([0.5] * 3, 0.6, 32)],
)
def test_labels_needed_by_hand(accuracy: list[float], target: float, labels: float) -> None:
    assert needed([8, 16, 32], accuracy, target) == pytest.approx(labels)


def test_the_summary_by_hand() -> None:
    """Plateau .7, so midway .6: random's mean is there after 16 labels, the other's after 8 times the root of 2."""
    curves = {
        "random": [{"accuracy": a, "gold": a} for a in ([0.4, 0.5, 0.6, 0.7], [0.6, 0.7, 0.8, 0.7])],
        "other": [{"accuracy": a, "gold": [0.9] * 4} for a in ([0.55, 0.65, 0.7, 0.7], [0.55, 0.65, 0.7, 0.7])],
    }
    found = summary(curves, [8, 16, 32, 64])
    assert (found["target"], found["plateau"]) == (pytest.approx(0.6), pytest.approx(0.7))
    own, random = found["strategies"]["other"], found["strategies"]["random"]
    assert random["labels"] == pytest.approx(16)  # of the mean curve .5, .6, .7
    assert (random["labels_low"], random["labels_high"]) == (pytest.approx(8), pytest.approx(32))  # of either seed
    assert (own["labels"], own["labels_low"]) == (pytest.approx(8 * 2**0.5), pytest.approx(8 * 2**0.5))
    assert (own["ratio"], own["gold_ratio"]) == (pytest.approx(2**0.5), pytest.approx(2))
    assert own["worst"]["budget"] in (16, 32)  # neither the first pairs nor the plateau
    text = table({"budgets": [8, 16, 32, 64], "curves": curves, **found})
    assert "| other | 11 (11 to 11) | 1.41 (0.71 to 2.83) | 2.00 (1.00 to 4.00) |" in text
