"""The finished run in miniature that `evaluate` is tested on: `compare` reads what it reads."""

from tests.evaluate.conftest import world

__all__ = ["world"]
