"""What the page does, without the web: questions, answers on disk, undo, progress and the time that is left."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import cast, get_args

from rlhf.core.errors import UserError
from rlhf.label.queue import Queue, Turn
from rlhf.labels.read import read_labels
from rlhf.labels.record import NAME, Answer, Label, Question
from rlhf.labels.store import append

IDLE_S = 300.0  # a longer pause between two answers is a break, and no measure of pace


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an annotator is."""

    done: int
    left: int
    minutes: float | None  # that the rest takes at the pace so far; None before there is one


@dataclass(slots=True)
class Session:
    """All annotators of one page. Every answer is on disk before `answer` returns."""

    queue: Queue
    folder: Path
    now: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _times: dict[str, list[float]] = field(default_factory=dict)
    _done: dict[str, int] = field(default_factory=dict)

    @classmethod
    def start(cls, questions: Sequence[Question], folder: Path, *, seed: int, overlap: int) -> "Session":
        """Go on where `folder` left off.

        Raises:
            UserError: there are no questions, one stands there twice, or as `read_labels`.
        """
        if not questions:
            raise UserError("label: no pairs to ask about; at least one is needed")
        ids = [one.id for one in questions]
        if len(set(ids)) < len(ids):
            twice = questions[next(k for k, one in enumerate(ids) if one in ids[:k])]
            raise UserError(f"label: the pair of the prompt {twice.prompt!r:.60} stands among the pairs twice")
        session = cls(Queue(questions, seed, overlap), folder)
        if folder.exists():
            for label in read_labels(folder, asked=set(ids)).answers:
                if label.kind == "people":
                    session._note(label)
        return session

    def next(self, annotator: str) -> Turn | None:
        """Find what comes next; None when all is answered."""
        with self._lock:
            return self.queue.next(annotator)

    def answer(self, annotator: str, question: str, look: int, said: str) -> bool:
        """Write an answer: `left`, `right`, `tie`, `both_bad` or `skip`. False where this was answered before (a second
        window, a double click): nothing is written then.

        Raises:
            UserError: the question was not asked, or the answer or the name is none; or the disk is full.
        """
        asked = self.queue.find(question)
        if asked is None or look not in (1, 2):
            raise UserError("label: this question was not asked")
        check_name(annotator)
        turn = self.queue.turn(asked, look, annotator)
        sides = {"left": turn.left, "right": "B" if turn.left == "A" else "A"}
        answer = sides.get(said, said)
        if answer not in get_args(Answer) or answer == "undo" or said in ("A", "B"):
            raise UserError(f"label: answer: found {said!r:.40}; allowed are left, right, tie, both_bad, skip")
        with self._lock:
            if self.queue.has(question, look, annotator):
                return False
            self._write(annotator, turn, cast(Answer, answer))
        return True

    def undo(self, annotator: str) -> bool:
        """Take an annotator's last answer back; False where there is none."""
        with self._lock:
            turn = self.queue.last(annotator)
            if turn is None:
                return False
            self._write(annotator, turn, "undo")
        return True

    def progress(self, annotator: str) -> Progress:
        """Count what is done and left."""
        with self._lock:
            left, times = self.queue.remaining(annotator), self._times.get(annotator, [])
            steps = [b - a for a, b in pairwise(times) if b - a < IDLE_S]
            pace = statistics.median(steps) / 60 if len(steps) >= 3 else None
            return Progress(self._done.get(annotator, 0), left, None if pace is None else pace * left)

    def _write(self, annotator: str, turn: Turn, answer: Answer) -> None:
        label = Label(
            **turn.question.model_dump(include=set(Question.model_fields)),
            answer=answer,
            annotator=annotator,
            kind="people",
            first=turn.left,
            look=turn.look,
        )
        append(self.folder, label)  # first: what is not on disk was not said
        self._note(label)
        self._times.setdefault(annotator, []).append(self.now())

    def _note(self, label: Label) -> None:
        self.queue.take(label)
        self._done[label.annotator] = self._done.get(label.annotator, 0) + (-1 if label.answer == "undo" else 1)


def check_name(annotator: str) -> None:
    """Raise UserError unless this is an annotator's name."""
    if not NAME.fullmatch(annotator):
        raise UserError(f"label: annotator {annotator!r:.60}: letters, digits, - and _ only, at most 40")
