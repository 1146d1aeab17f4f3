"""Make the synthetic task's data: labelled pairs, prompts from outside the distribution, and a corpus to pretrain
on."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlhf.core.errors import UserError
from rlhf.core.seeding import rng as seeded
from rlhf.synthetic import answers
from rlhf.synthetic.annotator import Annotator
from rlhf.synthetic.knowledge import INVENTED, things
from rlhf.synthetic.params import SyntheticParams
from rlhf.synthetic.prompts import as_prompt, draw_question, draw_unseen_question, human_turn
from rlhf.synthetic.questions import Question, parse
from rlhf.synthetic.responses import FAIR, WILD, respond

# What the pretraining corpus is made of: noisy dialogues, plain questions with right answers (without these a tiny
# model does not learn to copy names), and bare facts.
DIALOGUES, CLEAN = 0.55, 0.32

_MISSES = 5000  # draws in a row that bring nothing new: then there is nothing more


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A preference with its truth: `probability` is that of this label, under the annotator who gave it."""

    prompt: str
    chosen: str
    rejected: str
    kind: str
    probability: float


def labelled_pairs(params: SyntheticParams, seed: int) -> Iterator[LabelledPair]:
    """Make `pairs_per_prompt` pairs for each of `prompts` distinct prompts, in the order in which they were drawn.

    Raises:
        UserError: so many distinct prompts do not exist in the world.
    """
    annotator = Annotator(params.annotator_temperature, params.biases)
    for index, prompt in enumerate(_distinct_prompts(params, seed)):
        rng = seeded(seed, "synthetic pairs", index)
        question = _understood(prompt)
        for _ in range(params.pairs_per_prompt):
            first, second = _two_responses(question, rng)
            probability = annotator.prefers_first(prompt, first, second)
            if annotator.choose(probability, rng):
                yield LabelledPair(prompt, first, second, question.intent, probability)
            else:
                yield LabelledPair(prompt, second, first, question.intent, 1 - probability)


def ood_prompts(params: SyntheticParams, seed: int) -> list[tuple[str, str]]:
    """Make distinct (prompt, kind) about things that occur nowhere in training. The right answer is to admit ignorance.

    Raises:
        UserError: so many distinct prompts do not exist.
    """
    rng = seeded(seed, "synthetic ood")
    found = _distinct(
        lambda: as_prompt(human_turn(draw_unseen_question(rng), rng)), params.ood_prompts, "data.synthetic.ood_prompts"
    )
    return [(prompt, "unseen") for prompt in found]


def corpus(params: SyntheticParams, seed: int, allowed: Callable[[str], bool]) -> Iterator[str]:
    """Make pretraining documents. Dialogues only use prompts that are `allowed` (those that are not in validation or
    test)."""
    for index in range(params.corpus_documents):
        rng = seeded(seed, "synthetic corpus", index)
        kind = rng.random()
        if kind < DIALOGUES:
            yield _dialogue(params, rng, allowed)
        elif kind < DIALOGUES + CLEAN:
            question = draw_question(rng)
            yield f"{question} {answers.right(_understood(question), rng)}"
        else:
            yield _fact(rng)


def _dialogue(params: SyntheticParams, rng: random.Random, allowed: Callable[[str], bool]) -> str:
    while not allowed(prompt := _draw_prompt(params, rng)):
        pass
    return prompt + respond(_understood(prompt), WILD, rng)


def _fact(rng: random.Random) -> str:
    """Make one to three true statements about a thing; about an invented one, that it is unknown."""
    if rng.random() < 0.15:
        return answers.admission(Question("unknown", (rng.choice(INVENTED),)), rng)
    thing = rng.choice(tuple(things().values()))
    first = answers.statement(thing, "first", thing.first, rng)
    second = answers.statement(thing, "second", thing.second, rng)
    return f"{first} {second}"


def _distinct_prompts(params: SyntheticParams, seed: int) -> list[str]:
    rng = seeded(seed, "synthetic prompts")
    return _distinct(lambda: _draw_prompt(params, rng), params.prompts, "data.synthetic.prompts")


def _distinct(draw: Callable[[], str], number: int, key: str) -> list[str]:
    found: dict[str, None] = {}
    misses = 0
    while len(found) < number:
        before = len(found)
        found[draw()] = None
        misses = 0 if len(found) > before else misses + 1
        if misses == _MISSES:
            raise UserError(f"{key}: {number} distinct prompts were asked for, the world has about {len(found)}")
    return list(found)


def _draw_prompt(params: SyntheticParams, rng: random.Random) -> str:
    history = ""
    if rng.random() < params.two_turn_share:
        question = draw_question(rng)
        history = as_prompt(human_turn(question, rng)) + " " + answers.right(_understood(question), rng)
    return as_prompt(human_turn(draw_question(rng), rng), history)


def _two_responses(question: Question, rng: random.Random) -> tuple[str, str]:
    """Make two different responses, each from a careless or a decent assistant."""
    first = respond(question, rng.choice((WILD, FAIR)), rng)
    second = first
    while second == first:
        second = respond(question, rng.choice((WILD, FAIR)), rng)
    return first, second


def _understood(prompt: str) -> Question:
    question = parse(prompt)
    if question is None:
        raise AssertionError(f"the world does not understand its own prompt {prompt!r}")
    return question
