"""The turns of a prompt, so that people see who said what."""

import re

from pydantic import Field, field_validator

from rlhf.core.conversation import Turn, role_order
from rlhf.core.params import Section
from rlhf.core.text import printable
from rlhf.labels.record import Question

_MARK = re.compile(r"(?:\A|\n\n)\s*(Human|User|Assistant|System):")
_ROLES = {"Human": "user", "User": "user", "Assistant": "assistant", "System": "system"}


class Said(Section):
    """One turn of a prompt."""

    role: str
    content: str


class Asked(Question):
    """A question whose prompt's turns may be known, as `prepare` writes them: its text may be a template's."""

    conversation: list[Said] | None = Field(default=None)

    @field_validator("conversation")
    @classmethod
    def _in_order(cls, turns: list[Said] | None) -> list[Said] | None:
        if turns is not None and (wrong := role_order([Turn(one.role, one.content) for one in turns])):
            raise ValueError(wrong)
        return turns


def turns_of(question: Question) -> list[Turn]:
    """Return a prompt's turns, each fit to be shown; the marker of the reply that is due is left out. A prompt that
    does not begin with a turn's marker is one turn of the user, as it is."""
    if isinstance(question, Asked) and question.conversation:
        turns = [Turn(one.role, one.content) for one in question.conversation]
    else:
        turns = _split(question.prompt)
    return [Turn(turn.role, printable(turn.content.strip(), lines=True)) for turn in turns]


def _split(prompt: str) -> list[Turn]:
    marks = list(_MARK.finditer(prompt))
    if not marks or prompt[: marks[0].start()].strip():
        return [Turn("user", prompt)]
    ends = [*(mark.start() for mark in marks[1:]), len(prompt)]
    turns = [Turn(_ROLES[mark[1]], prompt[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)]
    return turns[:-1] if len(turns) > 1 and not turns[-1].content.strip() else turns
