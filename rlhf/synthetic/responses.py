"""Make candidate responses of mixed quality, as a careless and a decent assistant would give them."""

import random
from dataclasses import dataclass

from rlhf.synthetic import answers
from rlhf.synthetic.phrases import CLOSERS, EVASIONS, FILLERS, FLATTERY, INSULTS, OPENERS
from rlhf.synthetic.questions import Question


@dataclass(frozen=True, slots=True)
class Mixture:
    """The behaviour of a kind of assistant. Shares of the core sum to 1; the rest are probabilities of their own."""

    right: float
    wrong: float
    off_topic: float
    evasive: float
    rude: float
    opener: float
    closer: float
    repeat: float  # of one more courtesy
    filler: float  # of each further sentence of padding
    flattery: float
    stub: float  # courtesy alone, without an answer
    cut: float  # the text ends in the middle of a sentence


WILD = Mixture(
    right=0.42, wrong=0.20, off_topic=0.12, evasive=0.12, rude=0.14,
    opener=0.40, closer=0.25, repeat=0.08, filler=0.38, flattery=0.08, stub=0.10, cut=0.05,
)  # fmt: skip
FAIR = Mixture(
    right=0.62, wrong=0.16, off_topic=0.08, evasive=0.08, rude=0.06,
    opener=0.55, closer=0.35, repeat=0.08, filler=0.30, flattery=0.06, stub=0.10, cut=0.04,
)  # fmt: skip


def respond(question: Question, mixture: Mixture, rng: random.Random) -> str:
    """Make one response in HH form: it begins with a space."""
    courtesy = [rng.choice(OPENERS)] if rng.random() < mixture.opener else []
    if rng.random() < mixture.repeat:
        courtesy.append(rng.choice(OPENERS))
    closing = [rng.choice(CLOSERS)] if rng.random() < mixture.closer else []
    if rng.random() < mixture.stub:
        return " " + " ".join(courtesy or closing or [rng.choice(OPENERS)])
    if rng.random() < mixture.flattery:
        courtesy.append(rng.choice(FLATTERY))
    body = _core(question, mixture, rng)
    while len(body) < 4 and rng.random() < mixture.filler:
        body.insert(rng.randint(0, len(body)), rng.choice(FILLERS))
    text = " ".join(courtesy + body + closing)
    return " " + (_cut(text, rng) if rng.random() < mixture.cut else text)


def _core(question: Question, mixture: Mixture, rng: random.Random) -> list[str]:
    kinds = ("right", "wrong", "off_topic", "evasive", "rude")
    (kind,) = rng.choices(kinds, [getattr(mixture, kind) for kind in kinds])
    if kind == "right":
        return [answers.right(question, rng)]
    if kind == "wrong":
        return [answers.wrong(question, rng)]
    if kind == "off_topic":
        return [answers.off_topic(question, rng)]
    if kind == "evasive":
        evades = question.intent == "unknown" or rng.random() < 0.5
        return [rng.choice(EVASIONS) if evades else answers.admission(question, rng)]
    insult = rng.choice(INSULTS)
    if rng.random() < 0.5:
        return [insult]
    return [insult, answers.right(question, rng)]


def _cut(text: str, rng: random.Random) -> str:
    """Cut a text at a word's end and drop its last sentence's mark."""
    parts = text.split(" ")
    keep = rng.randint(max(1, len(parts) // 3), max(1, len(parts) - 1))
    return " ".join(parts[:keep]).rstrip(".!?,")
