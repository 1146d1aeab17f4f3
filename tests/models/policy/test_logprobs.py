"""Log-probabilities, entropies and draws against the definition in float64 and numbers worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlhf.models.policy.logprobs import chunked, draw, token_entropy, token_logprobs
from tests.models import helpers

numbers = st.floats(-30, 30, width=32)


@given(st.lists(numbers, min_size=2, max_size=9), st.floats(0.1, 5), st.data())
def test_logprob_and_entropy_are_those_of_the_definition(
    logits: list[float], temperature: float, data: st.DataObject
) -> None:
    token = data.draw(st.integers(0, len(logits) - 1))
    wide = torch.tensor([logits], dtype=torch.float64)
    found = token_logprobs(wide, torch.tensor([token]), temperature=temperature)
    assert found.item() == pytest.approx(helpers.log_softmax(logits, temperature)[token], abs=1e-9)
    assert token_entropy(wide, temperature=temperature).item() == pytest.approx(
        helpers.entropy(logits, temperature), abs=1e-9
    )


def test_by_hand() -> None:
    # softmax([0, log 3]) = [1/4, 3/4]; at temperature 1/2 the odds are 9: [1/10, 9/10].
    logits = torch.tensor([[0.0, math.log(3.0)]])
    token = torch.tensor([1])
    torch.testing.assert_close(token_logprobs(logits, token, temperature=1.0), torch.tensor([math.log(0.75)]))
    torch.testing.assert_close(token_logprobs(logits, token, temperature=0.5), torch.tensor([math.log(0.9)]))
    expected = 0.1 * math.log(10) + 0.9 * math.log(10 / 9)
    torch.testing.assert_close(token_entropy(logits, temperature=0.5), torch.tensor([expected]))


def test_a_token_of_probability_zero_leaves_the_entropy_finite() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]])
    torch.testing.assert_close(token_entropy(logits, temperature=0.7), torch.tensor([math.log(2.0)]))


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_chunks_change_nothing(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(11, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(0, 11, (7,), generator=generator)
    logprobs, entropies = chunked(lambda h: h @ weight.T, hidden, ids, temperature=0.7, rows=rows)
    for i in range(7):
        logits = (hidden[i] @ weight.T).tolist()
        assert logprobs[i].item() == pytest.approx(helpers.log_softmax(logits, 0.7)[ids[i]], abs=1e-9)
        assert entropies[i].item() == pytest.approx(helpers.entropy(logits, 0.7), abs=1e-9)
    assert not entropies.requires_grad
    assert logprobs.requires_grad


def test_no_tokens_at_all() -> None:
    empty, ids = torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64)
    logprobs, entropies = chunked(lambda h: h, empty, ids, temperature=1.0, rows=4)
    assert logprobs.shape == entropies.shape == (0,)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sampling_frequencies_are_the_probabilities(temperature: float) -> None:
    logits = [0.3, -1.0, 2.0, 0.0, -0.5]
    draws = 20_000
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(3))
    tokens = draw(torch.tensor([logits]).expand(draws, -1), uniforms, temperature=temperature).ids
    expected = [draws * math.exp(value) for value in helpers.log_softmax(logits, temperature)]
    assert stats.chisquare(torch.bincount(tokens, minlength=5).tolist(), expected).pvalue > 0.01


def test_sampling_by_hand() -> None:
    # Probabilities 0, 1/4, 0, 3/4, 0: the boundaries belong to the token above them, impossible tokens never come.
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, math.log(3.0), -torch.inf]).expand(5, -1)
    uniforms = torch.tensor([0.0, 0.2499, 0.2501, 0.5, 1.0])
    assert draw(logits, uniforms, temperature=1.0).ids.tolist() == [1, 1, 3, 3, 3]


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.permutations(range(6)))
def test_a_row_depends_on_itself_alone(seed: int, order: list[int]) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, uniforms = torch.randn(6, 40, generator=generator), torch.rand(6, generator=generator)
    together = draw(logits, uniforms, temperature=0.7).ids
    assert draw(logits[order], uniforms[order], temperature=0.7).ids.tolist() == together[order].tolist()
    apart = [draw(logits[i : i + 1], uniforms[i : i + 1], temperature=0.7).ids.item() for i in range(6)]
    assert apart == together.tolist()


def test_greedy_takes_the_most_probable() -> None:
    assert draw(torch.tensor([[0.0, 2.0, 1.0]]), None, temperature=0.1).ids.tolist() == [1]


def test_what_is_drawn_comes_with_its_logprob_and_entropy() -> None:
    logits = torch.tensor([[0.0, math.log(3.0), -torch.inf]])
    drawn = draw(logits, torch.tensor([0.5]), temperature=0.5)
    assert drawn.ids.tolist() == [1]
    torch.testing.assert_close(drawn.logprobs, torch.tensor([math.log(0.9)]))
    torch.testing.assert_close(drawn.entropy, torch.tensor([0.1 * math.log(10) + 0.9 * math.log(10 / 9)]))
