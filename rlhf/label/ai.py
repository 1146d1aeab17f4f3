"""Let a language model label pairs (RLAIF): each in both orders, resumable at any moment, within a budget.

Both orders are asked and averaged (Lee et al. 2023, arXiv 2309.00267, section 3.1). A pair whose answer turns with the
order is a near tie, however sure each answer was; how often that happens is reported.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlhf.core.errors import UserError
from rlhf.core.progress import track
from rlhf.core.stats import mean_interval, wilson
from rlhf.judge.cache import Cache, read_reply
from rlhf.judge.client import BudgetSpent, Endpoint, Malformed, Message
from rlhf.judge.completion import Reply
from rlhf.label.asking import Said, messages_for, read_answer
from rlhf.label.claim import claimed
from rlhf.labels.read import read_labels
from rlhf.labels.record import NAME, Answer, Label, Question, Side
from rlhf.labels.store import append, label_file

NEAR = 0.05  # a pair whose answer turns with the order is at most so far from a tie
MOST_OF_NO_USE = 20  # pairs in a row without an answer: after so many nothing else will come
SIDES: tuple[Side, Side] = ("A", "B")


@dataclass(slots=True)
class Annotator:
    """A language model that labels, with a name among the annotators."""

    name: str
    endpoint: Endpoint
    cache: Cache
    guidelines: str
    say: Callable[[str], None]
    masses: list[float] = field(default_factory=list)  # of 1 and 2, of the answers of this run

    def messages(self, question: Question) -> list[list[Message]]:
        """What is asked about a pair, in both orders."""
        return [messages_for(question, first, self.guidelines) for first in SIDES]

    def known(self, messages: Sequence[Message]) -> bool:
        """Say whether this was answered before."""
        return read_reply(self.cache.name(self.endpoint.params, messages, self.endpoint.logprobs)) is not None

    def label(self, question: Question) -> Label | None:
        """Ask about a pair in both orders; None where an answer names neither reply.

        Raises:
            BudgetSpent, UserError: as `Endpoint.ask`.
        """
        said = []
        for messages in self.messages(question):
            try:
                said.append(read_answer(self._ask(messages)))
            except Malformed:
                said.append(None)
            if said[-1] is None:
                return None
        return made(question, self.name, [one for one in said if one], note=self.masses.append)

    def _ask(self, messages: Sequence[Message]) -> Reply:
        try:
            return self._cached()(messages)
        except Malformed:
            if not self.endpoint.logprobs or self.masses:
                raise
        asked, self.endpoint.logprobs = self.endpoint.logprobs, 0
        try:  # some endpoints refuse a request for log-probabilities, others a number of alternatives
            reply = self._cached()(messages)
        except Malformed:
            self.endpoint.logprobs = asked
            raise
        self.say(f"note: the endpoint refuses {asked} log-probabilities a token; answers count without them")
        return reply

    def _cached(self) -> Callable[[Sequence[Message]], Reply]:
        return self.cache.asking(self.endpoint.params, self.endpoint.ask, self.endpoint.logprobs)


def made(
    question: Question, annotator: str, said: Sequence[Said], note: Callable[[float], None] = lambda mass: None
) -> Label:
    """Make a label of the answers with A shown first and with B shown first."""
    a_first, b_first = said[0].first, 1 - said[1].first
    masses = [one.mass for one in said if one.mass is not None]
    for mass in masses:
        note(mass)
    soft = (a_first + b_first) / 2
    if turned(a_first, b_first):
        soft = min(max(soft, 0.5 - NEAR), 0.5 + NEAR)
    answer: Answer = "tie" if turned(a_first, b_first) or soft == 0.5 else "A" if soft > 0.5 else "B"
    return Label(
        **question.model_dump(include=set(Question.model_fields)),
        answer=answer,
        annotator=annotator,
        kind="model",
        soft=soft if len(masses) == 2 else None,
        first="A",
        soft_a_first=a_first,
        soft_b_first=b_first,
    )


def turned(a_first: float, b_first: float) -> bool:
    """Say whether the preferred reply changed with the order."""
    return (a_first - 0.5) * (b_first - 0.5) < 0


def annotator_name(model: str) -> str:
    """Make an annotator's name of a model's: other models, other names. What no name may hold becomes -, and then six
    digits of the SHA-256 tell apart what would be alike."""
    bare = re.sub(r"[^A-Za-z0-9_-]+", "-", model).strip("-_")
    if bare == model and NAME.fullmatch(model):
        return model
    return f"{bare[:33]}-{hashlib.sha256(model.encode()).hexdigest()[:6]}".lstrip("-_")


@dataclass(frozen=True, slots=True)
class Done:
    """What a run of `label_pairs` has come to."""

    labels: list[Label]  # of all pairs asked for, of this run and earlier ones
    pairs: int
    of_no_use: int  # pairs of this run with an answer that names neither reply, or that is no chat completion
    unasked: int  # pairs that the budget had no room for

    def metrics(self) -> dict[str, object]:
        """Count, and measure how often the preferred reply changed with the order (`labels_ai_flips`, Wilson's
        interval) and how often the one shown first was preferred (`labels_ai_position`; .5 is fair)."""
        both = [
            (one.soft_a_first, one.soft_b_first)
            for one in self.labels
            if one.soft_a_first is not None and one.soft_b_first is not None
        ]
        found: dict[str, object] = {
            "labels_ai_pairs": self.pairs,
            "labels_ai_labelled": len(self.labels),
            "labels_ai_soft": sum(one.soft is not None for one in self.labels),
            "labels_ai_of_no_use": self.of_no_use,
            "labels_ai_unasked": self.unasked,
        }
        if not both:
            return found | {"labels_ai_flips": None, "labels_ai_position": None}
        first = [((a > 0.5) + (a >= 0.5) + (b < 0.5) + (b <= 0.5)) / 4 for a, b in both]
        return (
            found
            | wilson(sum(turned(a, b) for a, b in both), len(both)).named("labels_ai_flips")
            | mean_interval(first).named("labels_ai_position")
        )

    def lines(self, annotator: Annotator, folder: Path) -> list[str]:
        """Say what was done, what it cost and how far the answers can be trusted."""
        found, endpoint = self.metrics(), annotator.endpoint
        lines = [
            f"{label_file(folder, 'model', annotator.name)}: {len(self.labels)} of {self.pairs} pairs labelled, "
            f"{found['labels_ai_soft']} with probabilities; {self.of_no_use} without an answer, {self.unasked} "
            f"unasked; {endpoint.requests} requests, {endpoint.tokens} tokens"
        ]
        if self.unasked:
            lines.append("the budget is spent; the same command goes on with the rest")
        if self.labels:
            lines.append(
                f"flips with the order {_share(found, 'labels_ai_flips')}: near ties; first shown preferred "
                f"{_share(found, 'labels_ai_position')} (.5 is fair)"
            )
        if annotator.masses and (mass := sum(annotator.masses) / len(annotator.masses)) < 0.5:
            lines.append(
                f"note: 1 and 2 together have {mass:.0%} of the probability: the model hardly answers with them"
            )
        return lines


def _share(found: Mapping[str, object], name: str) -> str:
    value, low, high = (found[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "-"
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ({low:.2f} to {high:.2f})"


def label_pairs(questions: Sequence[Question], annotator: Annotator, folder: Path) -> Done:
    """Label each pair that this annotator has not labelled yet; every label is on disk before the next pair is asked.

    Raises:
        UserError: the endpoint fails for good, answers with neither 1 nor 2 for too long, or the disk is full; what was
            labelled stays; or another process labels under the same name.
    """
    with claimed(annotator.cache.folder, annotator.name, folder):
        return _label_pairs(questions, annotator, folder)


def _label_pairs(questions: Sequence[Question], annotator: Annotator, folder: Path) -> Done:
    have = labelled_by(annotator.name, folder)
    open_ = [one for one in questions if one.id not in have]
    of_no_use = in_a_row = 0
    unasked = 0
    with track(len(open_), "label ai", unit="pair") as bar:
        for number, question in enumerate(open_):
            try:
                label = annotator.label(question)
            except BudgetSpent:
                unasked = len(open_) - number
                break
            except UserError as error:
                raise UserError(f"{error}; {_kept(questions, annotator, folder)}") from None
            bar.update()
            if label is not None:
                append(folder, label)
                in_a_row = 0
                continue
            of_no_use, in_a_row = of_no_use + 1, in_a_row + 1
            if in_a_row == MOST_OF_NO_USE:
                raise UserError(
                    f"{annotator.endpoint.names('model')}: {annotator.endpoint.params.model}: answers with neither 1 "
                    f"nor 2 to {in_a_row} pairs in a row; a model that follows instructions is needed, and max_tokens "
                    f"that let it come to an answer; {_kept(questions, annotator, folder)}"
                )
    have = labelled_by(annotator.name, folder)
    return Done([have[one.id] for one in questions if one.id in have], len(questions), of_no_use, unasked)


def labelled_by(annotator: str, folder: Path) -> dict[str, Label]:
    """Read a model's labels, by question."""
    path = label_file(folder, "model", annotator)
    return {one.question.id: one for one in read_labels(path).answers} if path.exists() else {}


def _kept(questions: Sequence[Question], annotator: Annotator, folder: Path) -> str:
    have = labelled_by(annotator.name, folder)
    done = sum(one.id in have for one in questions)
    return f"{done} of {len(questions)} pairs are labelled and kept; the same command goes on with the rest"
