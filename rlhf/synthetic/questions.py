"""The questions of the synthetic world: their forms, and how a question is read back out of any prompt."""

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from rlhf.synthetic.knowledge import Sort, Thing, how_tos, of_sort, things, values

Intent = Literal["lookup", "list", "compare", "how_to", "unknown"]
Slot = Literal["first", "second"]

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"

# {} stands for a thing ("a cow", "Paris"), for "two" or "three", for a property's value, or for a task.
_LOOKUPS: dict[tuple[Sort, Slot], tuple[str, ...]] = {
    ("animal", "first"): ("What does {} eat?", "What is the food of {}?", "Tell me what {} eats."),
    ("animal", "second"): ("Where does {} live?", "What is the home of {}?", "Tell me where {} lives."),
    ("food", "first"): ("What colour is {}?", "What is the colour of {}?", "Tell me the colour of {}."),
    ("food", "second"): ("How does {} taste?", "What is the taste of {}?", "Tell me how {} tastes."),
    ("city", "first"): ("Which country is {} in?", "What is the country of {}?", "Tell me which country {} is in."),
    ("city", "second"): ("Which river runs through {}?", "What is the river of {}?", "Tell me the river in {}."),
}
_COMPARISONS: dict[Sort, tuple[str, ...]] = {
    "animal": ("Which is heavier, {} or {}?", "Tell me the heavier one, {} or {}."),
    "food": ("Which is sweeter, {} or {}?", "Tell me the sweeter one, {} or {}."),
    "city": ("Which is larger, {} or {}?", "Tell me the larger one, {} or {}."),
}
_LISTS: dict[tuple[Sort, Slot], tuple[str, ...]] = {
    ("animal", "second"): ("Name {} animals that live {}.", "Which {} animals live {}?", "List {} animals {}."),
    ("food", "first"): ("Name {} foods that are {}.", "Which {} foods are {}?", "List {} foods coloured {}."),
    ("city", "first"): ("Name {} cities in {}.", "Which {} cities are in {}?", "List {} cities of {}."),
}
_HOW_TOS = ("How do I {}?", "How can I {}?", "Tell me how to {}.", "What is the way to {}?")
NUMBERS = {"two": 2, "three": 3}
GREETINGS = ("", "Hi! ", "Please help me. ", "I have a question. ", "Good morning. ", "Quick one: ")
ENDINGS = ("", " Thanks!", " Please be brief.", " I want to learn.")


@dataclass(frozen=True, slots=True)
class Question:
    """A question as the world understands it.

    `subjects` are the names it is about, known or not. `things`, `steps`, `sort`, `slot`, `value` and `number` hold
    what the intent needs. An `unknown` question names at least one subject the world does not hold.
    """

    intent: Intent
    subjects: tuple[str, ...]
    things: tuple[Thing, ...] = ()
    steps: tuple[str, ...] = ()
    sort: Sort = "animal"
    slot: Slot = "first"
    value: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Form:
    """One way of putting a question: a template, and what its gaps mean."""

    template: str
    family: Literal["lookup", "list", "compare", "how_to"]
    sort: Sort = "animal"
    slot: Slot = "first"

    def read(self, gaps: tuple[str, ...]) -> Question:
        """Read the question that this form asks once its gaps are filled; any words may stand in them."""
        if self.family == "list":
            return self._list(*gaps)
        subjects = tuple(re.sub("^an? ", "", gap) for gap in gaps)
        if self.family == "how_to":
            how_to = how_tos().get(subjects[0])
            return Question("how_to", subjects, steps=how_to.steps) if how_to else Question("unknown", subjects)
        known = tuple(things()[name] for name in subjects if name in things() and things()[name].sort == self.sort)
        if len(known) < len(subjects):
            return Question("unknown", tuple(name for name in subjects if name not in things()) or subjects)
        return Question(self.family, subjects, known, sort=self.sort, slot=self.slot)

    def _list(self, number: str, value: str) -> Question:
        if value not in list_values(self.sort, self.slot) or number not in NUMBERS:
            return Question("unknown", (value,))
        return Question("list", (), sort=self.sort, slot=self.slot, value=value, number=NUMBERS[number])


@cache
def forms() -> tuple[Form, ...]:
    """List every form of question, in a fixed order."""
    return (
        *(Form(text, "lookup", sort, slot) for (sort, slot), texts in _LOOKUPS.items() for text in texts),
        *(Form(text, "compare", sort) for sort, texts in _COMPARISONS.items() for text in texts),
        *(Form(text, "list", sort, slot) for (sort, slot), texts in _LISTS.items() for text in texts),
        *(Form(text, "how_to") for text in _HOW_TOS),
    )


@lru_cache(maxsize=8192)
def parse(prompt: str) -> Question | None:
    """Read the question of the last human turn, or return None if no known form of question is found in it.

    Any text will do: without dialogue markers all of it is read.
    """
    turn = prompt.rpartition(HUMAN)[2].partition(ASSISTANT)[0]
    for form, pattern in _patterns():
        if match := pattern.search(turn):
            return form.read(match.groups())
    return None


@cache
def _patterns() -> tuple[tuple[Form, re.Pattern[str]], ...]:
    return tuple((form, re.compile(re.escape(form.template).replace(r"\{\}", r"([\w ]+?)"))) for form in forms())


def list_values(sort: Sort, slot: Slot) -> tuple[str, ...]:
    """List the property values that at least three things share: only these are asked for in lists."""
    return tuple(value for value in values(sort, slot) if len(members(sort, slot, value)) >= 3)


def members(sort: Sort, slot: Slot, value: str) -> tuple[str, ...]:
    """Return the names of the things of a sort that have this value."""
    return tuple(thing.name for thing in of_sort(sort) if getattr(thing, slot) == value)
