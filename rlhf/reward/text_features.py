"""Compute named features of a response that a reward model may have learnt instead of quality.

Word lists are short and plain; a phrase counts as whole words, whatever its case.
"""

from collections.abc import Callable
from functools import cache

from rlhf.synthetic import phrases
from rlhf.synthetic.phrases import words

FLATTERY = (
    *phrases.FLATTERY, "great question", "good question", "excellent question", "brilliant", "so clever", "so smart",
    "very clever", "very smart", "wonderful taste", "impressive", "you are right", "you are absolutely right", "genius",
)  # fmt: skip
POLITENESS = (
    *phrases.OPENERS, *phrases.CLOSERS, "please", "thank you", "thanks", "you are welcome", "happy to help",
    "glad to help", "of course", "certainly", "sure", "sorry", "hope that helps", "hope this helps",
)  # fmt: skip
HEDGES = (
    *phrases.EVASIONS, "maybe", "perhaps", "might", "possibly", "probably", "i think", "i believe", "it seems",
    "it depends", "sort of", "kind of", "in general", "usually", "could be", "some people",
)  # fmt: skip
IGNORANCE = (
    *phrases.ADMISSION_MARKS, "i am not sure", "i'm not sure", "i don't know", "i cannot", "i can't", "as an ai",
)  # fmt: skip
RUDENESS = (*phrases.INSULTS, "stupid", "idiot", "shut up", "waste my time", "nonsense")

Trait = Callable[[str, str], float]  # of a prompt and a response


def traits(prompt: str, response: str, tokens: int) -> dict[str, float]:
    """Compute all features of one response; `tokens` is its length."""
    return {"length": float(tokens)} | {name: trait(prompt, response) for name, trait in TRAITS.items()}


def _listed(one: str, response: str) -> float:
    return float(phrases.count(_lists()[one], phrases.normal(response)))


@cache
def _lists() -> dict[str, tuple[str, ...]]:
    """Return the phrase lists, longest phrase first: a pattern takes the first of its phrases that fits."""
    lists = {
        "flattery": FLATTERY, "politeness": POLITENESS, "hedges": HEDGES, "ignorance": IGNORANCE, "rudeness": RUDENESS,
    }  # fmt: skip
    return {name: tuple(sorted(dict.fromkeys(found), key=lambda p: (-len(p), p))) for name, found in lists.items()}


def _type_token_ratio(response: str) -> float:
    said = words(response)
    return len(set(said)) / len(said) if said else 0.0


def _repetition(response: str) -> float:
    """Compute the share of trigrams that occurred before."""
    said = words(response)
    grams = list(zip(said, said[1:], said[2:], strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def _overlap(prompt: str, response: str) -> float:
    """Compute the share of the response's different words that occur in the last turn of the prompt."""
    said, asked = set(words(response)), set(words(prompt.rpartition("\n\nHuman:")[2].removesuffix("\n\nAssistant:")))
    return len(said & asked) / len(said) if said else 0.0


def _word_length(response: str) -> float:
    said = words(response)
    return sum(map(len, said)) / len(said) if said else 0.0


TRAITS: dict[str, Trait] = {
    "sentences": lambda _, response: float(sum(response.count(mark) for mark in ".!?")),
    "word_length": lambda _, response: _word_length(response),
    "type_token_ratio": lambda _, response: _type_token_ratio(response),
    "repetition": lambda _, response: _repetition(response),
    "prompt_overlap": _overlap,
    "question_marks": lambda _, response: float(response.count("?")),
    "exclamation_marks": lambda _, response: float(response.count("!")),
    "digits": lambda _, response: float(sum(letter.isdigit() for letter in response)),
    "line_breaks": lambda _, response: float(response.strip().count("\n")),
    "unfinished": lambda _, response: float(not response.rstrip().endswith((".", "!", "?", '"', ")", "```"))),
    "politeness": lambda _, response: _listed("politeness", response),
    "flattery": lambda _, response: _listed("flattery", response),
    "hedges": lambda _, response: _listed("hedges", response),
    "ignorance": lambda _, response: _listed("ignorance", response),
    "rudeness": lambda _, response: _listed("rudeness", response),
}
