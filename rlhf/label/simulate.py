"""Have simulated annotators of the offline task answer the questions of a queue, through the files that people use."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rlhf.core.seeding import rng
from rlhf.labels.read import read_labels
from rlhf.labels.record import Answer, Label, Question
from rlhf.labels.store import append, label_file
from rlhf.synthetic.annotator import Annotator

KIND: Final = "simulated"


@dataclass(frozen=True, slots=True)
class Person:
    """A simulated annotator. `tie_band`: a probability within it of one half is answered with a tie."""

    name: str
    annotator: Annotator
    tie_band: float = 0.0

    def answer(self, question: Question, seed: int) -> Answer:
        """Answer a question: Bradley-Terry in gold, with the annotator's noise and biases. A question's draw depends on
        nothing but the seed, the name and the question, so that any order gives the same answers."""
        probability = self.annotator.prefers_first(question.prompt, question.a, question.b)
        if abs(probability - 0.5) < self.tie_band:
            return "tie"
        draw = rng(seed, "label", KIND, self.name, question.id)
        return "A" if self.annotator.choose(probability, draw) else "B"


def simulate(questions: Sequence[Question], folder: Path, people: Sequence[Person], *, seed: int) -> int:
    """Append the answers of each person that are not in `folder` yet, and return their number. Killed at any moment,
    the same call goes on.

    Raises:
        UserError: as `read_labels` and `append`; a name that is none.
    """
    given = 0
    for person in people:
        path = label_file(folder, KIND, person.name)
        done = {one.question.id for one in read_labels(path).answers} if path.exists() else set()
        for question in questions:
            if question.id not in done:
                append(folder, _label(question, person, seed))
                given += 1
    return given


def _label(question: Question, person: Person, seed: int) -> Label:
    first = rng(seed, "label", "side", person.name, question.id).random() < 0.5
    return Label(
        **question.model_dump(include=set(Question.model_fields)),
        answer=person.answer(question, seed),
        annotator=person.name,
        kind=KIND,
        first="A" if first else "B",
    )
