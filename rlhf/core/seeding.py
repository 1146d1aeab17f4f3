"""Derive every random draw from (seed, stream, step, ...), never from hidden global state.

Stopping, resuming, splitting a batch or adding a stage therefore changes no draw that was not meant to change.
"""

import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import torch


def derive(seed: int, *stream: str | int) -> int:
    """Derive a 63-bit seed for one random stream: the first bits of SHA-256 over the seed and the stream's parts.

    Parts are tagged with their type and length, so ("a", "bc") and ("ab", "c") or "1" and 1 never coincide.
    """
    parts = [f"{type(part).__name__}:{len(str(part))}:{part}" for part in (seed, *stream)]
    digest = hashlib.sha256("|".join(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng(seed: int, *stream: str | int) -> random.Random:
    """Make Python's generator for one random stream."""
    return random.Random(derive(seed, *stream))


def numpy_rng(seed: int, *stream: str | int) -> "numpy.random.Generator":
    """Make NumPy's generator (PCG64) for one random stream."""
    import numpy

    return numpy.random.Generator(numpy.random.PCG64(derive(seed, *stream)))


def generator(seed: int, *stream: str | int) -> "torch.Generator":
    """Make torch's CPU generator for one random stream. Draw on the CPU and move: the numbers are then the same on
    every device."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *stream))
