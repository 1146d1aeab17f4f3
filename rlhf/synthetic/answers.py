"""Make statements that answer a question: the right one, a wrong one of the same form, one about something else."""

import random

from rlhf.synthetic.knowledge import Sort, Thing, how_tos, of_sort, things, values, with_article
from rlhf.synthetic.phrases import ADMISSIONS
from rlhf.synthetic.questions import Question, Slot, members

# {noun} is the thing, {value} the property.
STATEMENTS: dict[tuple[Sort, Slot], tuple[str, ...]] = {
    ("animal", "first"): ("{noun} eats {value}.", "The food of {noun} is {value}."),
    ("animal", "second"): ("{noun} lives {value}.", "The home of {noun} is {value}."),
    ("food", "first"): ("{noun} is {value}.", "The colour of {noun} is {value}."),
    ("food", "second"): ("{noun} tastes {value}.", "The taste of {noun} is {value}."),
    ("city", "first"): ("{noun} is in {value}.", "The country of {noun} is {value}."),
    ("city", "second"): ("The {value} runs through {noun}.", "The river of {noun} is the {value}."),
}
COMPARATIVES: dict[Sort, str] = {"animal": "heavier", "food": "sweeter", "city": "larger"}


def right(question: Question, rng: random.Random) -> str:
    """Make a correct answer; about what the world does not hold, it admits ignorance."""
    if question.intent == "unknown":
        return admission(question, rng)
    if question.intent == "how_to":
        return steps_sentence(*question.steps)
    if question.intent == "list":
        return list_sentence(rng.sample(members(question.sort, question.slot, question.value), question.number))
    if question.intent == "compare":
        return comparison(question, *sorted(question.things, key=lambda thing: -thing.amount))
    (thing,) = question.things
    return statement(thing, question.slot, getattr(thing, question.slot), rng)


def wrong(question: Question, rng: random.Random) -> str:
    """Make a false answer of the right form."""
    if question.intent == "unknown":
        sort: Sort = "city" if question.subjects[0][0].isupper() else "animal"
        noun = with_article(question.subjects[0])
        return _filled(STATEMENTS[sort, "first"][0], noun, rng.choice(values(sort, "first")))
    if question.intent == "how_to":
        others = [how_to.steps for how_to in how_tos().values() if how_to.steps != question.steps]
        return steps_sentence(rng.choice(others)[0], rng.choice(others)[1], rng.choice(others)[2])
    if question.intent == "list":
        good = members(question.sort, question.slot, question.value)
        others_named = [thing.name for thing in of_sort(question.sort) if thing.name not in good]
        return list_sentence(rng.sample(others_named, question.number))
    if question.intent == "compare":
        return comparison(question, *sorted(question.things, key=lambda thing: thing.amount))
    (thing,) = question.things
    truth = getattr(thing, question.slot)
    false = [value for value in values(thing.sort, question.slot) if value != truth]
    return statement(thing, question.slot, rng.choice(false), rng)


def off_topic(question: Question, rng: random.Random) -> str:
    """Make a true statement about a thing that was not asked about."""
    thing = rng.choice([thing for thing in things().values() if thing.name not in question.subjects])
    slot: Slot = rng.choice(("first", "second"))
    return statement(thing, slot, getattr(thing, slot), rng)


def admission(question: Question, rng: random.Random) -> str:
    """Admit ignorance; right only where the world does not know either."""
    subject = question.subjects[0] if question.subjects else "that"
    if question.intent == "how_to" or " " in subject or subject == "that":
        return rng.choice(ADMISSIONS).format("how to " + subject if " " in subject else subject)
    return rng.choice(ADMISSIONS).format(with_article(subject))


def statement(thing: Thing, slot: Slot, value: str, rng: random.Random) -> str:
    """State that a thing has a property, true or not, in one of its two wordings."""
    return _filled(rng.choice(STATEMENTS[thing.sort, slot]), thing.noun, value)


def comparison(question: Question, more: Thing, less: Thing) -> str:
    """State that one thing is heavier, sweeter or larger than the other."""
    return _filled(f"{{noun}} is {COMPARATIVES[question.sort]} than {less.noun}.", more.noun, "")


def list_sentence(names: list[str]) -> str:
    """Join names to a list: A cow, a pig and a goat."""
    nouns = [with_article(name) for name in names]
    text = f"{', '.join(nouns[:-1])} and {nouns[-1]}."
    return text[0].upper() + text[1:]


def steps_sentence(first: str, second: str, third: str) -> str:
    """Join the steps of a how-to."""
    return f"First {first}, then {second}, and last {third}."


def _filled(template: str, noun: str, value: str) -> str:
    text = template.format(noun=noun, value=value)
    return text[0].upper() + text[1:]
