"""Say what `label ai` would cost, before anything is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf.label.ai import Annotator, labelled_by
from rlhf.labels.record import Question

BYTES_A_TOKEN = 4  # of English text, for most tokenizers


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, of questions and of answers; in the currency of whoever gives it."""

    asked: float
    answered: float


def plan(questions: Sequence[Question], annotator: Annotator, folder: Path, price: Price | None) -> str:
    """Say in one line what `label_pairs` would cost; nothing is asked."""
    have = labelled_by(annotator.name, folder)
    open_ = [one for one in questions if one.id not in have]
    new = [messages for one in open_ for messages in annotator.messages(one) if not annotator.known(messages)]
    params = annotator.endpoint.params
    asked = sum(len(part["content"].encode()) for messages in new for part in messages) / BYTES_A_TOKEN
    answered = len(new) * params.max_tokens
    told = (
        f"dry run: {len(questions)} pairs, {len(questions) - len(open_)} labelled before; {len(new)} requests "
        f"({2 * len(open_) - len(new)} answers are known), about {asked:,.0f} tokens of questions (at {BYTES_A_TOKEN} "
        f"bytes a token) and at most {answered:,} of answers"
    )
    if price:
        low, high = (asked * price.asked + n * price.answered for n in (len(new), answered))
        told += f"; price {low / 1e6:.4g} (a token an answer) to {high / 1e6:.4g}"
    needed = len(new) > params.budget_requests or asked > params.budget_tokens
    held = "ends before that" if needed else "allows it"
    return f"{told}; the budget of {params.budget_requests:,} requests and {params.budget_tokens:,} tokens {held}"
