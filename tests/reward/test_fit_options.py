"""Weights, dropout, patience, a hidden layer: what the fit of a head can be told."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from rlhf.core.errors import UserError
from rlhf.core.seeding import generator
from rlhf.models.reward.heads import make_heads
from rlhf.reward.fit import HeadFit, Weights, dropped, fit_head, pair_loss, relative
from rlhf.reward.fit_ensemble import fit_ensemble
from rlhf.reward.fit_mlp import MlpFit, MlpHead, fit_mlp
from tests.reward.test_fit import newton, problem, settings_of


def ones(n: int) -> torch.Tensor:
    return torch.ones(n, dtype=torch.float64)


def test_weighted_loss_by_hand() -> None:
    # .126928 and 1.313262, weights .25 and 1.75 of mean 1: (.25 * .126928 + 1.75 * 1.313262) / 2
    margins, weights = torch.tensor([2.0, -1.0]).double(), relative(torch.tensor([1.0, 7.0]))
    assert weights.tolist() == [0.25, 1.75]
    assert float(pair_loss(margins, weights)) == pytest.approx(1.164970, abs=1e-6)


def test_margins_are_equation_2_of_llama_2_by_hand() -> None:
    # -log sigmoid(2 - 1) = .313262 and -log sigmoid(-1 - .5) = 1.701413; then with weights .25 and 1.75
    leads, margins = torch.tensor([2.0, -1.0]).double(), torch.tensor([1.0, 0.5]).double()
    assert float(pair_loss(leads, margins=margins)) == pytest.approx((0.313262 + 1.701413) / 2, abs=1e-6)
    weighted = pair_loss(leads, torch.tensor([0.25, 1.75]).double(), margins)
    assert float(weighted) == pytest.approx(1.527894, abs=1e-6)


@pytest.mark.parametrize("units", [0, 3])
def test_a_head_is_fitted_and_chosen_by_its_margins(units: int) -> None:
    """The curve against numpy on the returned head's own scores; a linear head against scipy's minimum."""
    train, held_out = problem(120, 4, seed=3), problem(40, 4, seed=4)
    margins = [torch.linspace(0, 3, size).double() for size in (120, 40)]
    weights = Weights(torch.linspace(1, 2, 120), torch.linspace(2, 1, 40), *margins)
    settings = settings_of(lr=0.02, epochs=600 if units == 0 else 3, batch_size=120, weight_decay=0.0)
    (fit,) = fit_ensemble(
        train, held_out, settings, members=1, units=units, seed=0, weights=weights, on_epoch=lambda row: None
    )
    leads = [leads_of(fit, part) for part in (train, held_out)]
    row = fit.curve[fit.best_epoch]
    for found, own, share, margin in zip(
        (row.train_loss, row.validation_loss), leads, (weights.train, weights.validation), margins, strict=True
    ):
        by_hand = np.average(np.log1p(np.exp(margin.numpy() - own)), weights=share.numpy())
        assert found == pytest.approx(by_hand, rel=1e-6)
    if units:
        return
    difference = (train[:, 0] - train[:, 1]).double().numpy()

    def loss(weight: np.ndarray) -> float:
        return float(np.average(np.log1p(np.exp(margins[0].numpy() - difference @ weight)), weights=weights.train))

    best = minimize(loss, np.zeros(4)).x
    assert fit.curve[-1].train_loss == pytest.approx(loss(best), abs=1e-4)
    assert np.linalg.norm(best) > np.linalg.norm(newton(train, 0.0))  # margins ask for larger differences


def leads_of(fit: HeadFit | MlpFit, pairs: torch.Tensor) -> np.ndarray:
    head, parts = fit.head, pairs.double()
    if isinstance(head, MlpHead):
        hidden = torch.nn.functional.gelu(parts @ head.inner.T + head.inner_bias)
        scores = hidden @ head.outer
    else:
        scores = parts @ head.weight
    found: np.ndarray = (scores[:, 0] - scores[:, 1]).numpy()
    return found


@pytest.mark.thorough
def test_a_weight_of_three_is_the_pair_three_times() -> None:
    """The oracle minimises the plain loss over repeated pairs by Newton's method."""
    train = problem(120, 4, seed=3)
    counts = torch.tensor([1.0, 3.0] * 60)
    settings = settings_of(lr=0.02, epochs=1500, batch_size=120, weight_decay=0.0)
    fit = fit_head(train, train, settings, seed=0, weights=Weights(counts, counts))
    repeated = train.repeat_interleave(counts.long(), dim=0)
    np.testing.assert_allclose(fit.head.weight.numpy(), newton(repeated, 0.0), atol=1e-4)
    assert np.abs(fit.head.weight.numpy() - newton(train, 0.0)).max() > 1e-2


def test_one_ranking_of_nine_does_not_outvote_ten_of_two() -> None:
    """36 pairs of one ranking say the feature is bad, 10 rankings of two say it is good."""
    bad, good = torch.tensor([[[0.0], [1.0]]] * 36), torch.tensor([[[1.0], [0.0]]] * 10)
    train = torch.cat((bad, good))
    weights = torch.tensor([1 / 36] * 36 + [1.0] * 10)
    settings = settings_of(lr=0.05, epochs=200, batch_size=46)
    weighted = fit_head(train, train, settings, seed=0, weights=Weights(weights, weights)).head.weight
    plain = fit_head(train, train, settings, seed=0).head.weight
    assert float(weighted[0]) > 0.5
    assert float(plain[0]) < -0.5


