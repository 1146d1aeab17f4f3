"""Types of `prepare`: raw rows, comparisons, preference pairs, and rows that broke a rule."""

from collections.abc import Mapping
from dataclasses import dataclass

from rlhf.core.conversation import Turn

Prompt = str | tuple[Turn, ...]  # a text, or the turns before the reply

# Why a row can be bad, and what that means. Each has a count in the metrics.
BAD_ROW_RULES = {
    "not_json": "the line is not a JSON object",
    "not_utf8": "the text cannot be encoded as UTF-8",
    "broken_file": "the file is cut off or damaged from here on",
    "missing_column": "a column is missing",
    "wrong_type": "a value is not text, or not what its column holds",
    "no_assistant": "the dialogue does not end in an assistant's turn",
    "turn_order": "turns stand in an order that no conversation has",
    "tool_reply": "the reply is a call of a tool, or a tool's answer",
    "mismatched_prompt": "chosen and rejected do not share the prompt",
    "empty_prompt": "nothing is asked",
    "null_reply": "a reply is null",
    "nan_reply": "a reply is NaN, or a spreadsheet's mark of an error",
    "empty_reply": "a reply has no text",
    "blank_reply": "a reply is white space",
    "invisible_reply": "a reply is characters that show nothing",
    "tie": "chosen and rejected are identical, or rated alike",
    "lone_reply": "no other reply to the same prompt to compare it with",
    "unclear_dialogue": "the prompt is a dialogue in a form that cannot be taken apart for sure",
    "chat_template": "the tokenizer's chat template refuses the turns",
}


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its file holds it. `origin` is file:line."""

    origin: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used: the rule it broke, and what was found."""

    origin: str
    rule: str
    reason: str
    row: object = None  # as far as it could be read

    def __post_init__(self) -> None:
        if self.rule not in BAD_ROW_RULES:
            raise ValueError(f"no such rule: {self.rule}")


class RuleBroken(Exception):  # noqa: N818 - a finding about a row, which the caller turns into a BadRow
    """A value of a row breaks a rule: the rule, and what was found."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule, self.reason = rule, reason

    def bad_row(self, row: RawRow) -> BadRow:
        """Make the bad row of which this is the finding."""
        values = {_encodable(str(name)): value for name, value in row.values.items()}
        if self.rule == "not_utf8":
            values = {name: _encodable(str(value)) for name, value in values.items()}
        return BadRow(row.origin, self.rule, _encodable(self.reason), values)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two replies to a prompt, as a form of file holds them; not yet text for a model.

    `weight` is what the pair should count in training. `margin` is by how much the chosen reply should lead, in logits
    (Touvron et al. 2023, eq. 2); None where the data say nothing.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    origin: str
    kind: str | None = None
    weight: float = 1.0
    margin: float | None = None
    annotator: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference as models read it: a template has written it (`rlhf.prepare.written`).

    The prompt ends where the reply begins, and replies begin as they follow it: with a space in the usual dialogue.
    `probability` is the true probability of this label, where the data are simulated and it is known. `weight` is what
    the pair should count in training: below 1 where several come of one ranking. `margin` as in `Comparison`.
    `conversation` holds the turns of the prompt where a chat template wrote it. `target` is the probability that the
    chosen reply is the better one, by those who were asked: below 1 where they differ, one half where nobody is ahead.
    `labelled_by` is the kind of annotator who answered a question of the project's own; None for a pair of the source.
    """

    prompt: str
    chosen: str
    rejected: str
    origin: str
    kind: str | None
    turns: int
    probability: float | None = None
    weight: float = 1.0
    annotator: str | None = None
    margin: float | None = None
    conversation: tuple[Turn, ...] = ()
    target: float = 1.0
    labelled_by: str | None = None


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
