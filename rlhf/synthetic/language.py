"""Measure how far a text is language of the synthetic world: words that it has, in an order that its sentences have."""

import itertools
import re
from collections.abc import Iterator
from functools import cache

from rlhf.synthetic import phrases
from rlhf.synthetic.answers import COMPARATIVES, STATEMENTS, steps_sentence
from rlhf.synthetic.knowledge import how_tos, of_sort, things, values


def garbage_share(prompt: str, response: str) -> float:
    """Compute 0 for sentences of this world, 1 for babble: twice the share of words that neither the world nor the
    prompt has, or that follow each other as in no sentence."""
    lexicon, neighbours = _lexicon(), _neighbours()
    sentences = [phrases.words(part) for part in re.split("[.!?]", response)]
    all_words = [word for sentence in sentences for word in sentence]
    pairs = [pair for sentence in sentences for pair in itertools.pairwise(sentence)]
    known = lexicon | frozenset(phrases.words(prompt))
    strange = sum(word not in known for word in all_words)
    # Neighbours of words that only the prompt has, or nobody, are not judged.
    astray = sum(a in lexicon and b in lexicon and (a, b) not in neighbours for a, b in pairs)
    return min(1.0, 2 * strange / max(1, len(all_words)) + astray / max(1, len(pairs)))


@cache
def _lexicon() -> frozenset[str]:
    return frozenset(word for sentence in _sentences() for word in phrases.words(sentence))


@cache
def _neighbours() -> frozenset[tuple[str, str]]:
    split = (phrases.words(part) for sentence in _sentences() for part in re.split("[.!?]", sentence))
    return frozenset(pair for part in split for pair in itertools.pairwise(part))


def _sentences() -> Iterator[str]:
    """Yield sentences that hold every word, and every two neighbours, of all that is ever said in this world."""
    yield from phrases.OPENERS + phrases.CLOSERS + phrases.INSULTS
    yield from phrases.EVASIONS + phrases.FILLERS + phrases.FLATTERY
    for (sort, slot), templates in STATEMENTS.items():
        for template in templates:
            for thing in of_sort(sort):
                yield from (template.format(noun=thing.noun, value=value) for value in values(sort, slot))
    for thing in things().values():
        yield f"{thing.noun} is {COMPARATIVES[thing.sort]} than {thing.noun}"
        yield from (f"{thing.noun}, {other.noun} and {thing.noun}" for other in of_sort(thing.sort))
        yield from (admission.format(thing.noun) for admission in phrases.ADMISSIONS)
    for how_to in how_tos().values():
        yield from (steps_sentence(step, step, step) for step in how_to.steps)
        yield from (admission.format(f"how to {how_to.task}") for admission in phrases.ADMISSIONS)
    for value in (value for sort, slot in STATEMENTS for value in values(sort, slot)):
        yield from (admission.format(value) for admission in phrases.ADMISSIONS)
