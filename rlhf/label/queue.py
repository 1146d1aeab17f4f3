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
    _known: dict[str, Question] = field(default_factory=dict)  # by id, in the order of the overlap's draw
    _shared: frozenset[str] = frozenset()  # ids of the overlap
    _orders: dict[str, list[str]] = field(default_factory=dict)  # of ids, by annotator

    def __post_init__(self) -> None:
        order = list(self.questions)
        rng(self.seed, "label", "overlap").shuffle(order)
        self._known = {one.id: one for one in order}
        self._shared = frozenset(list(self._known)[: self.overlap])

    def find(self, question: str) -> Question | None:
        """Find a question by its id; None where there is none."""
        return self._known.get(question)

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
        for question in self._order(annotator):
            if self._is_open(question, annotator):
                return self.turn(self._known[question], 1, annotator)
        own = [one for one in self._order(annotator) if self.has(one, 1, annotator)]
        again = sorted(own, key=lambda one: rng(self.seed, "label", "again", annotator, one).random())
        left = [one for one in again[:SECOND_LOOKS] if not self.has(one, 2, annotator)]
        return self.turn(self._known[left[0]], 2, annotator) if left else None

    def remaining(self, annotator: str) -> int:
        """Count the questions that are left for an annotator, second looks included."""
        looks = [look for _, look in self._history.get(annotator, [])]
        fresh = sum(self._is_open(one, annotator) for one in self._order(annotator))
        return fresh + max(0, min(SECOND_LOOKS, looks.count(1) + fresh) - looks.count(2))

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
        found = self.find(name)
        return None if found is None else self.turn(found, look, annotator)

    def _order(self, annotator: str) -> list[str]:
        """All questions in an annotator's order, the overlap first."""
        if annotator not in self._orders:
            ids = list(self._known)
            shared, rest = ids[: self.overlap], ids[self.overlap :]
            rng(self.seed, "label", "order", annotator).shuffle(rest)  # so that two people seldom meet
            self._orders[annotator] = shared + rest
        return self._orders[annotator]

    def _is_open(self, question: str, annotator: str) -> bool:
        """Say whether an annotator is still to answer a question: one of the overlap, or one that nobody has."""
        answers = self.answered.get((question, 1))
        if not answers:
            return True
        return annotator not in answers and question in self._shared
