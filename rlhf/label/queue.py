"""Decide which question an annotator sees next, with which reply first: by the seed alone, so that any order of kills
and restarts leads to the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlhf.core.seeding import rng
from rlhf.labels.record import Answer, Label, Question, Side

SECOND_LOOKS = 10


@dataclass(frozen=True, slots=True)
class Turn:
    """A question as it is shown: `left` is the reply (A or B) on the left."""

    question: Question
    left: Side
    look: int


@dataclass(slots=True)
class Queue:
    """What all annotators are asked. `overlap` questions go to everybody, each of the rest to one; at the end everyone
    sees SECOND_LOOKS of their own answers again."""

    questions: Sequence[Question]
    seed: int
    overlap: int
    answered: dict[tuple[str, int], dict[str, Answer]] = field(default_factory=dict)  # (question, look) -> annotator
    _history: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def take(self, label: Label) -> None:
        """Note an answer."""
        key = (label.question.id, label.look)
        history = self._history.setdefault(label.annotator, [])
        if label.answer == "undo":
            self.answered.get(key, {}).pop(label.annotator, None)
            history[:] = [one for one in history if one != key]
            return
        self.answered.setdefault(key, {})[label.annotator] = label.answer
        history.append(key)

    def has(self, question: str, look: int, annotator: str) -> bool:
        """Say whether an annotator has answered this."""
        return annotator in self.answered.get((question, look), {})

    def next(self, annotator: str) -> Turn | None:
        """The question that comes next; None when all are answered."""
        left = self._left(annotator)
        return self.turn(*left[0], annotator) if left else None

    def remaining(self, annotator: str) -> int:
        """Count the questions that are left for an annotator, second looks included."""
        done = sum(look == 1 for _, look in self._history.get(annotator, []))
        fresh = [one for one in self._left(annotator) if one[1] == 1]
        again = [look for _, look in self._history.get(annotator, []) if look == 2]
        return len(fresh) + max(0, min(SECOND_LOOKS, done + len(fresh)) - len(again))

    def turn(self, question: Question, look: int, annotator: str) -> Turn:
        """Show a question to an annotator, sides drawn by the seed for each of both."""
        side = rng(self.seed, "label", "side", annotator, question.id, look).random()
        return Turn(question, "A" if side < 0.5 else "B", look)

    def last(self, annotator: str) -> Turn | None:
        """The turn that an annotator has answered last, which undo takes back."""
        history = self._history.get(annotator)
        if not history:
            return None
        name, look = history[-1]
        found = next((one for one in self.questions if one.id == name), None)
        return None if found is None else self.turn(found, look, annotator)

    def _left(self, annotator: str) -> list[tuple[Question, int]]:
        order = list(self.questions)
        rng(self.seed, "label", "overlap").shuffle(order)
        shared, rest = order[: self.overlap], order[self.overlap :]
        rng(self.seed, "label", "order", annotator).shuffle(rest)  # so that two people seldom meet
        fresh = [one for one in shared if not self.has(one.id, 1, annotator)]
        fresh += [one for one in rest if not self.answered.get((one.id, 1))]
        if fresh:
            return [(one, 1) for one in fresh]
        own = [one for one in self.questions if self.has(one.id, 1, annotator)]
        again = sorted(own, key=lambda one: rng(self.seed, "label", "again", annotator, one.id).random())
        return [(one, 2) for one in again[:SECOND_LOOKS] if not self.has(one.id, 2, annotator)]
