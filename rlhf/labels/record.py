"""One answer to one question: which of two replies to a prompt is better."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rlhf.core.params import Section

Answer = Literal["A", "B", "tie", "both_bad", "skip", "undo"]
Kind = Literal["people", "model", "constitution", "simulated"]
Side = Literal["A", "B"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
NAME_RULE = "letters, digits, - and _, at most 40, the first a letter or a digit"
CHECK = "check"
BOTH_ORDERS = ("soft_a_first", "soft_b_first")  # only of models; nobody else's lines hold them


class Question(Section):
    """Two replies to a prompt, which an annotator is asked to compare."""

    prompt: str = Field(min_length=1)
    a: str
    b: str
    policy_a: str = ""  # which policy wrote it; empty where nobody knows
    policy_b: str = ""
    round: int = Field(default=0, ge=0)

    @property
    def id(self) -> str:
        """Sixteen hex digits of the SHA-256 of prompt and replies: another word is another question."""
        texts = "\0".join((self.prompt, self.a, self.b))
        return hashlib.sha256(texts.encode("utf-8", "replace")).hexdigest()[:16]


class Label(Section):
    """A line of inputs/labels/*.jsonl. `undo` takes the same annotator's last answer to the same question back."""

    prompt: str = Field(min_length=1)
    a: str
    b: str
    policy_a: str
    policy_b: str
    round: int = Field(ge=0)
    answer: Answer
    annotator: str
    kind: Kind
    soft: float | None = Field(default=None, ge=0, le=1)  # probability that A is better, where the annotator gives one
    first: Side  # the reply that was shown first
    look: int = Field(default=1, ge=1, le=2)  # 2: the same question to the same annotator again
    soft_a_first: float | None = Field(default=None, ge=0, le=1)  # `soft` with A shown first, of a model asked in both
    soft_b_first: float | None = Field(default=None, ge=0, le=1)  # orders, and with B shown first

    @field_validator("annotator")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if not NAME.fullmatch(name):
            raise ValueError(f"an annotator's name has {NAME_RULE}")
        return name

    @model_validator(mode="after")
    def _soft_agrees(self) -> "Label":
        said = {"A": 1.0, "B": 0.0}.get(self.answer)
        if said is not None and self.soft is not None and abs(self.soft - said) > 0.5:
            raise ValueError(
                f"soft: found {self.soft:g}, the probability that A is better, with the answer {self.answer}"
            )
        return self

    @property
    def question(self) -> Question:
        """What was asked."""
        return Question(
            prompt=self.prompt, a=self.a, b=self.b, policy_a=self.policy_a, policy_b=self.policy_b, round=self.round
        )


def line_of(label: Label) -> str:
    """Format a label as a line of JSON that holds a check sum of the rest, so that an edit by hand is seen."""
    dumped = label.model_dump(mode="json")
    values = {name: value for name, value in dumped.items() if name not in BOTH_ORDERS or value is not None}
    return json.dumps(values | {CHECK: check_sum(values)}, ensure_ascii=True) + "\n"


def check_sum(values: Mapping[str, Any]) -> str:
    """Hash a line's values but for the sum itself: 12 hex digits."""
    counted = {name: v for name, v in values.items() if name != CHECK and (name not in BOTH_ORDERS or v is not None)}
    held = json.dumps(counted, sort_keys=True)
    return hashlib.sha256(held.encode()).hexdigest()[:12]
