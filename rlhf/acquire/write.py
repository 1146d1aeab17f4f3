"""Write the questions to ask next. Light: no torch."""

from collections.abc import Sequence

from rlhf.core.artifacts import write_jsonl
from rlhf.core.layout import Layout
from rlhf.labels.record import Question


def write_questions(at: Layout, questions: Sequence[Question]) -> None:
    """Write artifacts/acquire/pairs.jsonl, which `python -m stages.label serve` asks about; none where acquire is
    off."""
    write_jsonl(at.acquire, (question.model_dump() for question in questions))
