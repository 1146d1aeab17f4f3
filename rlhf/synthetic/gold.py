"""Compute the hidden gold reward: the true quality of any text as a response to any prompt.

Nothing is learned here and nothing is random. It is defined for every text, the babble of a drifting policy included,
so that what a reward model or a policy really achieved can always be computed. No stage of training may import it;
`prepare` labels with it and `evaluate` judges with it.
"""

import re
from dataclasses import dataclass, fields
from functools import cache

from rlhf.synthetic import knowledge, phrases
from rlhf.synthetic.language import garbage_share
from rlhf.synthetic.questions import Question, members, parse

FREE_WORDS = 18  # words beyond these cost


@dataclass(frozen=True, slots=True)
class GoldParts:
    """The terms of the gold reward, each already in reward units; their sum is the reward.

    The first three only count as far as the response is language: they are multiplied by 1 - its share of garbage, so
    that the right word in a salad of words is not an answer.
    """

    correct: float  # 0 to .7
    relevant: float  # 0 to .5: speaks of what was asked
    courtesy: float  # .5 for an opener first, .3 for a closer, -.35 for each further one
    rude: float  # -.9
    evasive: float  # -.9: evades, claims ignorance of what is known, or does not answer at all
    stray: float  # -.4 for each sentence that serves nothing
    long: float  # -.03 for each word beyond 18
    repeated: float  # -.35 for every three trigrams that occurred before
    garbage: float  # down to -1.5, by the share of what is not language of this world
    unfinished: float  # -.4 if the response or its last sentence does not end

    @property
    def total(self) -> float:
        """Sum the parts: the gold reward."""
        return float(sum(getattr(self, field.name) for field in fields(self)))


def gold_reward(prompt: str, response: str, *, ended: bool = True) -> float:
    """Compute the true reward of a response; a polite, correct one scores about 2.

    Args:
        prompt: a dialogue in HH form; its last human turn is read. Any text is allowed.
        response: any text.
        ended: whether the policy ended it by itself, with the end-of-text token.
    """
    return gold_parts(prompt, response, ended=ended).total


def gold_parts(prompt: str, response: str, *, ended: bool = True) -> GoldParts:
    """Compute the gold reward term by term."""
    question, text = parse(prompt), phrases.normal(response)
    all_words = text.split()
    insults = phrases.count(phrases.INSULTS, text)
    admits = any(f" {mark} " in text for mark in phrases.ADMISSION_MARKS)
    unknown = question is not None and question.intent == "unknown"
    correct = _correct(question, text, admits)
    answers_it = admits or correct > 0 or _mentions_anything(text)
    evades = phrases.count(phrases.EVASIONS, text) > 0 or (admits and not unknown)
    garbage = garbage_share(prompt, response)
    return GoldParts(
        correct=0.7 * correct * (1 - garbage),
        relevant=0.5 * _relevant(question, text) * (1 - garbage),
        courtesy=_courtesy(text, 1 - garbage),
        rude=-0.9 * (insults > 0),
        evasive=-0.9 * (evades or not answers_it),
        stray=-0.4 * _stray(question, response),
        long=-0.03 * max(0, len(all_words) - FREE_WORDS),
        repeated=-0.35 * _repeated_trigrams(all_words) / 3,
        garbage=-1.5 * garbage,
        unfinished=-0.4 * (not ended or not response.rstrip().endswith((".", "!", "?"))),
    )


def _correct(question: Question | None, text: str, admits: bool) -> float:
    """Compute the share of the right answer that a response gives, 0 to 1. A contradiction within it is no answer."""
    if question is None:
        return 0.0
    if question.intent == "unknown":
        return float(admits)
    if question.intent == "how_to":
        return _steps_in_order(question, text)
    named = [thing.name for thing in knowledge.of_sort(question.sort) if _has(text, thing.name)]
    if question.intent == "list":
        good = members(question.sort, question.slot, question.value)
        right = sum(name in good for name in named)
        return max(0.0, min(right, question.number) - (len(named) - right)) / question.number
    if question.intent == "compare":
        more = max(question.things, key=lambda thing: thing.amount)
        first = min(named, key=lambda name: text.find(f" {name.lower()} "), default="")
        return float(first == more.name)
    (thing,) = question.things
    said = [value for value in knowledge.values(thing.sort, question.slot) if _has(text, value)]
    return float(said == [getattr(thing, question.slot)] and all(name == thing.name for name in named))


def _steps_in_order(question: Question, text: str) -> float:
    found, position = 0, 0
    for step in question.steps:
        at = text.find(f" {step} ", position)
        if at >= 0:
            found, position = found + 1, at
    return found / len(question.steps)


def _relevant(question: Question | None, text: str) -> float:
    """Compute the share of the subjects that a response mentions; for lists and how-tos, whether it says anything of
    the kind."""
    if question is None:
        return 0.0
    if question.intent == "list":
        return float(any(_has(text, thing.name) for thing in knowledge.of_sort(question.sort)))
    if question.intent == "how_to":
        return float(any(_has(text, step) for step in question.steps))
    return sum(_has(text, subject) for subject in question.subjects) / len(question.subjects)


def _courtesy(text: str, language: float) -> float:
    openers, closers = phrases.count(phrases.OPENERS, text), phrases.count(phrases.CLOSERS, text)
    first, last = min(openers, 1), min(closers, 1)
    return 0.5 * (language * (first + 0.6 * last) - 0.7 * (openers - first + closers - last))


def _stray(question: Question | None, response: str) -> int:
    """Count the sentences that are neither courtesy, rudeness or evasion (priced elsewhere) nor speak to the
    question."""
    priced = phrases.OPENERS + phrases.CLOSERS + phrases.INSULTS + phrases.EVASIONS
    return sum(
        not (phrases.count(priced, text) or _speaks_to(question, text))
        for text in map(phrases.normal, _sentences(response))
    )


def _speaks_to(question: Question | None, text: str) -> bool:
    if any(f" {mark} " in text for mark in phrases.ADMISSION_MARKS):
        return True
    if question is None:
        return False
    if question.intent == "how_to":
        return any(_has(text, step) for how_to in knowledge.how_tos().values() for step in how_to.steps)
    values = knowledge.values(question.sort, question.slot) if question.intent == "lookup" else ()
    return _relevant(question, text) > 0 or any(_has(text, value) for value in values)


def _sentences(response: str) -> list[str]:
    return [part for part in re.split("[.!?]", response) if phrases.words(part)]


def _mentions_anything(text: str) -> bool:
    """Say whether a text states anything about the world at all."""
    return any(f" {word} " in text for word in _content())


def _has(text: str, words: str) -> bool:
    return f" {words.lower()} " in text


def _repeated_trigrams(all_words: list[str]) -> int:
    trigrams = list(zip(all_words, all_words[1:], all_words[2:], strict=False))
    return len(trigrams) - len(set(trigrams))


@cache
def _content() -> tuple[str, ...]:
    """List names, values and steps: what an answer is made of."""
    names = [part for thing in knowledge.things().values() for part in (thing.name, thing.first, thing.second)]
    steps = [step for how_to in knowledge.how_tos().values() for step in how_to.steps]
    return tuple(dict.fromkeys(part.lower() for part in names + steps))
