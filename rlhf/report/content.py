"""What a report consists of, before it is HTML or Markdown. Texts are plain, with `code` between backticks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


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
    """A list of short statements."""

    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head. `short` tables are in the Markdown as well; the others are for the page alone."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str
    short: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing, made when it is asked for as SVG, and in words what it shows."""

    name: str
    draw: Callable[[], str]
    caption: str
    alt: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One policy's response to one prompt; `scores` are as shown."""

    policy: str
    text: str
    ended: bool
    scores: Sequence[str]


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt with every policy's answer; outcomes are win, tie or lose of PPO against SFT by measure."""

    prompt: str
    answers: Sequence[Answer]
    outcomes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Samples:
    """Answers side by side; `measures` are those that outcomes are known by, with their names."""

    samples: Sequence[Sample]
    measures: dict[str, str]


Block = Text | Notice | Points | Table | Figure | Samples


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part; `name` is its anchor."""

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    """The whole."""

    title: str
    sections: Sequence[Section]
