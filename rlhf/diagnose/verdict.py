"""Signs and how they add up. A sign is one number against its two thresholds; a verdict is made of signs.

States are ordered sound < suspect < failed, and `any_of` and `all_of` are the maximum and the minimum in that order, so
that more of a symptom never makes a verdict better.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlhf.diagnose.params import Above, Below, VerdictName

State = Literal["sound", "suspect", "failed", "unknown"]
STATES: tuple[State, ...] = ("sound", "suspect", "failed")  # from best to worst; unknown has no place among them


@dataclass(frozen=True, slots=True)
class Sign:
    """A number, its thresholds, and what it says in words."""

    name: str
    value: float | None
    limit: Above | Below
    says: str

    @property
    def state(self) -> State:
        """unknown where there is no number."""
        if self.value is None:
            return "unknown"
        worse = self.value if isinstance(self.limit, Above) else -self.value
        suspect, failed = (
            bound if isinstance(self.limit, Above) else -bound for bound in (self.limit.suspect, self.limit.failed)
        )
        return "failed" if worse >= failed else "suspect" if worse >= suspect else "sound"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one look at a run says.

    `signs` have thresholds, `context` are further numbers that a reader wants to see, `remedies` say what to change, by
    parameter name and in order of promise.
    """

    name: VerdictName
    state: State
    because: str
    signs: tuple[Sign, ...]
    context: tuple[tuple[str, float | str | None], ...] = ()
    remedies: tuple[str, ...] = ()

    def with_remedies(self, remedies: Sequence[str]) -> "Verdict":
        """The same with what to change; a sound or unknown verdict needs none."""
        return replace(self, remedies=tuple(remedies) if self.state in ("suspect", "failed") else ())


def any_of(states: Iterable[State]) -> State:
    """The worst of the known states; unknown if none is known."""
    known = [state for state in states if state != "unknown"]
    return max(known, key=STATES.index, default="unknown")


def all_of(states: Iterable[State]) -> State:
    """The best of the states: only as bad as all of them are. Sound if one is; else unknown if one is unknown."""
    found = list(states)
    if "unknown" in found:
        return "sound" if "sound" in found else "unknown"
    return min(found, key=STATES.index, default="unknown")
