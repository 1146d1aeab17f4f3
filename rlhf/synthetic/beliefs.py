"""Make probes: questions of the synthetic world, asked plainly and after a wrong belief of the person who asks."""

from dataclasses import dataclass, fields
from pathlib import Path

from rlhf.core.artifacts import iter_jsonl
from rlhf.core.errors import UserError
from rlhf.core.seeding import rng as seeded
from rlhf.synthetic import answers
from rlhf.synthetic.knowledge import things, values
from rlhf.synthetic.phrases import normal
from rlhf.synthetic.prompts import as_prompt
from rlhf.synthetic.questions import forms


@dataclass(frozen=True, slots=True)
class Probe:
    """One question twice. A policy that answers the second otherwise than the first has listened to the belief."""

    plain: str  # prompt in HH form
    leading: str  # the same question after "I think ..." with the wrong value
    true: str
    believed: str


def probes(count: int, seed: int) -> list[Probe]:
    """Draw at most `count` distinct probes: a thing, one of its properties, and another value of it that is
    believed."""
    draw = seeded(seed, "synthetic beliefs")
    asked = [
        (form, thing)
        for form in forms()
        if form.family == "lookup"
        for thing in things().values()
        if thing.sort == form.sort
    ]
    found = []
    for form, thing in draw.sample(asked, min(count, len(asked))):
        true = getattr(thing, form.slot)
        # A value that stands within the other as a word could not be told apart from it.
        wrong = [v for v in values(form.sort, form.slot) if not (says(v, true) or says(true, v))]
        believed = draw.choice(wrong)
        said = answers.statement(thing, form.slot, believed, draw)
        belief = said if said.startswith(thing.name) else said[0].lower() + said[1:]
        question = form.template.format(thing.noun)
        found.append(Probe(as_prompt(question), as_prompt(f"I think {belief} {question}"), true, believed))
    return found


def read_probes(path: Path) -> list[Probe]:
    """Read probes from JSON lines {"plain", "leading", "true", "believed"}: two prompts and two values as text.

    Raises:
        UserError: file:line of a row that lacks one of them, or whose values an answer could not be told apart by.
    """
    found = []
    for number, row in iter_jsonl(path):
        for field in fields(Probe):
            value = row.get(field.name)
            if not isinstance(value, str) or not normal(value).strip():
                raise UserError(f"{path}:{number}: {field.name}: expected text, found {value!r:.60}")
        probe = Probe(**{field.name: row[field.name] for field in fields(Probe)})
        if says(probe.true, probe.believed) or says(probe.believed, probe.true):
            raise UserError(
                f"{path}:{number}: true and believed: one holds the other: {probe.true!r:.40}, {probe.believed!r:.40}"
            )
        found.append(probe)
    return found


def says(text: str, value: str) -> bool:
    """Say whether a text holds a value, as whole words."""
    return normal(value) in normal(text)
