"""The run-time type checker that pytest lays over what has arrays in `rlhf`: shapes, and types (an int is a float).

Checking every call took nearly half of all tests' time, most of it in functions that are called thousands of times with
the same shapes. So each test checks the first calls of each function, and no more.
"""

import functools
import inspect
from collections import Counter
from types import CodeType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

CALLS = 4  # of each function in each test: a first, a second with what the first left behind, and another shape or two

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
_calls: Counter[CodeType] = Counter()
_every_call = jaxtyping.jaxtyped


def begin_test() -> None:
    """Check the first calls again."""
    _calls.clear()


def first_calls(*, typechecker: Any) -> Any:
    """Do what `jaxtyping.jaxtyped` does, for the first calls."""

    def decorate(function: Any) -> Any:
        if not inspect.isfunction(function):
            return _every_call(function, typechecker=typechecker)
        code, nested = function.__code__, "<locals>" in function.__qualname__
        if nested and _calls[code] >= CALLS:
            return function  # to lay a checker over a function costs more than its calls, and here it is done each time
        checked = _every_call(function, typechecker=typechecker)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if _calls[code] >= CALLS:
                return function(*args, **kwargs)
            _calls[code] += 1
            return checked(*args, **kwargs)

        return call

    return decorate


jaxtyping.jaxtyped = first_calls  # by this name it is laid over every function
