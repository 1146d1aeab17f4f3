import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.core.errors import UserError
from rlhf.reward.fit import EpochRow, FitSettings, HeadFit, fit_head, initial_weight, pair_loss, run_epochs


def settings_of(**changes: object) -> FitSettings:
    values: dict[str, object] = {
        "lr": 0.02, "weight_decay": 0.01, "epochs": 30, "batch_size": 64, "standardise": False, "dropout": 0.0,
        "patience": 0,
    }  # fmt: skip
    return FitSettings(**(values | changes))  # type: ignore[arg-type]


def problem(n: int, width: int, seed: int, noise: float = 1.0) -> torch.Tensor:
    """Pairs whose chosen side is drawn from a Bradley-Terry model of a hidden direction."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(99).normal(size=width)
    sides = rng.normal(size=(n, 2, width))
    first = rng.random(n) < 1 / (1 + np.exp(-(sides[:, 0] - sides[:, 1]) @ truth / noise))
    ordered = np.where(first[:, None, None], sides, sides[:, ::-1])
    return torch.tensor(ordered, dtype=torch.float32)


def newton(features: torch.Tensor, decay: float) -> np.ndarray:
    """argmin of mean log(1 + exp(-w·d)) + decay/2 |w|² by Newton's method, in float64."""
    d = (features[:, 0].double() - features[:, 1].double()).numpy()
    w = np.zeros(d.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(d @ w))  # probability of the wrong side
        gradient = -(d * p[:, None]).mean(0) + decay * w
        hessian = (d.T * (p * (1 - p))) @ d / len(d) + decay * np.eye(len(w))
        w -= np.linalg.solve(hessian, gradient)
    return w


def test_loss_by_hand() -> None:
    # log(1 + e^-2) = .126928, log 2 = .693147, log(1 + e^1) = 1.313262; their mean
    margins = torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64)
    assert float(pair_loss(margins)) == pytest.approx((0.126928 + 0.693147 + 1.313262) / 3, abs=1e-6)


def test_agrees_with_logistic_regression() -> None:
    train = problem(400, 5, seed=0)
    fit = fit_head(train, train, settings_of(lr=0.02, epochs=700, batch_size=400), seed=0)
    np.testing.assert_allclose(fit.head.weight.numpy(), newton(train, 0.01), atol=1e-4)


def test_standardising_is_folded_into_a_plain_linear_head() -> None:
    train = problem(400, 5, seed=0) * torch.tensor([1.0, 100.0, 0.01, 1.0, 1.0]) + 7.0
    fit = fit_head(train, train, settings_of(standardise=True, lr=0.02, epochs=700, batch_size=400), seed=0)
    flat = train.reshape(-1, 5).double()
    scaled = (train.double() - flat.mean(0)) / flat.std(0, correction=0)
    expected = torch.tensor(newton(scaled, 0.01))
    torch.testing.assert_close(fit.head.scores(train), scaled @ expected, atol=1e-4, rtol=0)


def test_constant_features_are_harmless() -> None:
    train = torch.cat((problem(200, 3, seed=1), torch.full((200, 2, 1), 3.0)), dim=-1)
    fit = fit_head(train, train, settings_of(standardise=True), seed=0)
    assert torch.isfinite(fit.head.weight).all()


def test_head_starts_as_lm_human_preferences_says() -> None:
    draws = torch.stack([initial_weight(99, seed) for seed in range(200)])
    assert float(draws.std()) == pytest.approx(1 / math.sqrt(100), rel=0.03)
    assert abs(float(draws.mean())) < 0.003


def test_first_row_of_the_curve_is_before_training_and_the_best_epoch_is_kept() -> None:
    train, held_out = problem(60, 40, seed=2), problem(300, 40, seed=3)
    fit = fit_head(train, held_out, settings_of(lr=0.1, weight_decay=0.0, epochs=40), seed=0)
    losses = [row.validation_loss for row in fit.curve]
    assert [row.epoch for row in fit.curve] == list(range(41))
    assert fit.best_epoch == min(range(41), key=losses.__getitem__)
    assert 0 < fit.best_epoch < 40, "60 pairs in 40 dimensions must overfit"
    margins = fit.head.scores(held_out)
    assert float(pair_loss(margins[:, 0] - margins[:, 1])) == pytest.approx(losses[fit.best_epoch], abs=1e-9)


def share_right(fit: HeadFit, features: torch.Tensor) -> float:
    scores = fit.head.scores(features)
    return float((scores[:, 0] > scores[:, 1]).double().mean())


def flipped(features: torch.Tensor, seed: int) -> torch.Tensor:
    """The same pairs with labels drawn by a coin."""
    coins = torch.rand(len(features), generator=torch.Generator().manual_seed(seed)) < 0.5
    return torch.where(coins[:, None, None], features.flip(1), features)


def test_shuffled_labels_teach_nothing() -> None:
    train, held_out, test = (problem(500, 8, seed=s) for s in (4, 5, 6))
    quick = settings_of(epochs=5)
    assert share_right(fit_head(train, held_out, quick, seed=0), test) > 0.7
    blank = [fit_head(flipped(train, s), flipped(held_out, 50 + s), quick, seed=s) for s in range(24)]
    # A random direction in 8 dimensions is right in anything from 30 to 70 % of pairs; its mean is one half.
    assert sum(share_right(fit, test) for fit in blank) / 24 == pytest.approx(0.5, abs=0.08)
    assert min(fit.curve[fit.best_epoch].validation_loss for fit in blank) > 0.67


def test_identical_sides_are_ties_at_log_two() -> None:
    same = torch.randn(50, 1, 6, generator=torch.Generator().manual_seed(0)).expand(50, 2, 6)
    fit = fit_head(same, same, settings_of(), seed=0)
    for row in fit.curve:
        assert row.validation_accuracy == 0.5
        assert row.validation_loss == pytest.approx(math.log(2))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_same_seed_same_bits(seed: int) -> None:
    train = problem(50, 4, seed=7)
    first, second = (fit_head(train, train, settings_of(epochs=2), seed=seed) for _ in range(2))
    assert torch.equal(first.head.weight, second.head.weight)
    assert first.curve == second.curve


def test_too_high_a_rate_is_an_error() -> None:
    train = problem(50, 4, seed=7) * 1e200
    with pytest.raises(UserError, match=r"reward\.lr"):
        fit_head(train.double() * 1e200, train, settings_of(lr=1.0), seed=0)


@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_a_missing_loss_is_refused_and_never_the_best(missing: float) -> None:
    def evaluate(epoch: int) -> EpochRow:
        return EpochRow(epoch, 0.6, missing if epoch == 2 else 0.7 - epoch / 100, 0.5)

    with pytest.raises(UserError, match=r"reward\.lr: the loss is \S+ after epoch 2"):
        run_epochs([], lambda epoch: None, evaluate, settings_of(epochs=4), lambda row: None)


def test_a_broken_feature_of_a_validation_pair_is_an_error() -> None:
    train = problem(50, 4, seed=7)
    broken = train.clone()
    broken[3, 1, 2] = math.nan
    with pytest.raises(UserError, match=r"nan after epoch 0"):
        fit_head(train, broken, settings_of(epochs=2), seed=0)


def test_no_pairs_is_an_error() -> None:
    train = problem(50, 4, seed=7)
    with pytest.raises(UserError, match="0 validation"):
        fit_head(train, train[:0], settings_of(), seed=0)
