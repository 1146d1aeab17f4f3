"""A turn of a conversation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """One turn. `role` is "system", "user", "assistant" or "tool"."""

    role: str
    content: str
