"""The finished run in miniature that `evaluate` is tested on, for what is measured by the whole stage."""

from tests.evaluate.conftest import built, world

__all__ = ["built", "world"]
