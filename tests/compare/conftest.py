"""The finished run in miniature that `evaluate` is tested on: `compare` reads what it reads, and what it wrote."""

from tests.evaluate.conftest import built, world

__all__ = ["built", "world"]
