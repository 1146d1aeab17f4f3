"""The type checker of the tests themselves: it finds a wrong shape, in each test anew."""

import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests import typechecker


def product(a: Float[Tensor, "rows inner"], b: Float[Tensor, "inner columns"]) -> Float[Tensor, "rows columns"]:
    return torch.ones(3, 3)


def nested() -> Tensor:
    @jaxtyping.jaxtyped(typechecker=typechecker.checker)
    def inner(a: Float[Tensor, "rows"]) -> Tensor:
        return a

    return inner(torch.ones(2, 2))


def test_the_first_calls_of_each_test_are_checked() -> None:
    checked = jaxtyping.jaxtyped(typechecker=typechecker.checker)(product)
    good, wrong = torch.ones(3, 3), torch.ones(2, 2)
    for _ in range(2):
        typechecker.begin_test()
        assert checked(good, good).shape == (3, 3)
        for _ in range(typechecker.CALLS - 1):
            with pytest.raises(jaxtyping.TypeCheckError, match="product"):
                checked(wrong, wrong)
        assert checked(wrong, wrong).shape == (3, 3)


def test_a_function_within_a_function_too() -> None:
    for _ in range(typechecker.CALLS):
        with pytest.raises(jaxtyping.TypeCheckError, match="inner"):
            nested()
    assert nested().shape == (2, 2)