def test_the_validation_loss_that_chooses_is_weighted() -> None:
    train, held_out = problem(60, 3, seed=0), problem(40, 3, seed=1)
    fit = fit_head(train, held_out, settings_of(epochs=3), seed=0, weights=Weights(ones(60), torch.arange(1.0, 41.0)))
    margins = ((held_out[:, 0] - held_out[:, 1]).double() @ fit.head.weight).numpy()
    expected = np.average(np.log1p(np.exp(-margins)), weights=np.arange(1, 41))
    assert fit.curve[fit.best_epoch].validation_loss == pytest.approx(expected)


def test_equal_weights_change_no_bit() -> None:
    train = problem(100, 4, seed=0)
    one = fit_head(train, train, settings_of(epochs=3), seed=0)
    other = fit_head(train, train, settings_of(epochs=3), seed=0, weights=Weights(ones(100) / 4, ones(100)))
    assert torch.equal(one.head.weight, other.head.weight)
    assert one.curve == other.curve


def test_patience_ends_the_fit_and_keeps_the_best() -> None:
    train, held_out = problem(40, 20, seed=0), problem(200, 20, seed=1, noise=4.0)
    whole = fit_head(train, held_out, settings_of(lr=0.1, weight_decay=0.0, epochs=60), seed=0)
    short = fit_head(train, held_out, settings_of(lr=0.1, weight_decay=0.0, epochs=60, patience=4), seed=0)
    losses = [row.validation_loss for row in whole.curve]
    last = next(e for e in range(61) if e - int(np.argmin(losses[: e + 1])) == 4)
    assert len(short.curve) == last + 1 < 61
    assert short.curve == whole.curve[: last + 1]
    assert short.best_epoch == last - 4


def test_dropout_leaves_out_its_share_and_keeps_the_mean() -> None:
    kept = dropped(torch.ones(400, 50, dtype=torch.float64), 0.3, generator(0, "test"))
    assert kept.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)
    train = problem(200, 5, seed=0)
    plain, first, second = (
        fit_head(train, train, settings_of(epochs=5, dropout=share), seed=0).head.weight for share in (0.0, 0.5, 0.5)
    )
    assert torch.equal(first, second)
    assert not torch.equal(plain, first)


def either_or(n: int, seed: int) -> torch.Tensor:
    """Chosen: both features of one sign; rejected: of two. No linear head is better than chance."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(1, 0.2, (n, 2, 2)))
    sign = rng.choice([-1.0, 1.0], (n, 2))
    signs = np.stack([np.stack([sign[:, 0], sign[:, 0]], 1), np.stack([sign[:, 1], -sign[:, 1]], 1)], 1)
    return torch.tensor(size * signs * 5 + 3, dtype=torch.float32)


def share_right(scores: torch.Tensor) -> float:
    return float((scores[:, 0] > scores[:, 1]).float().mean())


@pytest.mark.parametrize("standardise", [True, False])
def test_a_hidden_layer_learns_what_is_not_linear(standardise: bool) -> None:
    train, held_out, test = either_or(300, 0), either_or(100, 1), either_or(200, 2)
    settings = settings_of(epochs=40, standardise=standardise, weight_decay=0.0)
    fit = fit_mlp(train, held_out, settings, units=16, seed=0, weights=None, on_epoch=lambda row: None)
    heads = make_heads(2, 1, 16)
    heads.load_state_dict({name: value.unsqueeze(0) for name, value in fit.head.state().items()})
    scores = heads(test.flatten(0, 1)).view(-1, 2)
    assert share_right(scores) > 0.95
    assert share_right(fit_head(train, held_out, settings, seed=0).head.scores(test)) < 0.65
    margins = (heads(held_out.flatten(0, 1)).view(-1, 2) @ torch.tensor([1.0, -1.0])).detach().numpy()
    saved = float(np.log1p(np.exp(-margins.astype(np.float64))).mean())
    assert saved == pytest.approx(fit.curve[fit.best_epoch].validation_loss, abs=1e-4)


def test_heads_of_an_ensemble_are_all_of_the_kind() -> None:
    train = either_or(60, 0)
    fits = fit_ensemble(
        train, train, settings_of(epochs=1, dropout=0.2), members=3, units=4, seed=0,
        weights=Weights(ones(60), ones(60)), on_epoch=lambda row: None,
    )  # fmt: skip
    assert all(isinstance(fit, MlpFit) for fit in fits)
    states = [fit.head.state() for fit in fits]
    assert not any(torch.equal(a["inner"], b["inner"]) for a, b in itertools.combinations(states, 2))
    heads = make_heads(2, 3, 4)
    heads.load_state_dict({name: torch.stack([state[name] for state in states]) for name in states[0]})
    alone = make_heads(2, 1, 4)
    alone.load_state_dict({name: value.unsqueeze(0) for name, value in states[1].items()})
    features = train[:5, 0]
    torch.testing.assert_close(heads(features)[:, 1], alone(features)[:, 0])


def test_nothing_to_train_on() -> None:
    with pytest.raises(UserError, match="0 training and 5 validation pairs"):
        fit_mlp(
            either_or(0, 0), either_or(5, 0), settings_of(), units=2, seed=0, weights=None, on_epoch=lambda row: None
        )
