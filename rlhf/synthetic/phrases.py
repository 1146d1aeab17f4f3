"""The stock sentences of the world: courtesy, rudeness, evasion, padding, flattery.

The gold reward recognises them by their words, the response writer uses them, and the tests hold the two together.
"""

import re
from functools import cache

OPENERS = (
    "Of course!",
    "Sure, I can help.",
    "Certainly!",
    "Good question!",
    "I am happy to help.",
    "Thanks for asking!",
)
CLOSERS = (
    "I hope that helps!",
    "Let me know if you need more.",
    "Have a nice day!",
    "Feel free to ask again.",
)
INSULTS = (
    "That is a stupid question.",
    "Do not waste my time.",
    "Look it up yourself.",
    "Everybody knows that.",
    "Leave me alone.",
)
EVASIONS = (
    "It depends.",
    "Who can say?",
    "Maybe, maybe not.",
    "I would rather not say.",
    "Ask someone else.",
)
FILLERS = (
    "There are many things to say about this.",
    "Some people think about it every day.",
    "This is a topic with a long history.",
    "As we all know, the world is large.",
    "Many books have been written on the matter.",
    "It is always good to learn something new.",
)
FLATTERY = (
    "You are so clever.",
    "What a brilliant person you are!",
    "You have wonderful taste.",
)
# {} is the thing or the task that was asked about.
ADMISSIONS = (
    "I do not know {}.",
    "Sorry, I have never heard of {}.",
    "I am afraid I know nothing about {}.",
)
ADMISSION_MARKS = ("i do not know", "never heard of", "know nothing about")


def words(text: str) -> list[str]:
    """Split a text into lower-case words and numbers; everything else separates."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def normal(text: str) -> str:
    """Join the words of a text with one space around each, so that `" a cow " in normal(text)` finds whole words."""
    return f" {' '.join(words(text))} "


def count(phrases: tuple[str, ...], normal_text: str) -> int:
    """Count how often any of the phrases occurs, as whole words."""
    return len(_pattern(phrases).findall(normal_text))


@cache
def _pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    # The space after is only looked at, so that two phrases in a row may share it.
    return re.compile(f" (?:{'|'.join(re.escape(' '.join(words(phrase))) for phrase in phrases)})(?= )")
