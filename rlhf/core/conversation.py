"""Turns of a conversation, and how they are shown to people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation. `role` is one of ROLES."""

    role: str
    content: str


def role_order(turns: Sequence[Turn]) -> str | None:
    """Say what is wrong with the order of a prompt's turns; None where nothing is.

    A prompt is at most one system turn, at its start, then user and assistant by turns, and ends where a reply is due:
    after a user's turn or a tool's. Tools answer an assistant.
    """
    if not turns:
        return "there are no turns"
    before = "start"
    for number, turn in enumerate(turns, start=1):
        if turn.role not in ROLES:
            return f"turn {number} has the role {turn.role!r:.40}; roles are {', '.join(ROLES)}"
        if turn.role not in _MAY_FOLLOW[before]:
            after = "begins the conversation" if before == "start" else f"follows {_A[before]} turn"
            return f"turn {number}: {_A[turn.role]} turn {after}"
        before = turn.role
    return None if before in ("user", "tool") else f"it ends with {_A[before]} turn, where a reply must be due"


def labelled(turns: Sequence[Turn]) -> str:
    """Write turns for readers, each under its role: "User: ...", a blank line between them."""
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.content.strip()}" for turn in turns)


def turn_break(template: str) -> str:
    """Return what parts a turn of `template` from the reply before it: nothing where it begins with white space of its
    own, else a blank line."""
    return "" if template[:1].isspace() else "\n\n"


def shown(row: Mapping[str, object], prompt: str) -> str:
    """Return the prompt of a row of pairs for readers: its turns under their roles where the row has them
    ("conversation" of `prepare`), else the text itself."""
    turns = row.get("conversation")
    if not isinstance(turns, list) or not turns:
        return prompt
    return labelled([Turn(str(turn["role"]), str(turn["content"])) for turn in turns])


_MAY_FOLLOW = {
    "start": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant", "user"),
}
_A = {"system": "a system", "user": "a user", "assistant": "an assistant", "tool": "a tool"}
