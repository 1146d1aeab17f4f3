"""Report the answers to the project's own questions: who gave them, how far they agree, and what they cost."""

from collections.abc import Mapping
from typing import Any

from rlhf.report.content import Block, Section, Table, Text
from rlhf.report.inputs import Inputs
from rlhf.report.wording import Numbers

KINDS = {
    "people": "people",
    "model": "a language model",
    "constitution": "a constitution",
    "simulated": "simulated annotators",
}


def labels(run: Inputs) -> Section | None:
    """Report them; None where the run has read none."""
    n = run.numbers
    if not n.number("prepare_labels_answers"):
        return None
    head = ("who", "annotators", "answers", "share", "right by gold")
    rows = [
        (
            said,
            *(n.show(f"prepare_labels_{what}_{kind}") for what in ("annotators", "answers", "share")),
            _right(n, kind),
        )
        for kind, said in KINDS.items()
        if n.number(f"prepare_labels_answers_{kind}")
    ]
    blocks: list[Block] = [Text(text) for text in (_bought(n, run.resolved), _agreed(n), _left_out(n))]
    return Section("labels", "Answers to this run's own questions", [*blocks, Table(head, rows, "Who answered")])


def _bought(n: Numbers, resolved: Mapping[str, Any]) -> str:
    own, report = resolved["data"]["labels"], resolved["report"]
    price = float(report["price_per_comparison"]) * (n.number("prepare_labels_answers") or 0)
    return (
        f"{n.show('prepare_labels_answers')} answers to {n.show('prepare_labels_questions')} questions were read, "
        f"up to round {own['round']}; they gave {n.show('prepare_labels_pairs')} pairs, "
        f"{n.show('prepare_labels_pairs_train')} of them to train on. At {report['price_per_comparison']:g} "
        f"{report['currency']} an answer (report.price_per_comparison), "
        f"people would have cost {price:,.0f} {report['currency']}."
    )


def _agreed(n: Numbers) -> str:
    shared = n.show("prepare_labels_comparisons_shared")
    if not n.number("prepare_labels_comparisons_shared"):
        return "No question was answered by two annotators, so nobody knows how far they agree."
    return (
        f"Two annotators or more answered {shared} questions and agreed in "
        f"{n.span('prepare_labels_annotator_agreement')} of their pairs of answers; Krippendorff's alpha is "
        f"{n.show('prepare_labels_annotator_alpha')} (1 is perfect, 0 is chance). They differ on "
        f"{n.show('prepare_labels_comparisons_disputed')} questions."
    )


def _left_out(n: Numbers) -> str:
    left = sum(int(value or 0) for name, value in n.values.items() if name.startswith("prepare_labels_left_out_"))
    return (
        f"{n.show('prepare_labels_tied')} questions ended in a tie, {n.show('prepare_labels_silent')} have no answer "
        f"but both bad or skip, and {left} lines did not count (metrics/prepare.json says why)."
    )


def _right(n: Numbers, kind: str) -> str:
    return n.span(f"prepare_labels_accuracy_{kind}")
