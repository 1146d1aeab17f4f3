"""Make prompts: a question in words, a greeting or an ending around it, sometimes an earlier turn before it."""

import random
from dataclasses import dataclass
from functools import cache

from rlhf.synthetic.knowledge import (
    INVENTED,
    UNSEEN_INVENTED,
    UNSEEN_NAMES,
    UNSEEN_TASKS,
    how_tos,
    of_sort,
    with_article,
)
from rlhf.synthetic.questions import ASSISTANT, ENDINGS, GREETINGS, HUMAN, NUMBERS, Form, forms, list_values

# How often each family of questions is asked. `unknown` is a question of another family about an invented thing.
SHARES = {"lookup": 0.40, "list": 0.12, "compare": 0.14, "how_to": 0.16, "unknown": 0.18}


@dataclass(frozen=True, slots=True)
class Turn:
    """A question as asked: the sentence itself, and the human turn with greeting and ending around it."""

    question: str
    text: str


def draw_question(rng: random.Random) -> str:
    """Draw one question of the training distribution."""
    (family,) = rng.choices(tuple(SHARES), tuple(SHARES.values()))
    if family != "unknown":
        return _known(rng.choice(_forms_of(family)), rng)
    if rng.random() < 0.15:
        return rng.choice(_forms_of("how_to")).template.format(f"repair {with_article(rng.choice(INVENTED))}")
    return _about(rng.choice(INVENTED), rng)


def draw_unseen_question(rng: random.Random) -> str:
    """Draw one question about something that occurs nowhere in training."""
    if rng.random() < 0.15:
        return rng.choice(_forms_of("how_to")).template.format(rng.choice(UNSEEN_TASKS))
    return _about(rng.choice(UNSEEN_INVENTED + UNSEEN_NAMES), rng)


def human_turn(question: str, rng: random.Random) -> str:
    """Put, now and then, a greeting before a question and an ending after it."""
    return f"{rng.choice(GREETINGS)}{question}{rng.choice(ENDINGS)}"


def as_prompt(turn: str, history: str = "") -> str:
    """Put a turn into the HH form: everything up to and including the last assistant marker."""
    return f"{history}{HUMAN} {turn}{ASSISTANT}"


def _known(form: Form, rng: random.Random) -> str:
    if form.family == "how_to":
        return form.template.format(rng.choice(tuple(how_tos())))
    if form.family == "list":
        return form.template.format(rng.choice(tuple(NUMBERS)), rng.choice(list_values(form.sort, form.slot)))
    gaps = form.template.count("{}")
    return form.template.format(*(thing.noun for thing in rng.sample(of_sort(form.sort), gaps)))


def _about(name: str, rng: random.Random) -> str:
    """Make a look-up or, less often, a comparison with a known thing. A name with a capital is asked about as a
    city."""
    family = "compare" if rng.random() < 0.25 else "lookup"
    form = rng.choice([form for form in _forms_of(family) if (form.sort == "city") == name[0].isupper()])
    nouns = [with_article(name)]
    if family == "compare":
        nouns.append(rng.choice(of_sort(form.sort)).noun)
        rng.shuffle(nouns)
    return form.template.format(*nouns)


@cache
def _forms_of(family: str) -> tuple[Form, ...]:
    return tuple(form for form in forms() if form.family == family)
