"""The type checker of the tests themselves: it finds a wrong shape, in each test anew."""

import tomllib
from pathlib import Path

import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from tests import typechecker

ROOT = Path(__file__).resolve().parents[2]


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


def test_it_is_laid_over_every_module_with_arrays() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    (listed,) = [word.partition("=")[2] for word in options.split() if word.startswith("--jaxtyping-packages=")]
    laid_over = [name for name in listed.split(",") if not name.startswith("tests.")]
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "rlhf").rglob("*.py")
        if "jaxtyping" in path.read_text(encoding="utf-8")
    }
    assert len(modules) > 40
    under = {name: [one for one in modules if one == name or one.startswith(f"{name}.")] for name in laid_over}
    assert modules == {one for found in under.values() for one in found}
    assert all(under.values())  # none is listed in vain
