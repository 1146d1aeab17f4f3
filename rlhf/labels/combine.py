"""Make one preference of all answers to a question."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rlhf.core.stats import wilson
from rlhf.labels.record import Answer, Label, Question

VALUES: dict[Answer, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}


@dataclass(frozen=True, slots=True)
class Preference:
    """What the annotators of one question say together."""

    question: Question
    target: float  # mean over annotators: 1 for A, one half for a tie, 0 for B; a soft answer is its probability
    answers: int

    @property
    def winner(self) -> str | None:
        """A or B; None where nobody is ahead."""
        return None if self.target == 0.5 else "A" if self.target > 0.5 else "B"


@dataclass(frozen=True, slots=True)
class Combined:
    """All preferences, and the answers that say nothing about which reply is better."""

    preferences: list[Preference]
    counts: dict[str, int]  # both_bad, skip: answers; silent: questions that have no others


def combine(labels: Iterable[Label]) -> Combined:
    """Average the first looks at each question over annotators; second looks measure annotators, not replies."""
    by_question: dict[str, list[Label]] = {}
    for label in labels:
        if label.look == 1:
            by_question.setdefault(label.question.id, []).append(label)
    counts, preferences = {"both_bad": 0, "skip": 0, "silent": 0}, []
    for answers in by_question.values():
        values = [_value(one) for one in answers if one.answer in VALUES]
        for name in ("both_bad", "skip"):
            counts[name] += sum(one.answer == name for one in answers)
        if values:
            preferences.append(Preference(answers[0].question, sum(values) / len(values), len(values)))
        else:
            counts["silent"] += 1
    return Combined(preferences, counts)


def self_agreement(labels: Sequence[Label]) -> dict[str, object]:
    """Measure how often annotators say the same of a question when they see it again, with Wilson's interval:
    `labels_self_agreement`, its ends, and `labels_second_looks`."""
    first = {(one.kind, one.annotator, one.question.id): one.answer for one in labels if one.look == 1}
    again = [one for one in labels if one.look == 2 and (one.kind, one.annotator, one.question.id) in first]
    if not again:
        return {"labels_second_looks": 0, "labels_self_agreement": None}
    same = sum(first[one.kind, one.annotator, one.question.id] == one.answer for one in again)
    found: dict[str, object] = {"labels_second_looks": len(again)}
    return found | wilson(same, len(again)).named("labels_self_agreement")


def _value(label: Label) -> float:
    return VALUES[label.answer] if label.soft is None else label.soft
