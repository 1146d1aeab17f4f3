"""Parts of a report, before it is HTML or Markdown. Texts are plain, with `code` between backticks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """The overall verdict: its state, a sentence, and a line for each verdict that is not sound."""

    state: str
    text: str
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Fact:
    """A headline number as text, with its interval (empty where it has none) and a remark."""

    label: str
    value: str
    interval: str
    remark: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Headline numbers, in the order of their weight."""

    items: Sequence[Fact]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A paragraph that must not be missed."""

    text: str


@dataclass(frozen=True, slots=True)
class Points:
    """A list of short statements, under a heading of its own where `title` is not empty."""

    items: Sequence[str]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head. Tables that are not `short` are in the page alone, folded."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    short: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing: `draw` returns it as an <svg> element, `alt` tells in words what it shows."""

    name: str
    draw: Callable[[], str]
    caption: str
    alt: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One policy's reply to one prompt, with its scores as text."""

    policy: str
    text: str
    ended: bool
    scores: Sequence[str]


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with every policy's reply. `outcomes`: win, tie or lose of PPO against SFT, by measure."""

    prompt: str
    answers: Sequence[Answer]
    outcomes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Samples:
    """Replies side by side. `measures`: those with outcomes, by name, with their titles."""

    samples: Sequence[Sample]
    measures: dict[str, str]


Block = Status | Facts | Text | Notice | Points | Table | Figure | Samples


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part; `name` is its anchor."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    """A title and sections; the first section is the opening."""

    title: str
    sections: Sequence[Section]
